"""The verbs that change the order of the queue."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

from django.db import transaction
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.jobs import wakeups
from trainingapp.models import TrainingRun
from trainingapp.models.bell import ring
from trainingapp.models.run import Status
from trainingapp.models.verbs import VerbError, checked_priority, refresh_locked
from trainingapp.scheduling.placement import queued_runs

#: Ranks that lie closer are spread anew: a float cannot be halved for ever.
LEAST_GAP = 1e-6


def move_in_queue(
    run: TrainingRun,
    *,
    before: TrainingRun | None = None,
    after: TrainingRun | None = None,
    to: Literal["first", "last"] | None = None,
) -> TrainingRun:
    """Give a queued run another place: before or after another one, or the first or last of all.

    The place counts across priorities: where its own does not fit there, the run takes that of its new neighbour.
    Raises VerbError when either run waits no more.
    """
    assert sum(place is not None for place in (before, after, to)) == 1, "exactly one place must be given"
    with _locked_queue(run) as queue:
        anchor = before or after
        if anchor is not None and anchor not in queue:
            # It may be one that whoever moves this may not see, so it is not named.
            raise VerbError(_("The run to be placed next to is no longer waiting. Check the queue again."))
        if anchor == run or _is_there(run, queue, before, after, to):
            return run
        others = [other for other in queue if other != run]
        index = _index(others, before, after, to)
        _put_between(run, others[index - 1] if index else None, others[index] if index < len(others) else None, others)
        audit.record("move", run, details={"place": index + 1, "priority": run.priority})
    return run


def set_priority(run: TrainingRun, priority: int) -> TrainingRun:
    """Change the priority of a run that is not finished; a queued one keeps its place among its new equals."""
    checked_priority(priority)
    with transaction.atomic():
        refresh_locked(run)
        if run.is_finished:
            message = _("The run “%(name)s” is %(status)s; its priority has no effect.")
            raise VerbError(message % {"name": run.name, "status": Status(run.status).label})
        if run.priority != priority:
            run.priority = priority
            _save(run)
            audit.record("priority", run, details={"priority": priority})
    return run


@contextmanager
def _locked_queue(run: TrainingRun) -> Iterator[list[TrainingRun]]:
    """Every queued run in its order, each locked: of two people who reorder at once one comes after the other."""
    with transaction.atomic():
        locked = TrainingRun.objects.select_for_update().filter(status=Status.QUEUED).order_by("pk")
        list(locked.values_list("pk"))
        refresh_locked(run)
        if run.status != Status.QUEUED:
            message = _("The run “%(name)s” is %(status)s and not in the queue.")
            raise VerbError(message % {"name": run.name, "status": Status(run.status).label})
        yield list(queued_runs())


def _is_there(
    run: TrainingRun, queue: list[TrainingRun], before: TrainingRun | None, after: TrainingRun | None, to: str | None
) -> bool:
    index = queue.index(run)
    if before is not None:
        return queue[index + 1 : index + 2] == [before]
    if after is not None:
        return index > 0 and queue[index - 1] == after
    return index == (0 if to == "first" else len(queue) - 1)


def _index(others: list[TrainingRun], before: TrainingRun | None, after: TrainingRun | None, to: str | None) -> int:
    if before is not None:
        return others.index(before)
    if after is not None:
        return others.index(after) + 1
    return 0 if to == "first" else len(others)


def _put_between(
    run: TrainingRun, ahead: TrainingRun | None, behind: TrainingRun | None, others: list[TrainingRun]
) -> None:
    """Give the run the priority and the rank that put it between its new neighbours."""
    run.priority = min(run.priority, ahead.priority) if ahead else run.priority
    run.priority = max(run.priority, behind.priority) if behind else run.priority
    low = ahead.queue_rank if ahead and ahead.priority == run.priority else None
    high = behind.queue_rank if behind and behind.priority == run.priority else None
    if low is not None and high is not None and high - low < LEAST_GAP:
        _spread(others)
        assert ahead is not None
        assert behind is not None
        low, high = ahead.queue_rank, behind.queue_rank
    run.queue_rank = _rank(low, high, run.queue_rank)
    _save(run)


def _rank(low: float | None, high: float | None, present: float) -> float:
    if low is not None and high is not None:
        return (low + high) / 2
    if low is not None:
        return low + 1
    return high - 1 if high is not None else present


def _spread(queue: list[TrainingRun]) -> None:
    """Number the queue anew, from 1 on."""
    for rank, row in enumerate(queue, start=1):
        row.queue_rank = float(rank)
    TrainingRun.objects.bulk_update(queue, ["queue_rank"])


def _save(run: TrainingRun) -> None:
    run.save(update_fields=["priority", "queue_rank", "updated_at"])
    transaction.on_commit(partial(ring, run.pk))
    transaction.on_commit(wakeups.wake_trainer, robust=True)
