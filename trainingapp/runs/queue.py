"""The verbs that change the order of the queue."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, TypedDict, Unpack

from django.db import transaction
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.jobs import wakeups
from trainingapp.models import TrainingRun
from trainingapp.models.bell import ring
from trainingapp.models.run import Status
from trainingapp.models.verbs import VerbError, checked_priority, refresh_locked
from trainingapp.scheduling.placement import queued_runs

#: Ranks that are closer than this are numbered again: a float cannot be halved without end.
LEAST_GAP = 1e-6


class QueuePosition(TypedDict, total=False):
    """A place in the queue: exactly one of these."""

    before: TrainingRun
    after: TrainingRun
    to: Literal["first", "last"]


def can_be_moved(run: TrainingRun) -> bool:
    return run.is_queued


def move_in_queue(run: TrainingRun, *, by: str = "", **place: Unpack[QueuePosition]) -> TrainingRun:
    """Move a queued run before or after another one, or to an end of the queue.

    The place counts across priorities: where the priority of the run does not fit there, it takes that of its new
    neighbour. Raises VerbError where one of the two runs is no longer queued.
    """
    assert len(place) == 1, "exactly one place must be given"
    with _locked_queue(run) as queue:
        index = _new_index(queue, run, place)
        if index == queue.index(run):
            return run
        others = [other for other in queue if other != run]
        _put_between(run, others[index - 1] if index else None, others[index] if index < len(others) else None, others)
        audit.record("move", run, by=by, details={"place": index + 1, "priority": run.priority})
    return run


def can_set_priority(run: TrainingRun) -> bool:
    return not run.is_finished


def set_priority(run: TrainingRun, priority: int, *, by: str = "") -> TrainingRun:
    """Change the priority of a run that is not finished. A queued run keeps its rank within the new priority."""
    checked_priority(priority)
    with transaction.atomic():
        refresh_locked(run)
        if not can_set_priority(run):
            message = _("The run “%(name)s” is %(status)s; its priority has no effect.")
            raise VerbError(message % {"name": run.name, "status": Status(run.status).label})
        if run.priority != priority:
            run.priority = priority
            _save(run)
            audit.record("priority", run, by=by, details={"priority": priority})
    return run


@contextmanager
def _locked_queue(run: TrainingRun) -> Iterator[list[TrainingRun]]:
    """The queued runs in their order, with each row locked, so that two users who reorder at once do it in turn."""
    with transaction.atomic():
        # Locked by number: two transactions that lock the same rows in different orders wait for each other for ever.
        locked = TrainingRun.objects.select_for_update().filter(status=Status.QUEUED).order_by("pk")
        list(locked.values_list("pk"))
        refresh_locked(run)
        if not can_be_moved(run):
            message = _("The run “%(name)s” is %(status)s and not in the queue.")
            raise VerbError(message % {"name": run.name, "status": Status(run.status).label})
        yield list(queued_runs())


def _new_index(queue: list[TrainingRun], run: TrainingRun, place: QueuePosition) -> int:
    """The index of the run among the other queued runs. Raises VerbError where the run beside it is not queued."""
    others = [other for other in queue if other != run]
    if "to" in place:
        return 0 if place["to"] == "first" else len(others)
    anchor = place["before"] if "before" in place else place["after"]
    if anchor == run:
        return queue.index(run)
    if anchor not in others:
        # The user may not be allowed to see that run, so the message does not name it.
        raise VerbError(_("The run to be placed next to is no longer waiting. Check the queue again."))
    return others.index(anchor) + ("after" in place)


def _put_between(
    run: TrainingRun, ahead: TrainingRun | None, behind: TrainingRun | None, others: list[TrainingRun]
) -> None:
    """Give the run the priority and the rank that put it between its new neighbours."""
    run.priority = min(run.priority, ahead.priority) if ahead else run.priority
    run.priority = max(run.priority, behind.priority) if behind else run.priority
    low = ahead.queue_rank if ahead and ahead.priority == run.priority else None
    high = behind.queue_rank if behind and behind.priority == run.priority else None
    if ahead and behind and low is not None and high is not None and high - low < LEAST_GAP:
        for rank, row in enumerate(others, start=1):
            row.queue_rank = float(rank)
        TrainingRun.objects.bulk_update(others, ["queue_rank"])
        low, high = ahead.queue_rank, behind.queue_rank
    if low is not None and high is not None:
        run.queue_rank = (low + high) / 2
    elif low is not None:
        run.queue_rank = low + 1
    elif high is not None:
        run.queue_rank = high - 1
    _save(run)


def _save(run: TrainingRun) -> None:
    run.save(update_fields=["priority", "queue_rank", "updated_at"])
    transaction.on_commit(partial(ring, run.pk))
    transaction.on_commit(wakeups.wake_trainer, robust=True)
