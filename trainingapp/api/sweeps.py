"""Sweeps: list, create, show, change, delete, control, share; their trials."""

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from django.http import HttpResponse
from django.utils.translation import gettext as _
from ninja import Query, Router, Schema, Status
from pydantic import ConfigDict, Field, StrictBool, ValidationError

from trainingapp.accounts.permissions import Verb, refusal
from trainingapp.api.access import dataset_for, found, require, visible
from trainingapp.api.callers import ApiRequest
from trainingapp.api.paging import MOST_ID, Id, Page, Paging, Text, paged
from trainingapp.api.problems import Problem, wrong_config, wrong_field
from trainingapp.api.schemas import TAKEN, Number, Sharing
from trainingapp.contract.config import correct_config
from trainingapp.contract.limits import (
    MAX_CONCURRENCY,
    MAX_CONTROL_EVERY,
    MAX_FOLDS,
    MAX_LIMIT_HOURS,
    MAX_SEED,
    MAX_TRIALS,
    NAME_LENGTH,
    USER_NAME_LENGTH,
)
from trainingapp.models import Sweep, Trial
from trainingapp.models.verbs import FieldError
from trainingapp.presentation.messages import rendered_data
from trainingapp.runs.sweeps import verbs as sweep_verbs
from trainingapp.runs.sweeps.advance import device_hours
from trainingapp.runs.sweeps.page import best_trial, spread_of
from trainingapp.runs.sweeps.space import SearchSpace, Value
from trainingapp.runs.sweeps.verb_registry import SWEEP_VERBS

router = Router(tags=["sweeps"])

SamplerName = Literal["tpe", "random", "grid", "gp", "repeat", "folds"]
PrunerName = Literal["none", "median", "hyperband"]
SweepStatusName = Literal["pending", "running", "paused", "completed", "stopped"]
TrialStateName = Literal["waiting", "running", "completed", "pruned", "stopped", "failed"]
OriginName = Literal["base", "suggested", "control", "enqueued"]
Action = Literal["start", "resume", "pause", "stop"]
Hours = Annotated[float, Field(gt=0, le=MAX_LIMIT_HOURS)]
#: A value of a field, taken as what it is: "3" is no number.
GivenValue = StrictBool | int | float | str
assert set(SWEEP_VERBS) == set(get_args(Action))


class SweepFilters(Paging):
    status: SweepStatusName | None = Field(None, description="Only sweeps of this status.")
    dataset: int | None = Field(None, ge=1, le=MOST_ID, description="Only sweeps on this dataset, by its number.")
    owner: Text | None = Field(None, max_length=USER_NAME_LENGTH, description="Only sweeps of this person.")


class SweepCreate(Schema):
    """A new sweep. Every trial is a run with `config` and values from `space`; the first one has `config` alone."""

    model_config = TAKEN | ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "learning rate",
                    "dataset": 1,
                    "config": {"model": "resnet18", "epochs": 20},
                    "space": {
                        "dimensions": [
                            {"kind": "range", "field": "learning_rate", "low": 0.0001, "high": 0.1, "log": True},
                            {"kind": "choice", "field": "optimizer", "values": ["SGD", "AdamW"]},
                            {"kind": "range", "field": "momentum", "low": 0.8, "high": 0.98},
                        ]
                    },
                    "sampler": "tpe",
                    "max_trials": 30,
                    "start": True,
                }
            ]
        }
    )

    name: str = Field(min_length=1, max_length=NAME_LENGTH)
    dataset: Number = Field(description="Number of a ready dataset.")
    config: dict[str, object] = Field({}, description="The base configuration, as for a new run.")
    space: dict[str, object] = Field(
        {},
        description="The search space: a list `dimensions`. A range has `field`, `low` and `high`, and may have `log` "
        "(its magnitude is searched) and `points` (of a grid); a choice has `field` and `values`. `when` with `field` "
        "and `values` is a condition: the dimension counts only in trials in which that field has one of the values.",
    )
    sampler: SamplerName = Field(
        "tpe",
        description="How values are chosen; `repeat` trains one configuration with several seeds, `folds` once for "
        "each fold of the dataset.",
    )
    pruner: PrunerName = Field("none", description="Which trials are stopped before their last epoch.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="The same seed and the same results give the same trials.")
    control_every: int = Field(
        0, ge=0, le=MAX_CONTROL_EVERY, description="Every so many trials, one is random as a control; 0: none."
    )
    concurrency: int = Field(1, ge=1, le=MAX_CONCURRENCY, description="Trials at the same time.")
    max_trials: int = Field(20, ge=1, le=MAX_TRIALS, description="A cross-validation has a trial for each fold.")
    folds: int = Field(sweep_verbs.USUAL_FOLDS, ge=2, le=MAX_FOLDS, description="Of a cross-validation.")
    max_hours: Hours | None = Field(None, description="Hours that the sweep runs, without its pauses.")
    max_device_hours: Hours | None = Field(None, description="Hours of training of all trials together.")
    start: bool = Field(False, description="Start it at once.")


class SweepUpdate(Schema):
    """The fields that can be changed, also while the sweep runs. A missing field leaves the value as it is."""

    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"max_trials": 40}]})

    name: str = Field("", min_length=1, max_length=NAME_LENGTH)
    concurrency: int = Field(1, ge=1, le=MAX_CONCURRENCY)
    max_trials: int = Field(20, ge=1, le=MAX_TRIALS)
    max_hours: Hours | None = Field(None, description="Null: no limit.")
    max_device_hours: Hours | None = Field(None, description="Null: no limit.")


class TrialItem(Schema):
    """A trial: its values and what became of them."""

    id: int
    number: int = Field(description="From 0 upward without gaps.")
    run: int | None = Field(description="Number of its run; null before it has one, and after that was deleted.")
    origin: OriginName
    state: TrialStateName
    params: dict[str, Any] = Field(description="The values of the fields that it sets.")
    value: float | None = Field(description="The best value of the sweep's metric.")
    curve: list[tuple[int, float]] = Field(description="The metric after each validation: epoch and value.")
    elapsed_s: float = Field(description="Seconds of training.")
    problem: str = Field(description="Why there is no run, where its values do not go together.")
    created_at: datetime
    finished_at: datetime | None

    @staticmethod
    def resolve_run(trial: Trial) -> int | None:
        return trial.run_id


class DeletedSweep(Schema):
    trials: int = Field(description="Trials that were deleted with it.")


class TrialList(Page):
    items: list[TrialItem]


class _Sweep(Schema):
    id: int
    name: str
    owner: str
    task: str
    dataset: int
    status: SweepStatusName
    reason: str = Field(description="Why it ended or was paused, in the language of the request.")
    metric: str = Field(description="What is optimized: the model-selection metric of its trials.")
    sampler: SamplerName
    pruner: PrunerName
    trials: int = Field(description="Trials so far.")
    finished: int = Field(description="Those of them that are completed, pruned, stopped or failed.")
    max_trials: int
    best: float | None = Field(description="The best value of a completed trial.")
    best_run: int | None = Field(description="Number of the run that reached it.")
    mean: float | None = Field(description="Of the completed trials of repeated seeds or of a cross-validation.")
    deviation: float | None = Field(description="Their sample standard deviation.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @staticmethod
    def resolve_owner(sweep: Sweep) -> str:
        return sweep.owner.get_username()

    @staticmethod
    def resolve_dataset(sweep: Sweep) -> int:
        return sweep.dataset_id

    @staticmethod
    def resolve_reason(sweep: Sweep) -> str:
        return rendered_data(sweep.reason_data)

    @staticmethod
    def resolve_trials(sweep: Sweep) -> int:
        return sweep.trials.count()

    @staticmethod
    def resolve_finished(sweep: Sweep) -> int:
        return sweep.trials.exclude(finished_at=None).count()

    @staticmethod
    def resolve_best(sweep: Sweep) -> float | None:
        best = best_trial(sweep)
        return best.value if best else None

    @staticmethod
    def resolve_best_run(sweep: Sweep) -> int | None:
        best = best_trial(sweep)
        return best.run_id if best else None

    @staticmethod
    def resolve_mean(sweep: Sweep) -> float | None:
        found = spread_of(sweep)
        return found.mean if found else None

    @staticmethod
    def resolve_deviation(sweep: Sweep) -> float | None:
        found = spread_of(sweep)
        return found.deviation if found else None


class SweepItem(_Sweep):
    """A row of the list."""


class SweepList(Page):
    items: list[SweepItem]


class SweepResponse(_Sweep, Sharing):
    """A sweep as a whole."""

    config: dict[str, object] = Field(description="The base configuration, with its defaults.")
    space: dict[str, object]
    seed: int
    control_every: int
    concurrency: int
    max_hours: float | None
    max_device_hours: float | None
    hours: float = Field(description="Hours that it has been running.")
    device_hours: float = Field(description="Hours of training of all trials together.")
    importance: dict[str, float] = Field(description="How much each field matters, by PED-ANOVA; empty at first.")
    verbs: list[str] = Field(description="What may be asked of it as it stands.")

    @staticmethod
    def resolve_hours(sweep: Sweep) -> float:
        return sweep.running_s() / 3600

    @staticmethod
    def resolve_device_hours(sweep: Sweep) -> float:
        return device_hours(sweep)

    @staticmethod
    def resolve_importance(sweep: Sweep) -> dict[str, float]:
        return dict(sweep.importance.get("values", {}))

    @staticmethod
    def resolve_verbs(sweep: Sweep) -> list[str]:
        return [verb.name for verb in SWEEP_VERBS.values() if verb.is_possible(sweep)]


class SweepControlRequest(Schema):
    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"action": "pause"}]})

    action: Action = Field(
        description="What to do.\n\n" + "\n".join(f"- `{verb.name}`: {verb.help}" for verb in SWEEP_VERBS.values())
    )


class TrialCreate(Schema):
    """Values to try next. Fields that are not named have those of the base configuration."""

    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"params": {"learning_rate": 0.01}}]})

    params: dict[str, GivenValue] = Field(min_length=1)


def sweep_for(request: ApiRequest, pk: int, verb: Verb = Verb.SEE) -> Sweep:
    return found(request, Sweep.objects.select_related("owner", "team"), verb, pk=pk)


@router.get("/", response=SweepList, summary="List sweeps")
def list_sweeps(request: ApiRequest, filters: Query[SweepFilters]) -> dict[str, object]:
    """The sweeps that you may see, newest first."""
    exact = {"status": filters.status, "dataset": filters.dataset, "owner__username": filters.owner}
    rows = visible(request, Sweep.objects.select_related("owner"))
    return paged(rows.filter(**{name: value for name, value in exact.items() if value}), filters)


@router.post("/", response={201: SweepResponse}, summary="Create a sweep")
def create_sweep(request: ApiRequest, payload: SweepCreate, response: HttpResponse) -> Status[Sweep]:
    """A new sweep, pending, or running with `start`."""
    require(request, Verb.CREATE)
    try:
        dataset = dataset_for(request, payload.dataset)
    except Problem:
        raise wrong_field("#/dataset", _("There is no dataset with this number.")) from None
    try:
        config, _corrections = correct_config(payload.config, dataset.label_mode)
    except ValidationError as error:
        raise wrong_config(error) from None
    try:
        space = SearchSpace.model_validate(payload.space)
    except ValidationError as error:
        raise wrong_config(error, "#/space") from None
    user = request.caller.user
    own = payload.model_dump(exclude={"dataset", "config", "space", "start"})
    try:
        sweep = sweep_verbs.create_sweep(owner=user, dataset=dataset, config=config, space=space, **own)
    except FieldError as error:
        place = error.field if error.field in own else "space" if error.field == "space" else f"space/{error.field}"
        raise wrong_field(f"#/{place}", str(error)) from None
    if payload.start:
        sweep_verbs.start_sweep(sweep, by=user.get_username())
    response.headers["Location"] = f"/api/v1/sweeps/{sweep.pk}"
    return Status(201, sweep)


@router.get("/{pk}", response=SweepResponse, summary="Show a sweep")
def show_sweep(request: ApiRequest, pk: Id) -> Sweep:
    """A sweep with its search space, its budgets and its best result."""
    return sweep_for(request, pk)


@router.put("/{pk}", response=SweepResponse, summary="Change a sweep")
def change_sweep(request: ApiRequest, pk: Id, payload: SweepUpdate) -> Sweep:
    """Change the name, the concurrency or the budgets, also while it runs."""
    sweep = sweep_for(request, pk, Verb.CHANGE)
    try:
        return sweep_verbs.change_sweep(sweep, **payload.model_dump(exclude_unset=True))
    except FieldError as error:
        raise wrong_field(f"#/{error.field}", str(error)) from None


@router.delete("/{pk}", response=DeletedSweep, summary="Delete a sweep")
def delete_sweep(request: ApiRequest, pk: Id) -> dict[str, int]:
    """Delete the sweep and its trials; their runs stay. A running sweep must be stopped first."""
    sweep = sweep_for(request, pk, Verb.DELETE)
    trials = sweep.trials.count()
    sweep_verbs.delete_sweep(sweep)
    return {"trials": trials}


@router.post("/{pk}/control", response=SweepResponse, summary="Control a sweep")
def control_sweep(request: ApiRequest, pk: Id, payload: SweepControlRequest) -> Sweep:
    """Start, pause, resume or stop it. Repeating it is no error; 409: not possible now."""
    verb = SWEEP_VERBS[payload.action]
    sweep = sweep_for(request, pk)
    if not verb.is_permitted(request.caller.user, sweep):
        raise Problem(403, refusal(verb.permission))
    return verb.function(sweep, by=request.caller.user.get_username())


@router.get("/{pk}/trials", response=TrialList, summary="Trials of a sweep")
def list_trials(request: ApiRequest, pk: Id, filters: Query[Paging]) -> dict[str, object]:
    """The trials by their numbers."""
    return paged(sweep_for(request, pk).trials.order_by("number"), filters)


@router.post("/{pk}/trials", response={201: TrialItem}, summary="Add a trial with your own values")
def enqueue_trial(request: ApiRequest, pk: Id, payload: TrialCreate) -> Status[Trial]:
    """It is tried before the sampler suggests another one."""
    sweep = sweep_for(request, pk, Verb.CONTROL)
    values: dict[str, Value] = dict(payload.params)
    try:
        trial = sweep_verbs.enqueue_trial(sweep, values, by=request.caller.user.get_username())
    except FieldError as error:
        raise wrong_field(f"#/params/{error.field}", str(error)) from None
    return Status(201, trial)
