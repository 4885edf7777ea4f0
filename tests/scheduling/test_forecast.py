"""Forecasts: estimated from a history, simulated, stored, and compared with the outcome.

Every history here is made so that the right answer can be computed by hand.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.helpers.machines import asking, hold, machine
from trainingapp.models import Dataset, Device, Forecast, Host, TrainingRun
from trainingapp.scheduling import forecast
from trainingapp.scheduling.forecast import Hardware, History, Span, Traits
from trainingapp.worker import tasks

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db

TRAITS: Traits = {
    "task": "classification",
    "model": "resnet18",
    "dataset": 1,
    "image_size": 224,
    "kind": "gpu",
    "gpu": "NVIDIA H200",
    "amp": "False",
    "devices": 1,
}
CPU = Hardware("cpu")
SECOND = timedelta(seconds=1)


def completed(make: MAKE, elapsed_s: float, **fields: Any) -> TrainingRun:
    """A completed run over 10 epochs of the 8 images of the dataset: 80 images in so many seconds."""
    values = {"epoch": 10, "device": "cpu", "config": asking(), "finished_at": timezone.now(), **fields}
    return make("completed", elapsed_s=elapsed_s, **values)


def queued(make: MAKE, name: str = "waiting", **fields: Any) -> TrainingRun:
    rank = float(TrainingRun.objects.count())
    values = {"config": asking(device="cpu"), "total_epochs": 10, **fields}
    return make("queued", name=name, queue_rank=rank, queued_at=timezone.now() - SECOND, **values)


def running(make: MAKE, on: Device, eta_s: float | None, **fields: Any) -> TrainingRun:
    values = {"heartbeat_at": timezone.now(), "config": asking(), "device": on.torch_name, "total_epochs": 10, **fields}
    run = make("running", eta_s=eta_s, **values)
    hold(run, on)
    return run


# Learning


def test_the_most_specific_class_with_an_example_is_used() -> None:
    examples = [
        (TRAITS, 1.0),
        (TRAITS, 3.0),
        ({**TRAITS, "dataset": 2}, 10.0),
        ({**TRAITS, "amp": "True"}, 0.5),
        ({**TRAITS, "gpu": "NVIDIA T4"}, 20.0),
        ({**TRAITS, "model": "resnet50"}, 40.0),
    ]
    history = History.of(examples)
    assert history.rate(TRAITS) == (Span(1.0 / 1.1, 3.0 * 1.1), 2)
    assert history.rate({**TRAITS, "dataset": 9}) == (Span(1.0 / 1.25, 10.0 * 1.25), 3)
    assert history.rate({**TRAITS, "amp": "other"}) == (Span(0.5 / 1.6, 10.0 * 1.6), 4)
    assert history.rate({**TRAITS, "gpu": "other"}) == (Span(0.5 / 2.0, 20.0 * 2.0), 5)
    assert history.rate({**TRAITS, "model": "other"}) == (Span(0.5 / 2.5, 40.0 * 2.5), 6)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("cpu", CPU),
        ("", CPU),
        ("cuda:1", Hardware("gpu", "")),
        ("cuda:1 (NVIDIA H200)", Hardware("gpu", "NVIDIA H200")),
        ("cuda:0 (NVIDIA TITAN X (Pascal))", Hardware("gpu", "NVIDIA TITAN X (Pascal)")),
    ],
)
def test_what_a_run_was_trained_on(device: str, expected: Hardware) -> None:
    assert Hardware.of(device) == expected


def test_a_run_is_estimated_for_the_gpu_that_it_would_get(make: MAKE) -> None:
    """Of two hosts with a GPU each, the runs on the first one's kind of GPU were ten times as fast."""
    for name in ("NVIDIA H200", "NVIDIA T4"):
        host = machine(name, gpus=1)
        host.devices.filter(kind="gpu").update(name=name)
    completed(make, 88.0, device="cuda:0 (NVIDIA H200)")
    completed(make, 880.0, device="cuda:0 (NVIDIA T4)")
    Host.objects.filter(name="NVIDIA T4").update(seen_at=timezone.now() - timedelta(days=1))
    assert seconds(queued(make, config=asking(device="cuda")), timezone.now()) == [0.0, 0.0, 80.0, 96.8]
    Host.objects.filter(name="NVIDIA H200").update(seen_at=timezone.now() - timedelta(days=1))
    Host.objects.filter(name="NVIDIA T4").update(seen_at=timezone.now())
    assert seconds(TrainingRun.objects.get(status="queued"), timezone.now()) == [0.0, 0.0, 800.0, 968.0]


@pytest.mark.parametrize("change", [{"task": "detection"}, {"kind": "cpu"}])
def test_other_tasks_and_device_kinds_are_ignored(change: dict[str, Any]) -> None:
    span, basis = History.of([(TRAITS, 1.0)]).rate({**TRAITS, **change})
    assert basis == 0
    assert not span.is_known


def test_a_rate_is_seconds_per_image_and_epoch(make: MAKE, dataset: Dataset) -> None:
    completed(make, 160.0)
    completed(make, 320.0, device="cuda:0 (NVIDIA H100)")
    make("stopped", elapsed_s=999.0, epoch=1, config=asking(), finished_at=timezone.now())
    history = forecast.read_history()
    traits = {**TRAITS, "dataset": dataset.pk, "image_size": 32}
    assert history.rate({**traits, "kind": "cpu", "gpu": ""}) == (Span(2.0 / 1.1, 2.0 * 1.1), 1)
    assert history.rate({**traits, "gpu": "NVIDIA H100"}) == (Span(4.0 / 1.1, 4.0 * 1.1), 1)


def test_completed_epochs_need_no_time_and_early_stopping_may_end_earlier(make: MAKE, dataset: Dataset) -> None:
    completed(make, 88.0)  # 1.1 seconds per image: 1 to 1.21
    history = forecast.read_history()

    def span(**fields: Any) -> list[float]:
        found, basis = forecast.duration(queued(make, **fields), dataset, history, CPU)
        assert basis == 1
        return [round(found.low, 6), round(found.high, 6)]

    assert span() == [80.0, 96.8]
    assert span(step=50, total_steps=100) == [40.0, 48.4]
    assert span(config=asking(early_stopping_epochs=2)) == [24.0, 96.8]


# Playing the queue through


def seconds(run: TrainingRun, now: Any) -> list[float | None]:
    found = forecast.expected(now)[run.pk]
    times = (found.start_earliest, found.start_latest, found.finish_earliest, found.finish_latest)
    return [None if each is None else round((each - now).total_seconds(), 3) for each in times]


def test_a_free_device_and_a_history(make: MAKE) -> None:
    machine(slots=1)
    completed(make, 88.0)
    assert seconds(queued(make), timezone.now()) == [0.0, 0.0, 80.0, 96.8]


def test_one_after_the_other(make: MAKE) -> None:
    """60 s by the trainer's own estimate (50 to 72), then 80 to 96.8 each."""
    host = machine(slots=1)
    completed(make, 88.0)
    running(make, host.devices.get(), 60.0)
    first, second = queued(make, "first"), queued(make, "second")
    now = timezone.now()
    assert seconds(first, now) == [50.0, 72.0, 130.0, 168.8]
    assert seconds(second, now) == [130.0, 168.8, 210.0, 265.6]


def test_runs_behind_a_large_run_wait_for_it(make: MAKE) -> None:
    """The rule of the scheduler: the free slot is reserved, so the small run starts after the large one."""
    host = machine(slots=2)
    completed(make, 88.0)
    running(make, host.devices.get(), 60.0)
    large = queued(make, "large", config=asking(device="cpu", device_count=2))
    small = queued(make, "small")
    now = timezone.now()
    assert seconds(large, now) == [50.0, 72.0, 130.0, 168.8]
    assert seconds(small, now) == [130.0, 168.8, 210.0, 265.6]


def test_a_run_that_may_not_start_yet(make: MAKE) -> None:
    machine(slots=1)
    completed(make, 88.0)
    now = timezone.now()
    later, other = queued(make, "later", not_before=now + timedelta(seconds=20)), queued(make, "other")
    assert seconds(other, now) == [0.0, 0.0, 80.0, 96.8]
    assert seconds(later, now) == [80.0, 96.8, 160.0, 193.6]


def test_a_running_run_without_an_estimate_is_estimated_from_similar_runs(make: MAKE) -> None:
    host = machine(slots=1)
    completed(make, 88.0)
    running(make, host.devices.get(), None, step=50, total_steps=100)
    assert seconds(queued(make), timezone.now()) == [40.0, 48.4, 120.0, 145.2]


def test_without_a_history_only_the_start_is_known(make: MAKE) -> None:
    machine(slots=1)
    first, second = queued(make, "first"), queued(make, "second")
    now = timezone.now()
    assert seconds(first, now) == [0.0, 0.0, None, None]
    assert seconds(second, now) == [None] * 4
    assert forecast.expected(now)[first.pk].basis == 0


@pytest.mark.parametrize("away", [True, False])
def test_a_run_that_cannot_start_has_no_forecast(make: MAKE, away: bool) -> None:
    machine(away=away)
    completed(make, 88.0)
    run = queued(make, config=asking(device="cpu" if away else "cuda"))
    assert seconds(run, timezone.now()) == [None] * 4


def test_a_gpu_is_available_after_its_run_even_if_the_last_reading_is_older(make: MAKE) -> None:
    host = machine(slots=2, gpus=1, memory_gb=24)
    device = host.devices.get(kind="gpu")
    Device.objects.filter(pk=device.pk).update(memory_free_bytes=1)
    completed(make, 88.0, device="cuda:0 (NVIDIA Test)")
    running(make, device, 60.0)
    run = queued(make, config=asking(device="cuda", min_free_memory_gb=20))
    assert seconds(run, timezone.now()) == [50.0, 72.0, 130.0, 168.8]


def test_the_limit_of_a_user_is_simulated(make: MAKE, settings: Any) -> None:
    settings.MAX_RUNS_PER_USER = 1
    machine(slots=4)
    completed(make, 88.0)
    first, second = queued(make, "first"), queued(make, "second")
    now = timezone.now()
    assert seconds(first, now)[:2] == [0.0, 0.0]
    assert seconds(second, now)[:2] == [80.0, 96.8]


# Keeping and comparing


def test_a_forecast_is_stored_again_only_after_a_large_change(make: MAKE) -> None:
    host = machine(slots=1)
    completed(make, 880.0)
    ahead = running(make, host.devices.get(), 600.0)
    run = queued(make)
    assert forecast.is_missing()
    now = timezone.now()
    forecast.keep_up(now)
    assert not forecast.is_missing()
    forecast.keep_up(now + SECOND)
    assert Forecast.objects.count() == 1
    stored = Forecast.objects.get()
    assert (stored.run, stored.basis, stored.made_at) == (run, 1, now)
    TrainingRun.objects.filter(pk=ahead.pk).update(eta_s=3000.0)
    forecast.keep_up(now + 2 * SECOND)
    assert Forecast.objects.count() == 2
    newest = forecast.newest_forecast(run)
    assert newest is not None
    assert newest.start_earliest == now + 2 * SECOND + timedelta(seconds=2500)
    assert forecast.newest_forecasts() == {run.pk: newest}


def test_a_run_that_is_queued_again_is_forecast_again(make: MAKE) -> None:
    machine(slots=1)
    run = queued(make)
    forecast.keep_up()
    run.transition("paused")
    assert forecast.newest_forecast(run) is None
    run.transition("queued")
    assert forecast.is_missing()
    assert forecast.newest_forecast(run) is None


def test_actual_times_are_filled_in(make: MAKE) -> None:
    host = machine(slots=1)
    run = queued(make)
    made = timezone.now()
    row = Forecast.objects.create(run=run, made_at=made)
    forecast.fill_in()
    row.refresh_from_db()
    assert row.started_at is None
    run.transition("running", attempt=1)
    taken = hold(run, host.devices.get(), taken_at=made + SECOND).taken_at
    hold(run, host.devices.get(), taken_at=made - SECOND, released_at=made)
    forecast.fill_in()
    row.refresh_from_db()
    assert (row.started_at, row.finished_at) == (taken, None)
    run.transition("completed")
    tasks.health_check.call_local()
    row.refresh_from_db()
    assert row.finished_at == run.finished_at


def test_stopped_runs_are_excluded_from_the_accuracy(make: MAKE) -> None:
    run = queued(make)
    Forecast.objects.create(run=run, made_at=timezone.now())
    run.transition("stopped")
    forecast.fill_in()
    assert Forecast.objects.get().finished_at is None


def test_the_error_of_past_forecasts(make: MAKE) -> None:
    """Off by 0, 60 and 300 s; the last is outside its range. Only the first forecast of each run counts."""
    assert forecast.accuracy() is None
    end = timezone.now()
    for error_s in (0, 60, 300):
        run = make("completed")
        told = {"finish_earliest": end - timedelta(seconds=120), "finish_latest": end + timedelta(seconds=120)}
        truth = end + timedelta(seconds=error_s)
        Forecast.objects.create(run=run, made_at=end - timedelta(hours=2), finished_at=truth, **told)
        late = {"finish_earliest": truth, "finish_latest": truth}
        Forecast.objects.create(run=run, made_at=end - timedelta(hours=1), finished_at=truth, **late)
    found = forecast.accuracy()
    assert found is not None
    assert (found.count, found.within, found.error_s) == (3, 2, 60.0)


def test_the_last_twenty_forecasts_are_evaluated(make: MAKE) -> None:
    end = timezone.now()
    for number in range(25):
        run = make("completed")
        truth = end + timedelta(seconds=number)
        off = timedelta(seconds=0 if number >= 5 else 9999)
        told = {"finish_earliest": truth - off - SECOND, "finish_latest": truth - off + SECOND}
        Forecast.objects.create(run=run, made_at=end, finished_at=truth, **told)
    found = forecast.accuracy()
    assert found is not None
    assert (found.count, found.within) == (20, 20)


def test_gpus_share_the_work_where_no_run_on_as_many_was_measured(make: MAKE, dataset: Dataset) -> None:
    single = completed(make, 160.0, device="cuda:0 (NVIDIA Test)", attempt=1)
    host = machine(slots=8, gpus=4)
    hold(single, host.devices.get(kind="gpu", index=0), released_at=timezone.now())
    gang = queued(make, config=asking(device="cuda", device_count=4, accumulation_steps=4))
    now = timezone.now()
    quarter = [0.0, 0.0, 160.0 / 1.6 / 4, 160.0 * 1.6 / 4]
    assert seconds(gang, now) == quarter
    pair = completed(make, 100.0, device="cuda:0, cuda:1 (NVIDIA Test)", attempt=1)
    for index in (0, 1):
        hold(pair, host.devices.get(kind="gpu", index=index), released_at=timezone.now())
    two = queued(make, "two", config=asking(device="cuda", device_count=2, accumulation_steps=2))
    span, basis = forecast.duration(two, dataset, forecast.read_history(), Hardware("gpu", "NVIDIA Test", 2))
    assert (round(span.low, 3), round(span.high, 3), basis) == (90.909, 110.0, 1)
    assert seconds(gang, now) == [0.0, 0.0, round(160.0 / 1.6 / 4, 3), round(200.0 * 1.6 / 4, 3)]


def test_a_gang_waits_for_the_last_of_its_devices_and_small_runs_behind_it(make: MAKE) -> None:
    host = machine(slots=8, gpus=2)
    completed(make, 88.0, device="cuda:0 (NVIDIA Test)")
    for index, eta_s in enumerate((60.0, 600.0)):
        running(make, host.devices.get(kind="gpu", index=index), eta_s)
    gang = queued(make, config=asking(device="cuda", device_count=2, accumulation_steps=2))
    small = queued(make, "small", config=asking(device="cuda"))
    now = timezone.now()
    assert seconds(gang, now)[:2] == [500.0, 720.0]
    assert seconds(small, now)[:2] == seconds(gang, now)[2:]
