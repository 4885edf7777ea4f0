"""Trainers that hang, do not respond or reach their time limit, with a simulated clock."""

from typing import Any

import pytest

from trainingapp.models import TrainingRun
from trainingapp.supervision.watchdog import Watchdog


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watchdog(clock: Clock, settings: Any) -> Watchdog:
    settings.HANG_MINUTES, settings.STOP_GRACE_S = 15, 120
    settings.SOFT_TIME_LIMIT_HOURS, settings.HARD_TIME_LIMIT_HOURS = 12, 24
    return Watchdog(clock)


def test_a_quiet_trainer_hangs_after_the_limit_and_not_before(clock: Clock, watchdog: Watchdog) -> None:
    run = TrainingRun()
    clock.now += 15 * 60
    assert watchdog.verdict(run) is None
    clock.now += 1
    assert watchdog.verdict(run) == "hang"
    watchdog.note_event()
    assert watchdog.verdict(run) is None


def test_a_trainer_with_long_steps_gets_a_longer_limit(clock: Clock, watchdog: Watchdog) -> None:
    clock.now += 14 * 60
    watchdog.note_event()
    clock.now += 40 * 60
    assert watchdog.verdict(TrainingRun()) is None
    clock.now += 3 * 60
    assert watchdog.verdict(TrainingRun()) == "hang"


def test_the_limits_for_hanging_and_grace_can_be_disabled(clock: Clock, watchdog: Watchdog, settings: Any) -> None:
    settings.HANG_MINUTES = settings.STOP_GRACE_S = 0
    clock.now += 1e6
    assert watchdog.verdict(TrainingRun(requested_action="stop")) is None


def test_the_grace_period_starts_with_the_request(clock: Clock, watchdog: Watchdog) -> None:
    run = TrainingRun()
    clock.now += 600
    run.requested_action = "pause"
    assert watchdog.verdict(run) is None
    clock.now += 119
    run.requested_action = "stop"
    assert watchdog.verdict(run) is None
    clock.now += 119
    assert watchdog.verdict(run) is None
    clock.now += 2
    assert watchdog.verdict(run) == "unanswered"


def test_a_force_stop_takes_effect_immediately(watchdog: Watchdog) -> None:
    assert watchdog.verdict(TrainingRun(requested_action="kill")) == "forced"


def test_the_soft_limit_acts_once_then_the_grace_period_then_the_hard_limit(clock: Clock, watchdog: Watchdog) -> None:
    run = TrainingRun(spent_s=12 * 3600 - 1.0)
    assert watchdog.verdict(run) is None
    run.spent_s = 12 * 3600.0
    assert watchdog.verdict(run) == "soft_limit"
    assert watchdog.verdict(run) is None
    clock.now += 121
    assert watchdog.verdict(run) == "unanswered"
    run.spent_s = 24 * 3600.0
    assert watchdog.verdict(run) == "hard_limit"


def test_the_limits_of_a_run_override_those_of_the_studio(watchdog: Watchdog) -> None:
    assert watchdog.verdict(TrainingRun(spent_s=20.0, soft_limit_h=0.001)) == "soft_limit"
    assert watchdog.verdict(TrainingRun(spent_s=1e9, soft_limit_h=0, hard_limit_h=0)) is None
