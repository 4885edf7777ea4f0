"""The cost of a pause, a stop and a kill: estimated from measurements."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from tests.helpers.tiny import make_run
from tests.helpers.world import store_events
from trainingapp.models import Checkpoint, Dataset, Device, DeviceHold, Host, RunEvent, TrainingRun
from trainingapp.runs.pause_cost import Known, ends_in, estimated_bytes, pause_cost, pause_cost_of, read_known
from trainingapp.scheduling.forecast import Span, wait_if_queued

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def saved(run: TrainingRun, **fields: Any) -> Checkpoint:
    values = {"file": f"{fields.get('step', 50)}.pt", "attempt": 1, "epoch": 5, "step": 50, "reason": "epoch"}
    values |= {"size_bytes": 1000, "sha256": "0" * 64, "created_at": timezone.now()}
    return Checkpoint.objects.create(run=run, **{**values, **fields})


def ended(run: TrainingRun, seconds: float, wish: str = "pause", to: str = "paused") -> None:
    """The events of a request and of its completion after so many seconds."""
    now = timezone.now()
    asked = {"type": "status", "time": now, "data": {"wanted": wish, "by": "ada"}}
    done = {"type": "status", "time": now + timedelta(seconds=seconds), "data": {"from": "running", "to": to}}
    store_events(run, asked, done)


# From what is known


def test_a_kill_loses_the_steps_after_the_newest_checkpoint_and_a_pause_or_stop_none() -> None:
    found = pause_cost(70, 35.0, Known(saved_step=50, bytes=1000, ends_s=(5.0, 3.0, 4.0)))
    assert (found.pause.steps_lost, found.pause.bytes, found.pause.seconds) == (0, 1000, 4.0)
    assert found.stop == found.pause
    assert (found.kill.steps_lost, found.kill.repeat_s, found.kill.bytes) == (20, 10.0, 0)


def test_without_a_checkpoint_a_kill_loses_everything() -> None:
    assert pause_cost(70, 35.0, Known()).kill.steps_lost == 70


def test_before_the_first_step_there_is_nothing_to_lose() -> None:
    found = pause_cost(0, 0.0, Known())
    assert (found.kill.steps_lost, found.kill.repeat_s) == (0, None)


def test_without_measurements_the_cost_is_unknown() -> None:
    found = pause_cost(70, 35.0, Known())
    assert (found.pause.bytes, found.pause.seconds, found.wait) == (None, None, None)


def test_the_newest_measurements_have_the_highest_weight() -> None:
    assert pause_cost(1, 1.0, Known(ends_s=(2.0, 2.0, 2.0, 2.0, 2.0, 90.0, 90.0))).pause.seconds == 2.0


def test_a_request_that_was_not_carried_out_is_not_measured() -> None:
    now = timezone.now()
    rows = [
        RunEvent(time=now, data={"wanted": "pause"}),
        RunEvent(time=now + timedelta(seconds=9), data={"from": "running", "to": "completed"}),
        RunEvent(time=now + timedelta(seconds=20), data={"wanted": "pause"}),
        RunEvent(time=now + timedelta(seconds=21), data={"wanted": "stop"}),
        RunEvent(time=now + timedelta(seconds=24), data={"from": "running", "to": "stopped"}),
    ]
    assert [seconds for _when, seconds in ends_in(rows)] == [4.0]


# How it is learnt


def test_the_size_is_that_of_the_newest_valid_checkpoint(make: MAKE) -> None:
    run = make("running")
    saved(run, step=10, size_bytes=500)
    saved(run, step=20, size_bytes=600, stored_bytes=100)
    saved(run, step=30, size_bytes=700, damage="its hash does not hold")
    known = read_known(run)
    assert (known.saved_step, known.bytes, known.is_estimate) == (20, 100, False)


def test_two_checkpoints_of_one_step_share_parts_and_give_no_size(make: MAKE) -> None:
    run = make("running")
    saved(run, file="epoch_2.pt", step=20, size_bytes=600, stored_bytes=2)
    saved(run, file="step_20.pt", step=20, size_bytes=600, stored_bytes=1)
    assert read_known(run).bytes == 600
    saved(run, file="epoch_1.pt", step=10, size_bytes=600, stored_bytes=300)
    assert read_known(run).bytes == 300


def test_without_a_checkpoint_the_size_is_that_of_a_similar_run(make: MAKE) -> None:
    saved(make("completed"), size_bytes=700)
    known = read_known(make("running"))
    assert (known.bytes, known.is_estimate) == (700, True)


def test_without_a_similar_run_the_size_is_estimated_from_the_parameters(make: MAKE) -> None:
    run = make("running")
    assert read_known(run).bytes == estimated_bytes("classification", run.config)
    resnet = {"model": "resnet18", "optimizer": "AdamW", "ema_decay": 0.0}
    assert estimated_bytes("classification", resnet) == 11_689_512 * 3 * 4
    assert estimated_bytes("classification", {**resnet, "optimizer": "SGD", "ema_decay": 0.9}) == 11_689_512 * 3 * 4
    assert estimated_bytes("classification", {"model": "of nobody"}) is None


def test_the_time_is_measured_on_the_run_or_one_with_its_network(make: MAKE) -> None:
    run, other = make("running"), make("stopped")
    assert read_known(run).ends_s == ()
    ended(other, 7.0, "stop", "stopped")
    assert read_known(run).ends_s == (7.0,)
    ended(run, 3.0)
    assert read_known(run).ends_s == (3.0,)


def test_the_newest_checkpoint_is_used_immediately(make: MAKE) -> None:
    run = make("running", step=70, elapsed_s=7.0)
    assert pause_cost_of(run).kill.steps_lost == 70
    saved(run, step=65)
    assert pause_cost_of(run).kill.steps_lost == 5


def test_the_queue_is_read_once_for_all_runs_that_are_watched(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [make("running") for _number in range(3)]
    monkeypatch.setattr("trainingapp.runs.pause_cost.KNOWN_S", 3600.0)
    pause_cost_of(runs[0])
    read: list[int] = []
    monkeypatch.setattr("trainingapp.runs.pause_cost.read_board", lambda: read.append(1))
    for run in runs:
        assert pause_cost_of(run).pause.steps_lost == 0
    assert read == []


# When a place is free


@pytest.fixture
def cpu(db: None) -> Device:
    host = Host.objects.create(name="here", worker="here:1:1", slots=1, seen_at=timezone.now())
    return Device.objects.create(host=host, kind="cpu")


def holding(run: TrainingRun, device: Device) -> TrainingRun:
    DeviceHold.objects.create(device=device, run=run, run_name=run.name, slots=1, taken_at=timezone.now())
    return run


def test_a_device_without_waiting_runs_is_available_immediately(make: MAKE, cpu: Device) -> None:
    assert wait_if_queued(holding(make("running"), cpu)) == Span(0.0, 0.0)


def test_waiting_runs_get_the_device_first(make: MAKE, cpu: Device, user: User, dataset: Dataset) -> None:
    run = holding(make("running"), cpu)
    make("completed", epoch=20, elapsed_s=160.0, finished_at=timezone.now(), device="cpu")
    waiting = make_run(user, dataset, "waiting", start=True)
    wait = wait_if_queued(run)
    assert 0 < wait.low <= wait.high
    assert wait.is_known
    assert waiting.status == "queued"


def test_behind_a_run_without_history_the_time_is_unknown(
    make: MAKE, cpu: Device, user: User, dataset: Dataset
) -> None:
    run = holding(make("running"), cpu)
    make_run(user, dataset, "waiting", start=True)
    assert not wait_if_queued(run).is_known
    assert read_known(run).wait is None


def test_a_paused_run_waits_for_the_one_that_trains(make: MAKE, cpu: Device) -> None:
    holding(make("running", eta_s=60.0, started_at=timezone.now()), cpu)
    wait = wait_if_queued(make("paused"))
    assert 0 < wait.low < 60 < wait.high
