"""Inspections and imports as jobs of a worker, and the handling of their failures."""

import time
from collections.abc import Callable, Mapping

from django.db import transaction

from trainingapp.contract.messages import Message
from trainingapp.contract.messages.dataset_checks import IMPORT_FAILED
from trainingapp.contract.messages.jobs_and_models import (
    IMPORT_CANCELLED,
    IMPORTING_ANNOTATIONS,
    IMPORTING_IMAGES,
    INSPECTING_ANNOTATIONS,
    JOB_CANCELLED,
    JOB_ERROR,
)
from trainingapp.datasets.decisions import CANCELLED, decide
from trainingapp.datasets.importing.importer import run_import
from trainingapp.datasets.importing.inspection import run_inspection
from trainingapp.datasets.importing.session import Progress, remove_needless_upload
from trainingapp.datasets.report import report_item
from trainingapp.jobs.kinds import ReportProgress
from trainingapp.jobs.verbs import submit_job
from trainingapp.models import Dataset, Job

#: Statuses that need a worker: the source is being inspected or imported.
IN_WORK = (Dataset.Status.INSPECTING, Dataset.Status.IMPORTING)

#: Seconds between two attempts while another process holds the folder of the import.
FOLDER_WAIT_S = 1.0


def request_import(dataset: Dataset, *, here: bool = False) -> Job:
    """Store the job that the dataset's status requires, in the caller's transaction, and wake a worker.

    With `here`, this process holds the job; see `submit_job`.
    """
    is_inspection = dataset.status == Dataset.Status.INSPECTING
    kind = Job.Kind.INSPECT_DATASET if is_inspection else Job.Kind.IMPORT_DATASET
    job = Job(kind=kind, owner=dataset.owner, params={"dataset_id": dataset.pk, "name": dataset.name})
    submit_job(job, here=here)
    dataset.job = job
    dataset.save(update_fields=["job"])
    return job


def adopt_imports() -> None:
    """Create a job for each unfinished dataset that has none: version 0.1 had no jobs of this kind."""
    for dataset in Dataset.objects.filter(status__in=IN_WORK, job=None).select_related("owner"):
        with transaction.atomic():
            # Two workers may check at the same time; the row lock ensures that only one creates the job.
            if Dataset.objects.select_for_update().filter(pk=dataset.pk, status__in=IN_WORK, job=None).exists():
                request_import(dataset)


def inspect(job: Job, report: ReportProgress) -> Mapping[str, object]:
    """The Work of an inspection."""

    def on_progress(done: int, total: int) -> None:
        report(done, total, INSPECTING_ANNOTATIONS())

    return _until_decided(job, Dataset.Status.INSPECTING, run_inspection, on_progress)


def import_images(job: Job, report: ReportProgress) -> Mapping[str, object]:
    """The Work of an import."""

    def on_progress(done: int, total: int) -> None:
        report(done, total, IMPORTING_IMAGES() if total else IMPORTING_ANNOTATIONS())

    return _until_decided(job, Dataset.Status.IMPORTING, run_import, on_progress)


def _until_decided(
    job: Job, status: Dataset.Status, attempt: Callable[..., None], on_progress: Progress
) -> Mapping[str, object]:
    """Make attempts until the dataset has left `status`.

    One is enough, unless a process that lost this job still holds the import folder: then the attempt returns
    immediately and is repeated after a short wait.
    """
    wanted = Dataset.objects.filter(pk=job.params["dataset_id"], status=status)
    while (dataset := wanted.first()) is not None:
        on_progress(0, 0)
        attempt(dataset, on_progress=on_progress)
        if wanted.exists():
            time.sleep(FOLDER_WAIT_S)
    found = Dataset.objects.filter(pk=job.params["dataset_id"]).first()
    return {"dataset_id": job.params["dataset_id"], "status": found.status if found else ""}


def note_failure(job: Job, message: Message) -> bool:
    """Refuse the dataset with a finding that states the reason. Returns False if the work had already ended."""
    if message.code == JOB_CANCELLED.code:
        finding = report_item("error", CANCELLED, IMPORT_CANCELLED())
    else:
        error = message.params["error"] if message.code == JOB_ERROR.code else message
        finding = report_item("error", "import_failed", IMPORT_FAILED(error=error))
    dataset = Dataset.objects.filter(pk=job.params["dataset_id"]).first()
    if dataset is None:
        return True
    in_work = Dataset.objects.filter(pk=dataset.pk, job=job, status__in=IN_WORK)
    if not decide(in_work, status=Dataset.Status.REFUSED, report=[finding]):
        return False
    remove_needless_upload(dataset)
    return True
