"""More or fewer epochs, in each state."""

from collections.abc import Callable

import pytest

from trainingapp.models import TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("status", ["pending", "queued", "paused", "failed", "stopped"])
def test_an_idle_run_keeps_its_state(make: MAKE, status: str) -> None:
    run = run_verbs.extend_run(make(status, epoch=3, total_epochs=20), 30, by="ada")
    stored = TrainingRun.objects.get()
    assert (stored.status, stored.config["epochs"], stored.total_epochs, stored.version) == (status, 30, 30, 2)
    assert run.requests == []


def test_a_running_run_gets_a_request(make: MAKE) -> None:
    run = run_verbs.extend_run(make("running", epoch=3), 30)
    assert run.requests == [{"id": 1, "command": "epochs", "epochs": 30}]
    assert TrainingRun.objects.get().config["epochs"] == 30


def test_a_completed_run_is_queued_again(make: MAKE) -> None:
    run = run_verbs.extend_run(make("completed", epoch=20, total_epochs=20), 25)
    assert (run.status, run.config["epochs"]) == ("queued", 25)


def test_an_early_stopped_run_continues_to_its_old_length(make: MAKE) -> None:
    run = run_verbs.extend_run(make("completed", epoch=8, total_epochs=20), 20)
    assert run.status == "queued"


def test_completed_epochs_cannot_be_removed(make: MAKE) -> None:
    with pytest.raises(VerbError, match="already in epoch 5"):
        run_verbs.extend_run(make("paused", epoch=5), 4)
    with pytest.raises(VerbError, match="already completed 20 epochs"):
        run_verbs.extend_run(make("completed", epoch=20), 20)


def test_bounds_name_the_field(make: MAKE) -> None:
    with pytest.raises(VerbError, match=r"^epochs: Must be at most 10000\.$"):
        run_verbs.extend_run(make("paused"), 10_001)


def test_the_same_number_again_changes_nothing(make: MAKE) -> None:
    run = run_verbs.extend_run(make("running"), 30)
    run_verbs.extend_run(run, 30)
    assert (len(run.requests), run.version) == (1, 2)


def test_an_ending_run_is_refused(make: MAKE) -> None:
    run = make("running", requested_action="stop")
    with pytest.raises(VerbError, match="cannot be changed"):
        run_verbs.extend_run(run, 30)
    assert TrainingRun.objects.get().config["epochs"] == 20
