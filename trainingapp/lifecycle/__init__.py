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
from trainingapp.lifecycle.common import DeletionSize, VerbError, VersionError
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
    may_import_from_somewhere,
    start_import,
)
from trainingapp.lifecycle.epochs import extend_run, least_epochs, with_epochs
from trainingapp.lifecycle.forks import ForkMode, clone_run, copied_name, fork_run, retry_run
from trainingapp.lifecycle.jobs import ask_for_job, cancel_job, prepared_job, submit_job
from trainingapp.lifecycle.limits import STUDIO_LIMIT
from trainingapp.lifecycle.queue import move_in_queue, set_priority
from trainingapp.lifecycle.runs import (
    check_first,
    create_run,
    delete_run,
    deletion_size,
    preview_batch,
    update_run,
)
from trainingapp.lifecycle.sharing import share
from trainingapp.lifecycle.tokens import create_token, find_token, note_token_use, revoke_token
from trainingapp.lifecycle.weights import (
    MOST_PICTURES,
    WeightsUses,
    check_usable,
    delete_weights,
    export_weights,
    predict,
    predict_dataset,
    predict_folder,
    save_weights,
    update_weights,
    upload_weights,
    verify_weights,
    weights_deletion_size,
    weights_tag,
    weights_uses,
)

__all__ = [
    "MOST_PICTURES",
    "STUDIO_LIMIT",
    "DeletionSize",
    "ForkMode",
    "VerbError",
    "VersionError",
    "WeightsUses",
    "ask_for_job",
    "cancel_job",
    "check_first",
    "check_usable",
    "checkpoint_now",
    "checkpoint_policy",
    "checkpoints_deletion",
    "clean_up",
    "clone_run",
    "confirm_import",
    "copied_name",
    "copy_checkpoint",
    "create_run",
    "create_token",
    "dataset_deletion_size",
    "delete_checkpoints",
    "delete_dataset",
    "delete_run",
    "delete_weights",
    "deletion_size",
    "evaluate_now",
    "export_weights",
    "extend_run",
    "find_token",
    "force_stop_run",
    "fork_run",
    "further_verbs",
    "least_epochs",
    "may_import_from",
    "may_import_from_somewhere",
    "move_in_queue",
    "note_token_use",
    "pause_run",
    "pin_checkpoint",
    "plan_clean_up",
    "possible_verbs",
    "predict",
    "predict_dataset",
    "predict_folder",
    "prepared_job",
    "preview_batch",
    "resume_run",
    "retry_run",
    "revoke_token",
    "save_weights",
    "set_priority",
    "share",
    "start_import",
    "start_run",
    "stop_run",
    "submit_job",
    "update_run",
    "update_weights",
    "upload_weights",
    "verify_checkpoint",
    "verify_weights",
    "weights_deletion_size",
    "weights_tag",
    "weights_uses",
    "with_epochs",
]
