"""The first training batch of a run that does not exist yet, see `jobs/batch_preview.py`."""

import torch

from trainingapp.contract.run_directory import PREVIEW_FILE, RunSpec
from trainingapp.engine.data.drawing import contact_sheet
from trainingapp.engine.tasks.registry import make_task, read_dataset


def draw_preview(spec: RunSpec) -> None:
    """Write RUN_DIR/batch.webp: the first batch of the first epoch as the model sees it. Raises EngineError."""
    torch.set_num_threads(1)  # runs that train on this machine have priority
    task = make_task(spec, read_dataset(spec), torch.device("cpu"))
    images = task.draw_batch(next(task.train_batches(1, skip=0)))
    temporary = spec.run_dir / f"{PREVIEW_FILE}.tmp"
    contact_sheet(images).save(temporary, "WEBP", quality=85, method=2)
    temporary.replace(spec.run_dir / PREVIEW_FILE)
