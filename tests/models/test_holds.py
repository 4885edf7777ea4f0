"""A device is released whenever its run leaves RUNNING, in the same transaction."""

from collections.abc import Callable

import pytest
from django.db import transaction

from tests.helpers.machines import hold, machine
from trainingapp.models import DeviceHold, TrainingRun
from trainingapp.models.run import TransitionError
from trainingapp.scheduling.scheduler import claim_next

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("status", ["queued", "paused", "completed", "failed", "stopped"])
def test_every_transition_from_running_releases_the_device(make: MAKE, status: str) -> None:
    machine()
    make("queued")
    run = claim_next("here", "here:1:2")
    assert run is not None
    run.transition(status)
    held = DeviceHold.objects.get()
    assert held.released_at is not None
    assert held.released_at >= held.taken_at


def test_earlier_holds_are_not_changed(make: MAKE) -> None:
    machine()
    make("queued")
    first = claim_next("here", "here:1:2")
    assert first is not None
    first.transition("queued")
    released = DeviceHold.objects.get().released_at
    again = claim_next("here", "here:1:2")
    assert again is not None
    assert (again.pk, again.attempt) == (first.pk, 2)
    again.transition("completed")
    assert DeviceHold.objects.get(attempt=1).released_at == released
    assert DeviceHold.objects.get(attempt=2).released_at is not None


def test_a_failed_transition_releases_nothing(make: MAKE) -> None:
    host = machine()
    run = make("running")
    hold(run, host.devices.get())
    stale = TrainingRun.objects.get()
    TrainingRun.objects.update(attempt=2)
    with pytest.raises(TransitionError):
        stale.transition("completed")
    assert DeviceHold.objects.get().released_at is None


def test_status_and_device_are_written_together_or_not_at_all(make: MAKE) -> None:
    machine()
    make("queued")
    with transaction.atomic():
        assert claim_next("here", "here:1:2") is not None
        transaction.set_rollback(True)
    assert TrainingRun.objects.get().status == "queued"
    assert not DeviceHold.objects.exists()


def test_the_hold_of_a_deleted_run_keeps_its_name(make: MAKE) -> None:
    host = machine()
    run = make("completed", name="gone")
    hold(run, host.devices.get(), released_at=run.created_at)
    run.delete()
    held = DeviceHold.objects.get()
    assert (held.run, held.run_name) == (None, "gone")
