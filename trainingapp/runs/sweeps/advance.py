"""Advancing a sweep: reading what its trials measured, pruning, creating the next trial, and ending it.

Everything is decided from the rows of the database, so that any worker can do it at any time, as often as it likes. A
trial and its run are created in one transaction that holds the lock of the sweep, which gives each number once. The
sampler is asked before: it may take seconds, and the lock would keep everyone else from writing.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction
from django.db.models import Count, Exists, F, OuterRef, Q
from django.utils import timezone
from pydantic import ValidationError

from trainingapp.accounts import audit
from trainingapp.accounts.notifications import outbox
from trainingapp.contract.config import correct_config
from trainingapp.contract.limits import MAX_PRIORITY, NAME_LENGTH
from trainingapp.contract.messages import VERBATIM, Message
from trainingapp.contract.messages import sweeps as messages
from trainingapp.contract.tasks.registry import METRICS
from trainingapp.models import SeriesChunk, Sweep, TrainingRun, Trial
from trainingapp.models.run import Status
from trainingapp.models.sweep import Pruner, SweepStatus, TrialState
from trainingapp.models.verbs import VerbError, require_task
from trainingapp.presentation.validation_errors import error_text
from trainingapp.runs.control import start_run, stop_run
from trainingapp.runs.records import create_run
from trainingapp.runs.series import read_series
from trainingapp.runs.sweeps.pruning import Pruning, is_hopeless
from trainingapp.runs.sweeps.sampling import Search, TrialRow, has_optuna, importances, propose, require_optuna
from trainingapp.runs.sweeps.space import Params, SearchSpace

logger = logging.getLogger(__name__)

#: Trials are below the runs that people start themselves, whose priority is 0 unless they change it. The more trials
#: of its owner are in work already, the lower a new one is: people share the devices, however many trials each has.
TRIAL_PRIORITY = -100
#: Failed trials in a row after which the sweep is paused: the next would fail too.
MOST_FAILURES = 5
IN_WORK = (Status.PENDING, Status.QUEUED, Status.RUNNING)


def search_of(sweep: Sweep) -> Search:
    return Search(
        space=SearchSpace.model_validate(sweep.space),
        base=sweep.config,
        sampler=sweep.sampler,
        seed=sweep.seed,
        higher_is_better=is_higher_better(sweep),
        control_every=sweep.control_every,
    )


def is_higher_better(sweep: Sweep) -> bool:
    metric = METRICS.get(sweep.metric)
    return metric is None or metric.higher_is_better


def rows_of(sweep: Sweep) -> list[TrialRow]:
    """The trials in the order of their numbers, as samplers and pruners read them."""
    return [
        TrialRow(
            number=trial.number,
            params=trial.params,
            state=trial.state,
            origin=trial.origin,
            value=trial.value,
            curve={int(epoch): float(value) for epoch, value in trial.curve},
            judged_epoch=trial.judged_epoch,
        )
        for trial in sweep.trials.order_by("number")
    ]


# What is due


def due_sweeps() -> list[int]:
    """The numbers of the sweeps that can be advanced now. Cheap: workers ask every few seconds."""
    running = list(Sweep.objects.filter(status=SweepStatus.RUNNING))
    if not running:
        return []
    new_points = SeriesChunk.objects.filter(
        run_id=OuterRef("run_id"), split="val", superseded=False, last_seq__gt=OuterRef("curve_seq")
    )
    numbers = [sweep.pk for sweep in running]
    measured = set(
        Trial.objects.filter(sweep__in=numbers, state=TrialState.RUNNING)
        .filter(Exists(new_points))
        .values_list("sweep_id", flat=True)
    )
    return [sweep.pk for sweep in running if sweep.pk in measured or _has_room(sweep)]


def _has_room(sweep: Sweep) -> bool:
    """Whether a trial can be created, or the sweep has come to its end."""
    counts = _counts(sweep)
    if _budget_used(sweep, counts["all"]) is not None:
        return counts["waiting"] > 0 or not counts["unfinished"]
    return counts["in_work"] < sweep.concurrency and not counts["queued"]


def _counts(sweep: Sweep) -> dict[str, int]:
    """The trials: all, without a run yet, unfinished, in work (none that is paused), and those that no worker has."""
    unfinished = Q(state=TrialState.WAITING) | Q(state=TrialState.RUNNING, run__isnull=False)
    return sweep.trials.aggregate(
        all=Count("pk"),
        waiting=Count("pk", filter=Q(state=TrialState.WAITING)),
        unfinished=Count("pk", filter=unfinished),
        in_work=Count("pk", filter=Q(run__status__in=IN_WORK)),
        queued=Count("pk", filter=Q(run__status__in=(Status.PENDING, Status.QUEUED))),
    )


def device_hours(sweep: Sweep) -> float:
    """Hours that trainers have spent on the trials, those that train now included."""
    rows = sweep.trials.values_list("elapsed_s", "run__elapsed_s")
    return sum(max(stored, current or 0.0) for stored, current in rows) / 3600


def _budget_used(sweep: Sweep, count: int) -> Message | None:
    """Why no further trial may be created; None while the budgets last."""
    if count >= sweep.max_trials:
        return messages.TRIALS_DONE(count=count)
    if sweep.max_hours is not None and sweep.running_s() >= sweep.max_hours * 3600:
        return messages.HOURS_USED(hours=sweep.max_hours)
    if sweep.max_device_hours is not None and device_hours(sweep) >= sweep.max_device_hours:
        return messages.DEVICE_HOURS_USED(hours=sweep.max_device_hours)
    return None


# Advancing


def advance_due() -> None:
    """Advance each sweep that is due; one that cannot be advanced does not keep the others waiting."""
    for number in due_sweeps():
        try:
            advance(number)
        except Exception:
            logger.exception("The sweep %d could not be advanced; the worker tries again.", number)


def advance(number: int) -> None:
    """Bring a running sweep up to date. A sweep that is not running, or was deleted, is left alone."""
    sweep = Sweep.objects.filter(pk=number, status=SweepStatus.RUNNING).first()
    if sweep is None:
        return
    with audit.acting(username=sweep.owner.get_username()):
        read_curves(sweep)
        _end_deleted(sweep)
        if sweep.pruner != Pruner.NONE:
            _prune(sweep)
        _measure_importance(sweep)
        while _create_next(number):
            pass


def read_curves(sweep: Sweep) -> None:
    """Store what running trials have measured since the last look, and the rest of those that have finished."""
    metric = sweep.metric
    for trial in sweep.trials.filter(run__isnull=False, run__event_seq__gt=F("curve_seq")).select_related("run"):
        assert trial.run is not None
        curve = {int(epoch): value for epoch, value in trial.curve}
        newest = trial.curve_seq
        for series in read_series(trial.run, after=trial.curve_seq, split="val", names={metric}):
            frame = series.frame
            column = frame.columns.get(metric)
            newest = max(newest, int(frame.seq[-1]))
            if column is None:
                continue
            for epoch, value in zip(frame.epoch.tolist(), column.tolist(), strict=True):
                if epoch >= 0 and math.isfinite(value):
                    curve[epoch] = value
        if trial.is_finished:  # nothing follows
            newest = max(newest, trial.run.event_seq)
        if newest > trial.curve_seq:
            points = [[epoch, curve[epoch]] for epoch in sorted(curve)]
            Trial.objects.filter(pk=trial.pk).update(curve=points, curve_seq=newest)


def _end_deleted(sweep: Sweep) -> None:
    """Trials whose runs were deleted before they ended have no result."""
    ended = {"state": TrialState.STOPPED, "finished_at": timezone.now()}
    sweep.trials.filter(state=TrialState.RUNNING, run=None).update(**ended)


def _prune(sweep: Sweep) -> None:
    """Stop the trials that are hopeless at their newest epoch. One that a person resumed is left alone."""
    pruning = Pruning.of(sweep.pruner, sweep.config, higher_is_better=is_higher_better(sweep))
    rows = rows_of(sweep)
    training = sweep.trials.filter(state=TrialState.RUNNING, pruned_at=None, run__status=Status.RUNNING)
    runs = {trial.number: trial for trial in training.select_related("run")}
    for row in rows:
        trial = runs.get(row.number)
        epoch = max(row.curve, default=0)
        if trial is None or trial.run is None or epoch <= row.judged_epoch:
            continue
        if is_hopeless(row, rows, pruning):
            _stop_hopeless(trial, trial.run)
        else:
            Trial.objects.filter(pk=trial.pk).update(judged_epoch=epoch)


def _stop_hopeless(trial: Trial, run: TrainingRun) -> None:
    with transaction.atomic():
        try:
            stop_run(run)
        except VerbError:  # it has just ended by itself
            return
        Trial.objects.filter(pk=trial.pk).update(pruned_at=timezone.now())
        Trial.objects.filter(pk=trial.pk, state=TrialState.STOPPED).update(state=TrialState.PRUNED)


def _measure_importance(sweep: Sweep) -> None:
    """Compute the importance of the fields again once more trials are completed."""
    rows = rows_of(sweep)
    count = sum(row.state == TrialState.COMPLETED and row.value is not None for row in rows)
    if count == sweep.importance.get("trials", 0) or not has_optuna():
        return
    found = importances(rows, search_of(sweep))
    if found:
        Sweep.objects.filter(pk=sweep.pk).update(importance={"trials": count, "values": found})


def _create_next(number: int) -> bool:
    """Create the next trial, or end the sweep; returns whether there may be more to do at once.

    The sampler is asked without the lock. Where another worker has created the trial meanwhile, it is asked again.
    """
    sweep = Sweep.objects.get(pk=number)
    counts = _counts(sweep)
    if sweep.status != SweepStatus.RUNNING or counts["in_work"] >= sweep.concurrency or counts["queued"]:
        return False
    waiting = sweep.trials.filter(state=TrialState.WAITING).order_by("number").first()
    used = _budget_used(sweep, counts["all"])
    # What people have entered is tried even when the trials are used up: they have counted it.
    if used is not None and (waiting is None or used.code != messages.TRIALS_DONE.code):
        return _end(sweep, used) if not counts["unfinished"] else _drop_waiting(sweep) if waiting else False
    if waiting is None and _fails_always(sweep):
        return _pause(sweep, messages.FAILURES(number=MOST_FAILURES))
    try:
        require_optuna(sweep.sampler)
        require_task(sweep.task)
        params = None if waiting else propose(rows_of(sweep), search_of(sweep), counts["all"])
        if waiting is None and params is None:
            return False if counts["unfinished"] else _end(sweep, messages.GRID_DONE())
        with _locked(sweep, counts["all"]) as is_current:
            if is_current:
                _create(sweep, waiting or _next_trial(sweep, counts["all"], params or {}))
    except VerbError as error:
        return _pause(sweep, messages.REFUSED(reason=VERBATIM(text=str(error))))
    return True


@contextmanager
def _locked(sweep: Sweep, count: int) -> Iterator[bool]:
    """A transaction with the lock of the sweep; whether it still runs and has as many trials as before."""
    with transaction.atomic():
        sweep.refresh_from_db(from_queryset=Sweep.objects.select_for_update())
        yield sweep.status == SweepStatus.RUNNING and sweep.trials.count() == count


def _next_trial(sweep: Sweep, number: int, params: Params) -> Trial:
    search = search_of(sweep)
    return Trial.objects.create(sweep=sweep, number=number, params=params, origin=search.origin(number))


def _create(sweep: Sweep, trial: Trial) -> None:
    """Create and queue the run of a trial. The caller holds the lock of the sweep. Raises VerbError."""
    # Another worker may have given it its run since it was read.
    if not Trial.objects.filter(pk=trial.pk, state=TrialState.WAITING, run=None).exists():
        return
    try:
        config, corrections = correct_config({**sweep.config, **trial.params})
    except ValidationError as error:
        # These values do not go together: a failed trial, which costs no training.
        problem = "; ".join(f"{'.'.join(map(str, one['loc']))}: {error_text(one)}" for one in error.errors())
        found = {"state": TrialState.FAILED, "problem": problem, "finished_at": timezone.now()}
        Trial.objects.filter(pk=trial.pk).update(**found)
        return
    run = create_run(
        owner=sweep.owner,
        name=trial_name(sweep, trial.number),
        dataset=sweep.dataset,
        config=config,
        corrections=corrections,
        priority=priority_of_next(sweep),
    )
    shared = {"visibility": sweep.visibility, "team": sweep.team}
    TrainingRun.objects.filter(pk=run.pk).update(**shared)
    Trial.objects.filter(pk=trial.pk).update(run=run, state=TrialState.RUNNING)
    run.refresh_from_db()
    start_run(run)


def trial_name(sweep: Sweep, number: int) -> str:
    end = f" #{number}"
    return f"{sweep.name[: NAME_LENGTH - len(end)]}{end}"


def priority_of_next(sweep: Sweep) -> int:
    """The priority of the next trial: the more trials of the owner are in work, the lower."""
    in_work = Trial.objects.filter(sweep__owner=sweep.owner_id, run__status__in=IN_WORK).count()
    return max(-MAX_PRIORITY, TRIAL_PRIORITY - in_work)


def _fails_always(sweep: Sweep) -> bool:
    """Whether the newest finished trials have all failed since the sweep was last resumed."""
    finished = sweep.trials.exclude(finished_at=None).order_by("-finished_at", "-number")
    since = sweep.running_since
    states = [
        state
        for state, at in finished.values_list("state", "finished_at")[:MOST_FAILURES]
        if since is None or (at is not None and at >= since)
    ]
    return len(states) == MOST_FAILURES and set(states) == {TrialState.FAILED}


def _drop_waiting(sweep: Sweep) -> bool:
    """A budget of time is used up: what has no run yet is not tried any longer."""
    found = {"state": TrialState.STOPPED, "finished_at": timezone.now()}
    return sweep.trials.filter(state=TrialState.WAITING).update(**found) > 0


def _end(sweep: Sweep, reason: Message) -> bool:
    return _move(sweep, SweepStatus.COMPLETED, reason)


def _pause(sweep: Sweep, reason: Message) -> bool:
    return _move(sweep, SweepStatus.PAUSED, reason)


def _move(sweep: Sweep, status: SweepStatus, reason: Message) -> bool:
    with _locked(sweep, sweep.trials.count()) as is_current:
        if is_current:
            move(sweep, status, reason)
            outbox.sweep_moved(sweep, reason)
    return False


def move(sweep: Sweep, status: SweepStatus, reason: Message | None = None) -> None:
    """Change the status and the clock of its budget; the caller holds the lock of the sweep."""
    now = timezone.now()
    sweep.spent_s = sweep.running_s(now)
    sweep.running_since = now if status == SweepStatus.RUNNING else None
    sweep.status = status
    sweep.reason_data = dict(reason.as_data()) if reason is not None else {}
    sweep.started_at = sweep.started_at or sweep.running_since
    sweep.finished_at = now if sweep.is_ended else None
    sweep.save()
