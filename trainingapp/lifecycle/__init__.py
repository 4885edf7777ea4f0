"""The verbs: what people do with runs and datasets. Pages, API, admin and commands all call these functions.

A verb that asks for what is already so is no error. Each one locks the row of its run, looks again at how it stands
and only then acts, so two people (or a person and a worker) who act at once get one sound result.
"""

from trainingapp.lifecycle.checkpoints import (
    checkpoint_policy,
    checkpoints_deletion,
    clean_up,
    copy_checkpoint,
    delete_checkpoints,
    pin_checkpoint,
    plan_clean_up,
    verify_checkpoint,
)
from trainingapp.lifecycle.common import DeletionSize, VerbError
from trainingapp.lifecycle.control import pause_run, possible_verbs, resume_run, start_run, stop_run
from trainingapp.lifecycle.datasets import (
    confirm_import,
    dataset_deletion_size,
    delete_dataset,
    may_import_from,
    start_import,
)
from trainingapp.lifecycle.jobs import ask_for_job, cancel_job, prepared_job, submit_job
from trainingapp.lifecycle.runs import create_run, delete_run, deletion_size, preview_batch, update_run

__all__ = [
    "DeletionSize",
    "VerbError",
    "ask_for_job",
    "cancel_job",
    "checkpoint_policy",
    "checkpoints_deletion",
    "clean_up",
    "confirm_import",
    "copy_checkpoint",
    "create_run",
    "dataset_deletion_size",
    "delete_checkpoints",
    "delete_dataset",
    "delete_run",
    "deletion_size",
    "may_import_from",
    "pause_run",
    "pin_checkpoint",
    "plan_clean_up",
    "possible_verbs",
    "prepared_job",
    "preview_batch",
    "resume_run",
    "start_import",
    "start_run",
    "stop_run",
    "submit_job",
    "update_run",
    "verify_checkpoint",
]
