"""An uploaded file becomes an entry of the library: params {"card", "file": name in the job's folder}."""

from trainingapp.contract.job_order import JobOrder
from trainingapp.contract.messages.engine_jobs import READING_WEIGHTS
from trainingapp.engine.model_files import MadeFile, take_upload


def run(order: JobOrder) -> MadeFile:
    order.tell(0, 1, READING_WEIGHTS())
    upload = order.folder / order.params["file"]
    found = take_upload(order.params["card"], upload, order.folder)
    upload.unlink()
    order.tell(1, 1)
    return found
