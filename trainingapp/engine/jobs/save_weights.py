"""A checkpoint becomes an entry of the library: params {"card", "checkpoint": path}."""

from pathlib import Path

from trainingapp.contract.job_order import JobOrder
from trainingapp.contract.messages.engine_jobs import WRITING_WEIGHTS
from trainingapp.engine.model_files import MadeFile, take_checkpoint


def run(order: JobOrder) -> MadeFile:
    order.tell(0, 1, WRITING_WEIGHTS())
    found = take_checkpoint(order.params["card"], Path(order.params["checkpoint"]), order.folder)
    order.tell(1, 1)
    return found
