"""Copies of datasets in the object store, from which hosts without this DATA_DIR fetch them."""

import time
from collections.abc import Mapping

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from trainingapp.contract.messages.object_store import PACKING_DATASET
from trainingapp.jobs.kinds import ReportProgress
from trainingapp.jobs.lease import unfinished_jobs
from trainingapp.jobs.verbs import request_job
from trainingapp.models import Dataset, Job
from trainingapp.object_store.manifest import dataset_key
from trainingapp.object_store.store import ObjectStore
from trainingapp.object_store.upload import Upload

#: Seconds between two reports while a store that is away is waited for.
LOOK_S = 0.5


def request_storing(dataset: Dataset, *, compare: bool = False) -> Job | None:
    """Request the job that stores a ready dataset; None where it is requested already. The caller has a transaction.

    With `compare`, what the store has is read and compared instead of being trusted.
    """
    if store_jobs(dataset).filter(pk__in=unfinished_jobs().values("pk")).exists():
        return None
    params = {"dataset_id": dataset.pk, "name": dataset.name, "compare": compare}
    return request_job(Job.Kind.STORE_DATASET, owner=dataset.owner, params=params)


def store_jobs(dataset: Dataset) -> QuerySet[Job]:
    """The jobs that store it, newest first."""
    return Job.objects.filter(kind=Job.Kind.STORE_DATASET, params__dataset_id=dataset.pk).order_by("-created_at")


def store_imported(job: Job, result: Mapping[str, object]) -> None:
    """Called when an import has ended, and again after a crash: where there is an object store, it gets the dataset."""
    if not settings.OBJECT_STORE_URL:
        return
    with transaction.atomic():
        ready = Dataset.objects.select_for_update().filter(status=Dataset.Status.READY, store_key="")
        if dataset := ready.filter(pk=job.params["dataset_id"]).first():
            dataset.data_dir_id = job.data_dir_id
            dataset.save(update_fields=["data_dir_id"])
            request_storing(dataset)


def store(job: Job, report: ReportProgress) -> Mapping[str, object]:
    """The Work: store the dataset, as far as it is not stored yet. Raises StoreError, OSError."""
    dataset = Dataset.objects.filter(pk=job.params["dataset_id"], status=Dataset.Status.READY).first()
    if dataset is None:  # deleted meanwhile
        return {}
    last = [0, 0]

    def progress(done: int, total: int) -> None:
        last[:] = done, total
        report(done, total, PACKING_DATASET())

    def pause(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            progress(*last)
            time.sleep(min(LOOK_S, seconds))

    key = dataset_key(dataset.folder)
    opened = ObjectStore(settings.OBJECT_STORE_URL)
    upload = Upload(opened, dataset.folder, key, job.folder, compare=bool(job.params.get("compare")))
    manifest = upload.run(progress, pause)
    return {"dataset_id": dataset.pk, "key": key, "sha256": manifest.sha256, "bytes": manifest.size_bytes}


def note_stored(job: Job, result: Mapping[str, object]) -> None:
    """Store where the dataset is, so that other hosts may train on it."""
    if result:
        dataset = Dataset.objects.filter(pk=job.params["dataset_id"])
        dataset.update(store_key=result["key"], store_sha256=result["sha256"])
