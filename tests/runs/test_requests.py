"""Checkpoint now, evaluate now: requests to a running trainer, stored once, and refused otherwise."""

from collections.abc import Callable

import pytest

from tests.helpers.threads import in_threads
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.models.run import Status
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs

MAKE = Callable[..., TrainingRun]
VERBS = {"checkpoint": run_verbs.checkpoint_now, "evaluate": run_verbs.evaluate_now}
pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("command", VERBS)
def test_a_request_to_a_running_run_is_stored_with_an_event(make: MAKE, command: str) -> None:
    run = VERBS[command](make("running"), by="ada")
    assert run.requests == [{"id": 1, "command": command}]
    assert RunEvent.objects.get().data == {"order": command, "id": 1, "by": "ada"}
    assert TrainingRun.objects.get().requests == run.requests


@pytest.mark.parametrize("command", VERBS)
def test_a_pending_request_is_not_stored_again(make: MAKE, command: str) -> None:
    run = make("running")
    VERBS[command](run)
    VERBS[command](run)
    assert [order["id"] for order in run.requests] == [1]
    assert RunEvent.objects.count() == 1


@pytest.mark.parametrize("command", VERBS)
@pytest.mark.parametrize("status", [status for status in Status.values if status != "running"])
def test_a_run_that_is_not_running_is_refused(make: MAKE, command: str, status: str) -> None:
    with pytest.raises(VerbError, match="cannot be"):
        VERBS[command](make(status))


def test_an_ending_run_is_refused(make: MAKE) -> None:
    with pytest.raises(VerbError, match="cannot be"):
        run_verbs.checkpoint_now(make("running", requested_action="pause"))


@pytest.mark.django_db(transaction=True)
def test_concurrent_requests_are_stored_once(make: MAKE) -> None:
    run = make("running")
    in_threads([lambda: run_verbs.checkpoint_now(TrainingRun.objects.get(pk=run.pk))] * 4)
    assert len(TrainingRun.objects.get().requests) == 1
