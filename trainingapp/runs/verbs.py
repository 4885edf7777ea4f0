"""The functions of the run verbs. Pages, API, admin and commands call these, by the records of verb_registry.py.

A request for what is the case already is no error. Each function locks the row of its run, reads its state again and
then acts, so that two users (or a user and a worker) who act at once get one consistent result.
"""

from trainingapp.runs.checkpoints import (
    checkpoint_policy,
    checkpoints_deletion,
    clean_up,
    copy_checkpoint,
    delete_checkpoints,
    pin_checkpoint,
    plan_clean_up,
    verify_checkpoint,
)
from trainingapp.runs.control import (
    checkpoint_now,
    evaluate_now,
    force_stop_run,
    pause_run,
    resume_run,
    start_run,
    stop_run,
)
from trainingapp.runs.epochs import extend_run, least_epochs, with_epochs
from trainingapp.runs.forks import ForkMode, clone_run, copied_name, copied_priority, fork_run, retry_run
from trainingapp.runs.limits import STUDIO_LIMIT
from trainingapp.runs.organizing import archive_run, note_run, restore_run, tag_run
from trainingapp.runs.queue import move_in_queue, set_priority
from trainingapp.runs.records import (
    check_first,
    create_run,
    delete_run,
    deletion_size,
    preview_batch,
    run_tag,
    update_run,
)
from trainingapp.runs.verb_registry import RUN_VERBS, possible_verbs

__all__ = [
    "RUN_VERBS",
    "STUDIO_LIMIT",
    "ForkMode",
    "archive_run",
    "check_first",
    "checkpoint_now",
    "checkpoint_policy",
    "checkpoints_deletion",
    "clean_up",
    "clone_run",
    "copied_name",
    "copied_priority",
    "copy_checkpoint",
    "create_run",
    "delete_checkpoints",
    "delete_run",
    "deletion_size",
    "evaluate_now",
    "extend_run",
    "force_stop_run",
    "fork_run",
    "least_epochs",
    "move_in_queue",
    "note_run",
    "pause_run",
    "pin_checkpoint",
    "plan_clean_up",
    "possible_verbs",
    "preview_batch",
    "restore_run",
    "resume_run",
    "retry_run",
    "run_tag",
    "set_priority",
    "start_run",
    "stop_run",
    "tag_run",
    "update_run",
    "verify_checkpoint",
    "with_epochs",
]
