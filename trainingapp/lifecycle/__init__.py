"""The verbs: what people do with runs and datasets. Pages, API, admin and commands all call these functions.

A verb that asks for what is already so is no error. Each one locks the row of its run, looks again at how it stands
and only then acts, so two people (or a person and a worker) who act at once get one sound result.
"""

from trainingapp.lifecycle.common import DeletionSize, VerbError
from trainingapp.lifecycle.control import pause_run, possible_verbs, resume_run, start_run, stop_run
from trainingapp.lifecycle.datasets import (
    confirm_import,
    dataset_deletion_size,
    delete_dataset,
    may_import_from,
    may_import_from_somewhere,
    start_import,
)
from trainingapp.lifecycle.jobs import ask_for_job, cancel_job, prepared_job, submit_job
from trainingapp.lifecycle.runs import create_run, delete_run, deletion_size, preview_batch, update_run
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
    weights_deletion_size,
    weights_uses,
)

__all__ = [
    "MOST_PICTURES",
    "DeletionSize",
    "VerbError",
    "WeightsUses",
    "ask_for_job",
    "cancel_job",
    "check_usable",
    "confirm_import",
    "create_run",
    "dataset_deletion_size",
    "delete_dataset",
    "delete_run",
    "delete_weights",
    "deletion_size",
    "export_weights",
    "may_import_from",
    "may_import_from_somewhere",
    "pause_run",
    "possible_verbs",
    "predict",
    "predict_dataset",
    "predict_folder",
    "prepared_job",
    "preview_batch",
    "resume_run",
    "save_weights",
    "start_import",
    "start_run",
    "stop_run",
    "submit_job",
    "update_run",
    "update_weights",
    "upload_weights",
    "weights_deletion_size",
    "weights_uses",
]
