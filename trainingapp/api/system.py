"""The devices, the queue and the jobs."""

from typing import Annotated, Literal
from uuid import UUID

from django.db.models import Prefetch, QuerySet
from django.http import StreamingHttpResponse
from django.utils.translation import gettext as _
from ninja import Path, Query, Router

from trainingapp.accounts.permissions import Verb, sees
from trainingapp.api.access import found, require, run_for, visible
from trainingapp.api.callers import ApiRequest
from trainingapp.api.model_schemas import (
    DeviceItem,
    HostList,
    JobFilters,
    JobList,
    JobResponse,
    QuarantineRequest,
    QueueList,
    QueueMove,
)
from trainingapp.api.paging import Id, paged
from trainingapp.api.problems import not_found, wrong_field
from trainingapp.api.schemas import NOT_LISTED
from trainingapp.jobs import verbs as job_verbs
from trainingapp.models import Device, DeviceHold, Host, Job, TrainingRun
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.downloads import file_response
from trainingapp.runs.queue import QueuePosition
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.scheduling.placement import queued_runs
from trainingapp.scheduling.quarantine import quarantine, release

router = Router(tags=["system"])

#: The files of a job that can be downloaded; all others in its folder are internal.
JobFile = Literal["export.zip", "predictions.json", "predictions.jsonl"]
JobId = Annotated[UUID, Path(description="Its id.")]


@router.get("/devices", response=HostList, summary="List devices")
def list_devices(request: ApiRequest) -> dict[str, object]:
    """The machines with their processors and GPUs, and the runs that occupy them."""
    held = Prefetch("devices__holds", _open_holds(request), to_attr="held")
    return {"items": Host.objects.prefetch_related("devices__job", held)}


@router.post("/devices/{pk}/quarantine", response=DeviceItem, summary="Put a GPU in quarantine")
def quarantine_device(request: ApiRequest, pk: Id, payload: QuarantineRequest) -> Device:
    """Give a GPU no more runs until it is released; runs that are on it continue. For administrators."""
    require(request, Verb.ADMINISTER)
    quarantine(_device(request, pk), payload.reason, by=request.caller.user)
    return _device(request, pk)


@router.post("/devices/{pk}/release", response=DeviceItem, summary="Release a GPU")
def release_device(request: ApiRequest, pk: Id) -> Device:
    """End the quarantine of a GPU, or have one checked again that cannot be used. For administrators."""
    require(request, Verb.ADMINISTER)
    release(_device(request, pk), by=request.caller.user)
    return _device(request, pk)


@router.get("/queue", response=QueueList, summary="Show the queue")
def show_queue(request: ApiRequest) -> dict[str, object]:
    """The queued runs in their order. Runs that you may not see keep their places."""
    return {"items": _queue(request)}


@router.post("/queue/move", response=QueueList, summary="Move a run in the queue")
def move_in_queue(request: ApiRequest, payload: QueueMove) -> dict[str, object]:
    """Move a queued run. Where its priority does not fit there, it takes that of its new neighbour."""
    place: QueuePosition = {}
    if payload.before is not None:
        place["before"] = run_for(request, payload.before)
    if payload.after is not None:
        place["after"] = run_for(request, payload.after)
    if payload.to is not None:
        place["to"] = payload.to
    if len(place) != 1:
        raise wrong_field("#/to", _("Give one of before, after and to."))
    run = run_for(request, payload.run, RUN_VERBS["move"].permission)
    run_verbs.move_in_queue(run, by=request.caller.user.get_username(), **place)
    return {"items": _queue(request)}


@router.get("/jobs", response=JobList, summary="List jobs")
def list_jobs(request: ApiRequest, filters: Query[JobFilters]) -> dict[str, object]:
    """Your jobs, newest first."""
    rows = visible(request, Job.objects.order_by("-created_at", "pk"))
    return paged(rows.filter(state=filters.state) if filters.state is not None else rows, filters)


@router.get("/jobs/{job_id}", response=JobResponse, summary="Show a job")
def show_job(request: ApiRequest, job_id: JobId) -> Job:
    """How far a job is, and its result."""
    return found(request, Job.objects.all(), pk=job_id)


@router.get("/jobs/{job_id}/files/{name}", response={200: None}, summary="Download what a job has made")
def download_job_file(request: ApiRequest, job_id: JobId, name: JobFile) -> StreamingHttpResponse:
    """A file of a job that is done, such as export.zip. It is kept for a day."""
    job = found(request, Job.objects.filter(state=Job.State.DONE), pk=job_id)
    path = job.folder / name
    if not path.is_file():
        raise not_found(_("The job has no such file."))
    return file_response(path, name)


@router.post("/jobs/{job_id}/cancel", response=JobResponse, summary="Cancel a job")
def cancel_job(request: ApiRequest, job_id: JobId) -> Job:
    """Cancel a job. A job that has ended is not changed."""
    return job_verbs.cancel_job(found(request, Job.objects.all(), Verb.CONTROL, pk=job_id))


def _open_holds(request: ApiRequest) -> QuerySet[DeviceHold]:
    holds = DeviceHold.objects.filter(released_at=None).exclude(run=None)
    return holds.annotate(is_seen=sees(request.caller.user, TrainingRun, "run_id")).order_by("taken_at", "pk")


def _device(request: ApiRequest, pk: int) -> Device:
    held = Prefetch("holds", _open_holds(request), to_attr="held")
    device = Device.objects.select_related("host", "job").prefetch_related(held).filter(pk=pk).first()
    if device is None:
        raise not_found()
    return device


def _queue(request: ApiRequest) -> list[TrainingRun]:
    rows = queued_runs()
    places = {pk: place for place, pk in enumerate(rows.values_list("pk", flat=True), 1)}
    listed = rows.select_related("dataset", "owner").prefetch_related("tags").defer(*NOT_LISTED)
    seen = list(visible(request, listed))
    for run in seen:
        run.place = places.get(run.pk, len(places))  # type: ignore[attr-defined]
    return seen
