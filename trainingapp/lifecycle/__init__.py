"""The verbs: what people do with runs and datasets. Pages, API, admin and commands all call these functions.

A verb that asks for what is already so is no error. Each one locks the row of its run, looks again at how it stands
and only then acts, so two people (or a person and a worker) who act at once get one sound result.
"""

from trainingapp.lifecycle.common import DeletionSize, VerbError
from trainingapp.lifecycle.control import (
    checkpoint_now,
    evaluate_now,
    force_stop_run,
    further_verbs,
    pause_run,
    possible_verbs,
    resume_run,
    start_run,
    stop_run,
)
from trainingapp.lifecycle.datasets import (
    confirm_import,
    dataset_deletion_size,
    delete_dataset,
    may_import_from,
    start_import,
)
from trainingapp.lifecycle.epochs import extend_run, least_epochs, with_epochs
from trainingapp.lifecycle.forks import ForkMode, clone_run, copied_name, fork_run, retry_run
from trainingapp.lifecycle.jobs import ask_for_job, cancel_job, prepared_job, submit_job
from trainingapp.lifecycle.limits import STUDIO_LIMIT
from trainingapp.lifecycle.queue import move_in_queue, set_priority
from trainingapp.lifecycle.runs import (
    VersionError,
    check_first,
    create_run,
    delete_run,
    deletion_size,
    preview_batch,
    update_run,
)
from trainingapp.lifecycle.sharing import share
from trainingapp.lifecycle.tokens import create_token, find_token, note_token_use, revoke_token

__all__ = [
    "STUDIO_LIMIT",
    "DeletionSize",
    "ForkMode",
    "VerbError",
    "VersionError",
    "ask_for_job",
    "cancel_job",
    "check_first",
    "checkpoint_now",
    "clone_run",
    "confirm_import",
    "copied_name",
    "create_run",
    "create_token",
    "dataset_deletion_size",
    "delete_dataset",
    "delete_run",
    "deletion_size",
    "evaluate_now",
    "extend_run",
    "find_token",
    "force_stop_run",
    "fork_run",
    "further_verbs",
    "least_epochs",
    "may_import_from",
    "move_in_queue",
    "note_token_use",
    "pause_run",
    "possible_verbs",
    "prepared_job",
    "preview_batch",
    "resume_run",
    "retry_run",
    "revoke_token",
    "set_priority",
    "share",
    "start_import",
    "start_run",
    "stop_run",
    "submit_job",
    "update_run",
    "with_epochs",
]
