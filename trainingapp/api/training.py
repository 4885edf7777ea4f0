"""Runs: list, create, show, change, delete, control."""

from functools import partial

from django.http import HttpResponse
from django.utils.translation import gettext as _
from ninja import Query, Router, Status
from pydantic import ValidationError

from trainingapp.accounts.permissions import refusal
from trainingapp.api.access import dataset_for, require, run_for
from trainingapp.api.callers import ApiRequest
from trainingapp.api.controls import perform
from trainingapp.api.model_schemas import JobResponse
from trainingapp.api.paging import Id, paged
from trainingapp.api.problems import Problem, wrong_config, wrong_field
from trainingapp.api.schemas import (
    NOT_LISTED,
    ExperimentList,
    RunFilters,
    TrainingCheckRequest,
    TrainingControlRequest,
    TrainingControlResponse,
    TrainingDeleteResponse,
    TrainingRunCreate,
    TrainingRunResponse,
    TrainingRunUpdate,
    TrainingStatusResponse,
)
from trainingapp.api.versions import IfMatch, changed, etag
from trainingapp.contract.config import RunConfig, correct_config
from trainingapp.contract.messages import Message
from trainingapp.models import Dataset, Job, TrainingRun
from trainingapp.models.verbs import DeletionSize
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.run_list import RunQuery, faceted, found_runs, ordered
from trainingapp.runs.verb_registry import RUN_VERBS

router = Router(tags=["training"])


@router.get("/", response=ExperimentList, summary="List runs")
def list_runs(request: ApiRequest, filters: Query[RunFilters]) -> dict[str, object]:
    """The runs that you may see, by default newest first."""
    query = RunQuery(
        conditions=filters.q or "",
        status=filters.status or "",
        task=filters.task or "",
        dataset=filters.dataset,
        owner=filters.owner or "",
        tag=filters.tag or "",
        sweep=filters.sweep,
        starred=filters.starred,
        archived=filters.archived,
        sort=filters.order,
    )
    rows = ordered(faceted(found_runs(request.caller.user, query), query), query)
    shown = rows.select_related("dataset", "owner").prefetch_related("tags").defer(*NOT_LISTED)
    return paged(shown, filters)


@router.post("/", response={201: TrainingRunResponse}, summary="Create a run")
def create_run(request: ApiRequest, payload: TrainingRunCreate, response: HttpResponse) -> Status[TrainingRun]:
    """A new run, pending, or queued with `start`. What was corrected in the configuration is listed in the answer."""
    require(request, RUN_VERBS["create"].permission)
    dataset = _dataset(request, payload.dataset)
    config, corrections = _config(payload.config, dataset)
    user = request.caller.user
    run = run_verbs.create_run(
        owner=user,
        name=payload.name,
        dataset=dataset,
        config=config,
        corrections=corrections,
        priority=payload.priority,
        soft_limit_h=payload.soft_limit_h,
        hard_limit_h=payload.hard_limit_h,
        max_recoveries=payload.max_recoveries,
    )
    if payload.start:
        run_verbs.start_run(run, by=user.get_username())
    response.headers["Location"] = f"/api/v1/training/{run.pk}"
    response.headers["ETag"] = etag(run_verbs.run_tag(run))
    return Status(201, run)


@router.post("/check", response={202: JobResponse}, summary="Check a run before it is created")
def check_run(request: ApiRequest, payload: TrainingCheckRequest) -> Status[Job]:
    """Submit a job that trains a few steps of such a run. Its result is what the run needs, or what is wrong."""
    require(request, RUN_VERBS["check"].permission)
    dataset = _dataset(request, payload.dataset)
    config, _corrections = _config(payload.config, dataset)
    return Status(202, run_verbs.check_first(dataset, config, owner=request.caller.user))


@router.get("/{pk}", response=TrainingRunResponse, summary="Show a run")
def show_run(request: ApiRequest, pk: Id, response: HttpResponse) -> TrainingRun:
    """A run with its configuration. A change must be sent with its ETag."""
    run = run_for(request, pk)
    response.headers["ETag"] = etag(run_verbs.run_tag(run))
    return run


@router.put("/{pk}", response=TrainingRunResponse, summary="Change a run")
def change_run(
    request: ApiRequest,
    pk: Id,
    payload: TrainingRunUpdate,
    response: HttpResponse,
    if_match: IfMatch = None,
) -> TrainingRun:
    """Change the name, the priority or the limits. Refused if another user has changed the run since you read it."""
    run = run_for(request, pk, RUN_VERBS["edit"].permission)
    changes = payload.model_dump()
    for name in ("soft_limit_h", "hard_limit_h", "max_recoveries"):
        if changes[name] == "studio":
            changes[name] = run_verbs.STUDIO_LIMIT
    verb = partial(run_verbs.update_run, **changes)
    return changed(run, response, if_match=if_match, tag_of=run_verbs.run_tag, verb=verb)


@router.delete("/{pk}", response=TrainingDeleteResponse, summary="Delete a run")
def delete_run(request: ApiRequest, pk: Id) -> DeletionSize:
    """Delete the run, its events and its files. A queued or running run must be paused or stopped first."""
    return run_verbs.delete_run(run_for(request, pk, RUN_VERBS["delete"].permission))


@router.get("/{pk}/status", response=TrainingStatusResponse, summary="Show the status of a run")
def run_status(request: ApiRequest, pk: Id) -> TrainingRun:
    """The status and the progress, for frequent polling; the event stream sends them without polling."""
    return run_for(request, pk)


@router.post("/{pk}/control", response=TrainingControlResponse, summary="Control a run")
def control_run(request: ApiRequest, pk: Id, payload: TrainingControlRequest) -> dict[str, object]:
    """Perform an action, such as start, pause, resume or stop. Repeating it is no error; 409: not possible now."""
    verb = RUN_VERBS.api_actions()[payload.action]
    run = run_for(request, pk)
    if not verb.is_permitted(request.caller.user, run):
        raise Problem(403, refusal(verb.permission))
    done = perform(run, payload.action, payload.values(), request.caller.user)
    return {"action": payload.action, "run": run_for(request, done.pk)}


def _config(values: dict[str, object], dataset: Dataset) -> tuple[RunConfig, list[Message]]:
    try:
        return correct_config(values, dataset.label_mode)
    except ValidationError as error:
        raise wrong_config(error) from None


def _dataset(request: ApiRequest, pk: int) -> Dataset:
    try:
        return dataset_for(request, pk)
    except Problem:
        raise wrong_field("#/dataset", _("There is no dataset with this number.")) from None
