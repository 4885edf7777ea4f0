"""Wake-ups for the workers. They carry no state: what is to be done stands in the database.

The Huey tasks are named here instead of imported, so that a verb needs no worker: the worker's room lies above all
rooms that it calls.
"""

from django.utils.module_loading import import_string


def _enqueue(task: str, *arguments: object) -> None:
    import_string(f"trainingapp.worker.tasks.{task}")(*arguments)


def wake_trainer() -> None:
    """Have a worker look for queued runs."""
    _enqueue("start_training")


def wake_control() -> None:
    """Have a worker look for requests to runs whose supervisor is gone."""
    _enqueue("control_training")


def wake_importer() -> None:
    """Have a worker look for datasets to import."""
    _enqueue("import_datasets")


def wake_jobs() -> None:
    """Have a worker look for jobs, in each lane."""
    for task in ("save_checkpoint_task", "do_jobs", "do_warm_jobs"):
        _enqueue(task)


def draw_batch_preview(preview_id: str) -> None:
    """Have a worker draw a training batch for the form of a run."""
    _enqueue("draw_batch_preview", preview_id)
