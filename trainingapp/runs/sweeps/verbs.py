"""The verbs of sweeps. Pages, API, admin and commands call these; `verb_registry.py` has a record of each.

Each locks the row of its sweep first, then those of runs; `advance` does the same.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count
from django.utils import timezone
from django.utils.translation import gettext as _
from pydantic import ValidationError

from trainingapp.accounts import audit
from trainingapp.accounts.sharing import share
from trainingapp.accounts.users import AnyUser
from trainingapp.contract.config import RunConfig, parse_config
from trainingapp.contract.limits import (
    MAX_CONCURRENCY,
    MAX_CONTROL_EVERY,
    MAX_FOLDS,
    MAX_LIMIT_HOURS,
    MAX_SEED,
    MAX_TRIALS,
)
from trainingapp.models import Dataset, Sweep, Team, TrainingRun, Trial
from trainingapp.models.run import Status
from trainingapp.models.sweep import REPEATED_FIELDS, Origin, Pruner, Sampler, SweepStatus, TrialState
from trainingapp.models.verbs import FieldError, VerbError, checked_name, refresh_locked, require_task
from trainingapp.presentation.validation_errors import error_text
from trainingapp.runs.control import pause_run, resume_run, stop_run
from trainingapp.runs.records import check_request, delete_run
from trainingapp.runs.sweeps.advance import device_hours, move
from trainingapp.runs.sweeps.following import wake
from trainingapp.runs.sweeps.sampling import require_optuna
from trainingapp.runs.sweeps.space import Params, SearchSpace, Value, checked_space, is_active, searchable_fields

#: The columns that a person may change of a sweep that exists.
CHANGEABLE = ("name", "concurrency", "max_trials", "max_hours", "max_device_hours")
USUAL_FOLDS = 5


def create_sweep(
    *,
    owner: User,
    name: str,
    dataset: Dataset,
    config: RunConfig,
    space: SearchSpace,
    sampler: str = Sampler.TPE,
    pruner: str = Pruner.NONE,
    seed: int = 0,
    control_every: int = 0,
    concurrency: int = 1,
    max_trials: int = 20,
    folds: int = USUAL_FOLDS,
    max_hours: float | None = None,
    max_device_hours: float | None = None,
) -> Sweep:
    """Store a new sweep, pending; its first trial is the base configuration.

    A cross-validation has a trial for each of its `folds`; other sweeps ignore these. Raises VerbError where the
    dataset does not fit the configuration or the sampler is not installed, and FieldError, which names what is wrong.
    """
    if sampler == Sampler.FOLDS:
        _check_numbers({"folds": folds})
        config = config.model_copy(update={"folds": folds, "fold": 0})
        max_trials = folds
    check_request(dataset, config, owner)
    require_optuna(sampler)
    base = config.model_dump(mode="json")
    if sampler in REPEATED_FIELDS:
        space, pruner, control_every = SearchSpace(), Pruner.NONE, 0
    elif not len(space):
        raise FieldError("space", _("Choose at least one field to search."))
    else:
        space = checked_space(space, base, is_grid=sampler == Sampler.GRID)
    values: dict[str, int | float | None] = {
        "seed": seed,
        "control_every": control_every,
        "concurrency": concurrency,
        "max_trials": max_trials,
        "max_hours": max_hours,
        "max_device_hours": max_device_hours,
    }
    _check_numbers(values)
    with transaction.atomic():
        sweep = Sweep.objects.create(
            owner=owner,
            name=checked_name(name),
            dataset=dataset,
            task=config.task,
            config=base,
            space=space.model_dump(mode="json"),
            sampler=Sampler(sampler),
            pruner=Pruner(pruner),
            **values,
        )
        name = sweep.repeated_field
        first: Params = {name: int(str(base[name]))} if name else _completed({}, sweep)
        Trial.objects.create(sweep=sweep, number=0, params=first, origin=Origin.BASE)
        audit.record("create", sweep, by=owner.get_username(), details={"dataset": dataset.name})
    return sweep


def _check_numbers(values: Mapping[str, object]) -> None:
    bounds: dict[str, tuple[float, float]] = {
        "seed": (0, MAX_SEED),
        "control_every": (0, MAX_CONTROL_EVERY),
        "concurrency": (1, MAX_CONCURRENCY),
        "max_trials": (1, MAX_TRIALS),
        "folds": (2, MAX_FOLDS),
        "max_hours": (0, MAX_LIMIT_HOURS),
        "max_device_hours": (0, MAX_LIMIT_HOURS),
    }
    for name, value in values.items():
        low, high = bounds[name]
        is_open = name.endswith("_hours")
        if isinstance(value, int | float) and not (low < value <= high if is_open else low <= value <= high):
            texts = {"low": f"{low:g}", "high": f"{high:g}"}
            text = _("Must be above %(low)s and at most %(high)s.") if is_open else _("Must be %(low)s to %(high)s.")
            raise FieldError(name, text % texts)


@contextmanager
def _locked(sweep: Sweep) -> Iterator[None]:
    """A transaction that holds the lock of the sweep, read again. A worker looks at the sweep after the commit."""
    with transaction.atomic():
        refresh_locked(sweep)
        yield
        transaction.on_commit(wake, robust=True)


def not_possible(sweep: Sweep, verb: str) -> VerbError:
    message = _("The sweep “%(name)s” is %(status)s and cannot be %(verb)s.")
    return VerbError(message % {"name": sweep, "status": SweepStatus(sweep.status).label, "verb": verb})


def start_sweep(sweep: Sweep, *, by: str = "") -> Sweep:
    """Let workers create the trials of a new sweep."""
    with _locked(sweep):
        if sweep.status == SweepStatus.PENDING:
            require_task(sweep.task)
            move(sweep, SweepStatus.RUNNING)
            audit.record("start", sweep, by=by)
        elif sweep.status != SweepStatus.RUNNING:
            raise not_possible(sweep, _("started"))
    return sweep


def pause_sweep(sweep: Sweep, *, by: str = "") -> Sweep:
    """Create no further trials, and pause those that are queued or running."""
    with _locked(sweep):
        if sweep.status == SweepStatus.RUNNING:
            move(sweep, SweepStatus.PAUSED)
            for run in _runs(sweep, Status.QUEUED, Status.RUNNING):
                _if_possible(pause_run, run, by)
            audit.record("pause", sweep, by=by)
        elif sweep.status != SweepStatus.PAUSED:
            raise not_possible(sweep, _("paused"))
    return sweep


def resume_sweep(sweep: Sweep, *, by: str = "") -> Sweep:
    """Continue: paused trials resume, and workers create further trials while the budgets last."""
    with _locked(sweep):
        if sweep.status in (SweepStatus.PAUSED, SweepStatus.COMPLETED, SweepStatus.STOPPED):
            require_task(sweep.task)
            _check_budgets(sweep)
            move(sweep, SweepStatus.RUNNING)
            for run in _runs(sweep, Status.PAUSED):
                _if_possible(resume_run, run, by)
            audit.record("resume", sweep, by=by)
        elif sweep.status != SweepStatus.RUNNING:
            raise not_possible(sweep, _("resumed"))
    return sweep


def can_be_resumed(sweep: Sweep) -> bool:
    """Whether it has ended or is paused, and may have further trials: a cross-validation has one for each fold."""
    if sweep.sampler == Sampler.FOLDS and sweep.status == SweepStatus.COMPLETED:
        return sweep.trials.count() < sweep.max_trials
    return sweep.status in (SweepStatus.PAUSED, SweepStatus.COMPLETED, SweepStatus.STOPPED)


def _check_budgets(sweep: Sweep) -> None:
    """Raises VerbError where a resumed sweep would end at once."""
    unfinished = sweep.trials.filter(state__in=(TrialState.WAITING, TrialState.RUNNING)).exists()
    is_used = (
        sweep.trials.count() >= sweep.max_trials
        or (sweep.max_hours is not None and sweep.running_s() >= sweep.max_hours * 3600)
        or (sweep.max_device_hours is not None and device_hours(sweep) >= sweep.max_device_hours)
    )
    if is_used and not unfinished:
        raise VerbError(_("The budgets of the sweep “%(name)s” are used up. Raise them first.") % {"name": sweep})


def stop_sweep(sweep: Sweep, *, by: str = "") -> Sweep:
    """End the sweep: its queued, running and paused trials are stopped, and none is created any longer."""
    with _locked(sweep):
        if sweep.status in (SweepStatus.PENDING, SweepStatus.RUNNING, SweepStatus.PAUSED):
            move(sweep, SweepStatus.STOPPED)
            for run in _runs(sweep, Status.QUEUED, Status.RUNNING, Status.PAUSED):
                _if_possible(stop_run, run, by)
            ended = {"state": TrialState.STOPPED, "finished_at": timezone.now()}
            sweep.trials.filter(state=TrialState.WAITING).update(**ended)
            audit.record("stop", sweep, by=by)
        elif not sweep.is_ended:
            raise not_possible(sweep, _("stopped"))
    return sweep


def _runs(sweep: Sweep, *statuses: str) -> list[TrainingRun]:
    return list(TrainingRun.objects.filter(trial__sweep=sweep, status__in=statuses).order_by("pk"))


def _if_possible(verb: object, run: TrainingRun, by: str) -> None:
    """A run that has ended meanwhile needs nothing."""
    assert callable(verb)
    try:
        verb(run, by=by)
    except VerbError:
        return


def can_be_deleted(sweep: Sweep) -> bool:
    return sweep.status != SweepStatus.RUNNING


def delete_sweep(sweep: Sweep, *, by: str = "", with_runs: bool = False) -> None:
    """Delete the sweep and its trials; their runs stay, unless `with_runs`. Raises VerbError while trials train."""
    if with_runs:
        with transaction.atomic():
            refresh_locked(sweep)
            _check_deletion(sweep)
        for run in TrainingRun.objects.filter(trial__sweep=sweep).order_by("pk"):
            delete_run(run, by=by)
    with transaction.atomic():
        refresh_locked(sweep)
        _check_deletion(sweep)
        audit.record("delete", sweep, by=by)
        sweep.delete()


def _check_deletion(sweep: Sweep) -> None:
    if not can_be_deleted(sweep) or _runs(sweep, Status.QUEUED, Status.RUNNING):
        text = _("The sweep “%(name)s” has trials that are queued or running. Stop it before deleting it.")
        raise VerbError(text % {"name": sweep})


def can_be_enqueued(sweep: Sweep) -> bool:
    return not sweep.is_ended and not sweep.repeated_field


def enqueue_trial(sweep: Sweep, values: Mapping[str, Value], *, by: str = "") -> Trial:
    """A trial with these values; fields that are not named have those of the base configuration.

    It is tried before the sampler suggests another one. Raises FieldError for a value that the configuration refuses.
    """
    with _locked(sweep):
        if not can_be_enqueued(sweep):
            raise not_possible(sweep, _("extended by a trial"))
        known = searchable_fields(sweep.task)
        if unknown := [name for name in values if name not in known]:
            raise FieldError(unknown[0], _("%(field)s cannot be searched.") % {"field": unknown[0]})
        try:
            parse_config({**sweep.config, **values})
        except ValidationError as error:
            first = error.errors()[0]
            raise FieldError(str(first["loc"][-1]) if first["loc"] else "values", error_text(first)) from None
        number = sweep.trials.count()
        if number >= sweep.max_trials:
            raise VerbError(_("All trials of the sweep are used up. Raise their number first."))
        params = _completed(values, sweep)
        trial = Trial.objects.create(sweep=sweep, number=number, params=params, origin=Origin.ENQUEUED)
        audit.record("enqueue", sweep, by=by, details={"trial": number, **params})
    return trial


def _completed(values: Mapping[str, Value], sweep: Sweep) -> Params:
    """The values with those of the base configuration for the other dimensions that count beside them."""
    params: Params = dict(values)
    known = searchable_fields(sweep.task)
    for dimension in SearchSpace.model_validate(sweep.space):
        name = dimension.field
        if name not in params and is_active(dimension, known[name], {**sweep.config, **params}):
            params[name] = sweep.config[name]
    return params


def change_sweep(sweep: Sweep, *, by: str = "", **changes: object) -> Sweep:
    """Change the name, the concurrency and the budgets, also while the sweep runs; null removes a budget of hours.

    Raises FieldError for a value that is not possible.
    """
    assert changes.keys() <= set(CHANGEABLE), changes
    with _locked(sweep):
        if "name" in changes:
            changes["name"] = checked_name(str(changes["name"]))
        _check_numbers({name: value for name, value in changes.items() if name != "name"})
        if sweep.sampler == Sampler.FOLDS and changes.get("max_trials", sweep.max_trials) != sweep.max_trials:
            raise FieldError("max_trials", _("A cross-validation has a trial for each fold."))
        least = sweep.trials.count()
        if isinstance(changes.get("max_trials"), int) and int(str(changes["max_trials"])) < least:
            raise FieldError("max_trials", _("The sweep has %(count)d trials already.") % {"count": least})
        changed = {name: value for name, value in changes.items() if getattr(sweep, name) != value}
        if changed:
            for name, value in changed.items():
                setattr(sweep, name, value)
            sweep.save(update_fields=[*changed, "updated_at"])
            audit.record("change", sweep, by=by, details=changed)
    return sweep


def share_sweep(sweep: Sweep, visibility: str, team: Team | None = None, *, by: AnyUser | str = "") -> Sweep:
    """Share the sweep and the runs of its trials. Raises VerbError."""
    with transaction.atomic():
        share(sweep, visibility, team, by=by)
        for run in TrainingRun.objects.filter(trial__sweep=sweep).order_by("pk"):
            share(run, visibility, team, by=by)
    return sweep


def trial_counts(sweep: Sweep) -> dict[str, int]:
    """The number of trials by state."""
    return dict(sweep.trials.order_by().values_list("state").annotate(Count("pk")))
