"""Clocks that jump: no running run is lost by it, and every dead one is found."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trainingapp.models import TrainingRun
from trainingapp.supervision import heartbeats as module
from trainingapp.supervision.heartbeats import Heartbeats

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Clocks:
    """The one on the wall, which can be set, and the monotonic one, which cannot."""

    def __init__(self) -> None:
        self.wall, self.steady = NOON, 500.0

    def pass_(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.steady += seconds

    def set(self, hours: float) -> None:
        self.wall += timedelta(hours=hours)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    found = Clocks()
    monkeypatch.setattr(module.timezone, "now", lambda: found.wall)
    return found


@pytest.fixture
def heartbeats(clocks: Clocks) -> Heartbeats:
    return Heartbeats(lambda: clocks.steady)


def running(heartbeat_at: Any, worker: str = "barn:1:2") -> TrainingRun:
    return TrainingRun(pk=1, attempt=1, status="running", worker=worker, heartbeat_at=heartbeat_at)


def test_with_a_steady_clock_the_age_is_known_at_the_first_check(clocks: Clocks, heartbeats: Heartbeats) -> None:
    assert heartbeats.silence_s(running(NOON - timedelta(seconds=30))) == 30
    assert heartbeats.silence_s(running(None)) == float("inf")


@pytest.mark.parametrize("hours", [1, -1])
def test_a_running_run_survives_a_clock_change(clocks: Clocks, heartbeats: Heartbeats, hours: float) -> None:
    run = running(clocks.wall)
    assert heartbeats.silence_s(run) == 0
    clocks.pass_(1)
    clocks.set(hours)
    for _ in range(30):
        assert heartbeats.silence_s(run) < 3
        clocks.pass_(1.5)
        run.heartbeat_at = clocks.wall


@pytest.mark.parametrize("hours", [1, -1])
def test_a_dead_run_is_found_after_a_lease_although_the_clock_was_set(
    clocks: Clocks, heartbeats: Heartbeats, hours: float
) -> None:
    run = running(clocks.wall)
    assert heartbeats.silence_s(run) == 0
    clocks.set(hours)
    for _ in range(5):
        assert heartbeats.silence_s(run) <= 10
        clocks.pass_(2)
    clocks.pass_(2)
    assert heartbeats.silence_s(run) > 10


def test_a_worker_that_starts_after_the_clock_was_set_back_observes_first(
    clocks: Clocks, heartbeats: Heartbeats
) -> None:
    dead = running(NOON + timedelta(hours=1))
    assert heartbeats.silence_s(dead) == 0
    clocks.pass_(11)
    assert heartbeats.silence_s(dead) == 11


def test_a_host_with_a_slow_clock_keeps_its_runs_after_a_heartbeat(clocks: Clocks, heartbeats: Heartbeats) -> None:
    behind = timedelta(seconds=9)
    run = running(clocks.wall - behind)
    for _ in range(20):
        clocks.pass_(1.5)
        run.heartbeat_at = clocks.wall - behind
        assert heartbeats.silence_s(run) < 10
    clocks.pass_(8)
    assert heartbeats.silence_s(run) == 8, "watched, not told by its clock"


def test_ended_runs_are_removed_from_the_observations(clocks: Clocks, heartbeats: Heartbeats) -> None:
    heartbeats.silence_s(running(NOON))
    heartbeats.forget_all_but(set())
    assert not heartbeats._seen


@pytest.mark.parametrize(("ahead_s", "is_silent"), [(-11, True), (-9, False), (0, False), (9, False), (11, True)])
def test_a_heartbeat_of_the_future_is_shown_as_no_contact(clocks: Clocks, ahead_s: float, is_silent: bool) -> None:
    assert running(clocks.wall + timedelta(seconds=ahead_s)).is_silent is is_silent
