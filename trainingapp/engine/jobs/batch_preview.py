"""The first training batch of a run that does not exist yet: params {"config": a RunConfig, "dataset_dir": path}.

Written is FOLDER/batch.webp; the result is {"file": "batch.webp"}.
"""

from trainingapp.contract.job_request import JobRequest
from trainingapp.contract.run_directory import PREVIEW_FILE, read_run_spec
from trainingapp.engine import waiting
from trainingapp.engine.preview import draw_preview


def run(request: JobRequest) -> dict[str, str]:
    waiting.IDLE_TEAM.gather()  # a run may be training on these cores
    # Drawn without the file that the run starts from, which does not change its batches, and in this process.
    config = {**request.params["config"], "start_from": "", "num_workers": 0}
    draw_preview(read_run_spec(request.folder, {**request.params, "config": config, "attempt": 0}))
    return {"file": PREVIEW_FILE}
