"""An uploaded file becomes an entry of the library: params {"card", "file": name in the job's folder}."""

from trainingapp.contract.job_request import JobRequest
from trainingapp.contract.messages.engine_jobs import READING_WEIGHTS
from trainingapp.engine.model_files import MadeFile, take_upload


def run(request: JobRequest) -> MadeFile:
    request.report(0, 1, READING_WEIGHTS())
    upload = request.folder / request.params["file"]
    found = take_upload(request.params["card"], upload, request.folder)
    upload.unlink()
    request.report(1, 1)
    return found
