"""The worker's look for work: never where nothing can have changed, always where something may have."""

from collections.abc import Callable

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from trainingapp.models import Host, Job, TrainingRun
from trainingapp.scheduling import inventory
from trainingapp.worker import tasks, watch
from trainingapp.worker.watch import Watch

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db(transaction=True)
#: PostgreSQL tells of no commit without being asked.
ON_SQLITE = pytest.mark.any_database


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has an entry for each time that the worker has looked for work."""
    found: list[str] = []
    monkeypatch.setattr(tasks, "check_for_work", lambda: found.append("looked"))
    monkeypatch.setattr(watch, "LOOK_ANYWAY_S", 1e6)
    monkeypatch.setattr(inventory, "REFRESH_S", 1e6)
    monkeypatch.setattr(inventory, "_due_at", 0.0)
    return found


def look(watch: Watch, times: int = 1) -> None:
    for _ in range(times):
        watch.look()


@ON_SQLITE
def test_an_idle_worker_looks_once(looks: list[str]) -> None:
    look(Watch(), 3)
    assert len(looks) == 1


@ON_SQLITE
def test_every_commit_makes_it_look(looks: list[str], make: MAKE) -> None:
    idle = Watch()
    look(idle, 2)
    make("pending")
    look(idle, 2)
    assert len(looks) == 2


@ON_SQLITE
def test_what_it_stores_of_its_machine_is_no_reason_to_look(looks: list[str], monkeypatch) -> None:
    monkeypatch.setattr(inventory, "REFRESH_S", 0.0)
    idle = Watch()
    look(idle)
    before = Host.objects.get().seen_at
    look(idle)
    assert Host.objects.get().seen_at > before
    assert len(looks) == 1


@pytest.mark.parametrize("status", ["queued", "running"])
def test_it_always_looks_while_a_run_waits_or_trains(looks: list[str], make: MAKE, status: str) -> None:
    make(status, worker="there:1:2", heartbeat_at=timezone.now())
    look(Watch(), 3)
    assert len(looks) == 3


def test_it_always_looks_while_a_job_is_unfinished(looks: list[str], make: MAKE) -> None:
    run = make("completed")
    Job.objects.create(kind=Job.Kind.choices[0][0], owner=run.owner, state=Job.State.WORKING)
    look(Watch(), 3)
    assert len(looks) == 3


@ON_SQLITE
def test_it_looks_again_after_a_while_in_any_case(looks: list[str], monkeypatch) -> None:
    monkeypatch.setattr(watch, "LOOK_ANYWAY_S", 0.0)
    look(Watch(), 3)
    assert len(looks) == 3


def test_it_tries_again_when_the_database_is_away(looks: list[str], monkeypatch) -> None:
    def failing() -> None:
        looks.append("failed")
        raise OperationalError("gone")

    monkeypatch.setattr(tasks, "check_for_work", failing)
    look(Watch(), 2)
    assert looks == ["failed", "failed"]


@ON_SQLITE
def test_another_file_in_the_place_of_the_database_is_opened(looks: list[str]) -> None:
    idle = Watch()
    look(idle)
    first = connection.connection
    assert idle._stamp
    idle._stamp = ((0, 0, 0), *idle._stamp[1:])
    look(idle)
    assert connection.connection is not first
    assert len(looks) == 2
