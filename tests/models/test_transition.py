"""Status changes: one table, compare-and-set, a history row with each."""

from collections.abc import Callable
from itertools import product

import pytest
from django.db import transaction
from django.utils import timezone

from tests.helpers.threads import in_threads
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.models.run import ALLOWED_MOVES, Status, TransitionError, append_events

MAKE = Callable[..., TrainingRun]

#: Written out here once more, so that a change of the table is a decision and no slip.
MOVES = {
    ("pending", "queued"),
    ("queued", "running"),
    ("queued", "paused"),
    ("queued", "stopped"),
    ("queued", "failed"),
    ("running", "queued"),
    ("running", "paused"),
    ("completed", "queued"),
    ("running", "completed"),
    ("running", "failed"),
    ("running", "stopped"),
    ("paused", "queued"),
    ("paused", "stopped"),
    ("failed", "queued"),
    ("stopped", "queued"),
}


@pytest.mark.django_db
@pytest.mark.parametrize(("old", "new"), list(product(Status.values, Status.values)))
def test_only_the_transitions_of_the_table_are_possible(make: MAKE, old: str, new: str) -> None:
    run = make(old)
    if (old, new) in MOVES:
        run.transition(new, message="because")
        assert run.status == TrainingRun.objects.get().status == new
        assert RunEvent.objects.get().data == {"from": old, "to": new, "message": "because"}
    else:
        with pytest.raises(TransitionError, match=f"is {old}; it cannot become {new}"):
            run.transition(new)
        assert TrainingRun.objects.get().status == old
        assert not RunEvent.objects.exists()


def test_every_status_is_in_the_table() -> None:
    assert set(ALLOWED_MOVES) == set(Status.values)


@pytest.mark.django_db
def test_a_stale_object_cannot_change_the_status(make: MAKE) -> None:
    run = make("queued")
    stale = TrainingRun.objects.get()
    run.transition("paused")
    with pytest.raises(TransitionError, match="is paused"):
        stale.transition("running")
    assert RunEvent.objects.count() == 1


@pytest.mark.django_db
def test_another_attempt_cannot_change_the_status(make: MAKE) -> None:
    stale = make("running", attempt=1)
    TrainingRun.objects.update(attempt=2)
    with pytest.raises(TransitionError, match="attempt 2"):
        stale.transition("completed")


@pytest.mark.django_db
def test_fields_are_written_with_the_transition(make: MAKE) -> None:
    run = make("running", requested_action="pause", eta_s=3.0)
    run.transition("failed", level="error", error_message="no")
    stored = TrainingRun.objects.get()
    assert (stored.error_message, stored.requested_action, stored.eta_s) == ("no", "", None)
    assert stored.finished_at is not None
    assert RunEvent.objects.get().level == "error"


@pytest.mark.django_db(transaction=True)
def test_of_many_concurrent_transitions_one_wins(make: MAKE) -> None:
    run = make("queued")
    copies = [TrainingRun.objects.get(pk=run.pk) for _ in range(6)]
    outcomes = in_threads([lambda copy=copy: copy.transition("running", attempt=1) for copy in copies])
    assert sorted(map(type, outcomes), key=str) == sorted([type(None)] + [TransitionError] * 5, key=str)
    assert RunEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_event_numbers_have_no_gap_whoever_writes(make: MAKE) -> None:
    run = make("running")

    def write_ten() -> None:
        for _ in range(10):
            with transaction.atomic():
                row = TrainingRun.objects.select_for_update().get(pk=run.pk)
                append_events(row, [RunEvent(type="log", time=timezone.now()) for _ in range(2)])
                row.save(update_fields=["event_seq"])

    assert in_threads([write_ten] * 4) == [None] * 4
    assert list(run.events.values_list("seq", flat=True)) == list(range(1, 81))
