"""Wake-ups for the workers. They carry no state: the work to be done is in the database.

The Huey tasks are named here instead of imported, so that a verb needs no worker: the worker's room lies above all
rooms that it calls.
"""

from django.utils.module_loading import import_string

from trainingapp.jobs.kinds import Lane


def _enqueue(task: str, *arguments: object) -> None:
    import_string(f"trainingapp.worker.tasks.{task}")(*arguments)


def wake_trainer() -> None:
    """Have a worker look for queued runs."""
    _enqueue("start_training")


def wake_control() -> None:
    """Have a worker look for requests to runs whose supervisor is gone."""
    _enqueue("control_training")


def wake_jobs(lane: Lane) -> None:
    """Have a worker look for jobs of this lane."""
    _enqueue("do_jobs", lane.value)
