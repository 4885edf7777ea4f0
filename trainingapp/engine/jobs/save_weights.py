"""A checkpoint becomes an entry of the library: params {"card", "checkpoint": path}."""

from pathlib import Path

from trainingapp.contract.job_request import JobRequest
from trainingapp.contract.messages.engine_jobs import WRITING_WEIGHTS
from trainingapp.engine.model_files import MadeFile, take_checkpoint


def run(request: JobRequest) -> MadeFile:
    request.report(0, 1, WRITING_WEIGHTS())
    found = take_checkpoint(request.params["card"], Path(request.params["checkpoint"]), request.folder)
    request.report(1, 1)
    return found
