"""Doing jobs: `python -m trainingapp.engine --job FOLDER` does one; `--jobs` serves, its models staying warm.

With `--jobs` each line of standard input is {"folder": ...}; after IDLE_S without one, or at its end, the process ends.
"""

import importlib
import json
import logging
import select
import sys
from pathlib import Path

from trainingapp.contract.errors import BadConfig, classify
from trainingapp.contract.job_request import ERROR_FILE, RESULT_FILE, read_job, write_failure, write_whole
from trainingapp.contract.messages.engine_jobs import JOB_KIND_UNKNOWN
from trainingapp.engine.control import LineReader

logger = logging.getLogger("trainingapp.engine")

#: The module of each kind of job; its `run(request)` returns the result, a JSON object.
MODULES: dict[str, str] = {
    "batch_preview": "trainingapp.engine.jobs.batch_preview",
    "check_weights": "trainingapp.engine.jobs.check_weights",
    "export": "trainingapp.engine.jobs.export",
    "predict": "trainingapp.engine.jobs.predict",
    "predict_many": "trainingapp.engine.jobs.predict_many",
    "preflight": "trainingapp.engine.jobs.preflight",
    "save_weights": "trainingapp.engine.jobs.save_weights",
}
IDLE_S = 120.0


def do_job(folder: Path) -> bool:
    """Carry out the job in `folder` and write its result or its error; returns whether it succeeded.

    This is the one place where every error of a job is caught: each must be reported.
    """
    try:
        request = read_job(folder)
        if request.kind not in MODULES:
            raise BadConfig(JOB_KIND_UNKNOWN(kind=request.kind))
        module = importlib.import_module(MODULES[request.kind])
        write_whole(folder / RESULT_FILE, module.run(request))
    except Exception as error:
        logger.exception("The job in %s failed.", folder)
        write_failure(folder, classify(error))
        return False
    return True


def serve_jobs(lines: LineReader) -> None:
    """Do the jobs that standard input names until none comes for a while."""
    while select.select([sys.stdin.fileno()], [], [], IDLE_S)[0]:
        line = lines.read_line()
        if line is None:
            return
        folder = Path(json.loads(line)["folder"])
        if not (folder / RESULT_FILE).exists() and not (folder / ERROR_FILE).exists():
            do_job(folder)
