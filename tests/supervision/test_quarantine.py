"""GPUs that get no more runs: what puts them in quarantine, what releases them, and where a run is retried."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psutil
import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from tests.helpers.machines import asking, hold, machine
from trainingapp.contract.device_report import Trouble, failed_report
from trainingapp.contract.events import Ended, Failed
from trainingapp.models import AuditEntry, Device, DeviceHold, Notification, Occurrence, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.presentation.messages import text_of
from trainingapp.scheduling.quarantine import quarantine, release
from trainingapp.scheduling.scheduler import claim_next, why_waiting
from trainingapp.supervision import device_checks
from trainingapp.supervision.device_checks import due_devices, store
from trainingapp.supervision.event_store import EventStore
from trainingapp.supervision.identity import HOST
from trainingapp.supervision.outcome import End
from trainingapp.supervision.supervision import settle

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db

GPU_ERROR = Failed(error_class="device_error", message="CUDA error", lines=[])
UNAVAILABLE = Failed(error_class="device_unavailable", message="torch cannot use cuda:0", lines=[])
BAD_DATA = Failed(error_class="bad_data", message="no image", lines=[])


def gpu(index: int = 0) -> Device:
    return Device.objects.get(kind="gpu", index=index)


def attempt(
    make: MAKE, final: Ended | Failed | None, *, on: int = 0, run: TrainingRun | None = None, **end: Any
) -> TrainingRun:
    """An attempt of a new run, or of this one, on a GPU, that ended so."""
    run = run or make("pending", config=asking(device="cuda"))
    fields = {"status": "running", "attempt": run.attempt + 1, "host": "here", "worker": "w"}
    TrainingRun.objects.filter(pk=run.pk).update(**fields, heartbeat_at=timezone.now(), device=f"cuda:{on}")
    run.refresh_from_db()
    hold(run, gpu(on))
    settle(EventStore(run), End(final, exit_code=1, **end))
    run.refresh_from_db()
    return run


def is_quarantined(index: int = 0) -> bool:
    return gpu(index).quarantined_at is not None


def check(trouble: Trouble = "") -> None:
    store(gpu().pk, failed_report(trouble, "why"))


# What puts a GPU in quarantine


def test_errors_of_two_runs_in_a_row(make: MAKE, admin: User) -> None:
    machine(gpus=2)
    first = attempt(make, GPU_ERROR)
    assert not is_quarantined()
    second = attempt(make, GPU_ERROR)
    device = gpu()
    assert (is_quarantined(0), is_quarantined(1), device.quarantine_cause) == (True, False, "errors")
    assert set(DeviceHold.objects.values_list("error_class", flat=True)) == {"device_error"}
    entry = AuditEntry.objects.get(verb="quarantine")
    assert (entry.kind, entry.object_name, entry.source) == ("device", "here cuda:0", "system")
    assert entry.details == {"cause": "errors", "runs": [first.pk, second.pk]}
    occurrence = Occurrence.objects.get(event="device_quarantined")
    assert "cuda:0 (NVIDIA Test) on here gets no more runs." in text_of(occurrence.message_data)
    assert Notification.objects.get(occurrence=occurrence).user == admin


def test_errors_of_one_run_prove_nothing(make: MAKE) -> None:
    machine(gpus=1)
    run = attempt(make, GPU_ERROR)
    attempt(make, GPU_ERROR, run=run)
    assert not is_quarantined()
    attempt(make, BAD_DATA)
    assert not is_quarantined(), "another failure says nothing about the GPU"
    attempt(make, GPU_ERROR)
    assert is_quarantined()


@pytest.mark.parametrize("between", ["completed", "paused"])
def test_a_run_that_ended_well_breaks_the_row(make: MAKE, between: Any) -> None:
    machine(gpus=1)
    attempt(make, GPU_ERROR)
    attempt(make, Ended(state=between))
    attempt(make, GPU_ERROR)
    assert not is_quarantined()


def test_a_run_without_a_gpu_has_no_part_in_it(make: MAKE) -> None:
    host = machine(gpus=1)
    cpu = host.devices.get(kind="cpu")
    for _ in range(2):
        run = make("running", host="here", worker="w", heartbeat_at=timezone.now())
        hold(run, cpu)
        settle(EventStore(run), End(GPU_ERROR, exit_code=1))
    assert not Device.objects.filter(quarantined_at__isnull=False).exists()


def test_a_trainer_that_does_not_end_is_enough(make: MAKE) -> None:
    machine(gpus=1)
    process = {"pid": os.getpid(), "create_time": psutil.Process().create_time(), "host": HOST}
    run = attempt(make, None, cause="forced", stuck_process=process)
    assert (run.status, run.error_class) == ("queued", "stuck_trainer")
    assert (gpu().quarantine_cause, gpu().stuck_process) == ("stuck", process)
    assert f"(process {os.getpid()})" in text_of(gpu().quarantine_data)


def test_a_gpu_that_torch_cannot_use_is_checked_and_the_run_placed_elsewhere(make: MAKE) -> None:
    machine(gpus=2, slots=4)
    run = attempt(make, UNAVAILABLE)
    assert (run.status, run.error_class, run.not_before) == ("queued", "device_unavailable", None)
    assert (gpu().problem, is_quarantined()) == ("unchecked", False)
    claimed = claim_next("here", "here:1:2")
    assert claimed is not None
    assert (claimed.pk, claimed.device) == (run.pk, "cuda:1")


# What it means


def test_it_gets_no_more_runs_and_the_queue_says_why(make: MAKE, user: User) -> None:
    machine(gpus=1)
    run = make("queued", queued_at=timezone.now(), config=asking(device="cuda"))
    quarantine(gpu(), "fan broken", by=user)
    assert claim_next("here", "here:1:2") is None
    reason = f"cuda:0 on here cannot be used now. It was put in quarantine by {user.username}. fan broken"
    assert why_waiting(run) == reason
    automatic = make("queued", queued_at=timezone.now(), config=asking())
    assert claim_next("here", "here:1:2") is None, "not on the CPU either"
    assert why_waiting(automatic).endswith("to do so, choose the device cpu.")


def test_a_run_is_retried_on_another_gpu(make: MAKE) -> None:
    machine(gpus=2, slots=4)
    Device.objects.filter(index=1, kind="gpu").update(memory_free_bytes=1)  # the first one would be preferred
    run = attempt(make, GPU_ERROR, on=0)
    TrainingRun.objects.filter(pk=run.pk).update(not_before=None)
    other = make("queued", queued_at=timezone.now(), queue_rank=9, config=asking(device="cuda"))
    claimed = [claim_next("here", "here:1:2") for _ in range(2)]
    assert [(each.pk, each.device) for each in claimed if each] == [(run.pk, "cuda:1"), (other.pk, "cuda:0")]


def test_a_run_waits_for_another_gpu_rather_than_return_to_the_one_that_failed(make: MAKE) -> None:
    machine(gpus=2, slots=4)
    busy = make("running", name="busy", host="here", heartbeat_at=timezone.now())
    hold(busy, gpu(1))
    run = attempt(make, GPU_ERROR, on=0)
    TrainingRun.objects.filter(pk=run.pk).update(not_before=None)
    run.refresh_from_db()
    assert claim_next("here", "here:1:2") is None
    assert why_waiting(run) == "cuda:1 on here is used by “busy”."
    Device.objects.filter(index=1, kind="gpu").update(problem="lost")
    claimed = claim_next("here", "here:1:2")
    assert claimed is not None, "where there is no other, it is tried there again"
    assert claimed.device == "cuda:0"


# What releases it


def quarantined_for_errors(make: MAKE) -> None:
    attempt(make, GPU_ERROR)
    attempt(make, GPU_ERROR)
    assert is_quarantined()


def test_it_is_checked_after_a_wait_and_released_when_it_passes(make: MAKE) -> None:
    machine(gpus=1)
    quarantined_for_errors(make)
    assert due_devices("here") == []
    Device.objects.filter(kind="gpu").update(check_at=timezone.now())
    assert [device.pk for device in due_devices("here")] == [gpu().pk]
    check("error")
    assert (is_quarantined(), gpu().problem, due_devices("here")) == (True, "error", [])
    check()
    assert (is_quarantined(), gpu().problem, gpu().check_at) == (False, "", None)
    assert AuditEntry.objects.filter(verb="release").count() == 1
    attempt(make, GPU_ERROR)
    assert not is_quarantined(), "errors from before the release do not count again"


def test_each_further_quarantine_waits_longer_until_a_run_ends_well(make: MAKE) -> None:
    machine(gpus=1)
    waits = []
    for _ in range(3):
        quarantined_for_errors(make)
        due = gpu().check_at
        assert due is not None
        waits.append(round((due - timezone.now()) / timedelta(minutes=10)))
        check()
    assert waits == [1, 2, 4]
    attempt(make, Ended(state="completed"))
    assert gpu().quarantines == 0


def test_a_check_reads_memory_too(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(gpus=1)
    asked: list[list[str]] = []

    def probe(arguments: Any, *, uuid: str = "") -> Any:
        asked.append(list(arguments))
        return failed_report("", "")

    monkeypatch.setattr(device_checks, "run_probe", probe)
    quarantined_for_errors(make)
    device_checks.probe(gpu(), with_memory=gpu().quarantined_at is not None)
    assert asked == [["0", "--memory"]]


def test_it_is_not_checked_while_a_process_hangs_in_its_driver(make: MAKE) -> None:
    machine(gpus=1)
    process = {"pid": os.getpid(), "create_time": psutil.Process().create_time(), "host": HOST}
    attempt(make, None, stuck_process=process)
    Device.objects.filter(kind="gpu").update(check_at=timezone.now())
    assert due_devices("here") == []
    Device.objects.filter(kind="gpu").update(stuck_process={**process, "create_time": 1.0})  # it has ended
    assert len(due_devices("here")) == 1


def test_an_administrator_puts_it_in_quarantine_and_releases_it(user: User) -> None:
    machine(gpus=1)
    quarantine(gpu(), by=user)
    with pytest.raises(VerbError, match="is already in quarantine"):
        quarantine(gpu(), by=user)
    check()
    assert is_quarantined(), "no check ends what a person has begun"
    assert due_devices("here") == []
    release(gpu(), by=user)
    assert (is_quarantined(), gpu().problem) == (False, "unchecked")
    assert len(due_devices("here")) == 1
    assert list(AuditEntry.objects.values_list("verb", "user")) == [("release", user.pk), ("quarantine", user.pk)]


@pytest.mark.parametrize(("kind", "words"), [("cpu", "Only GPUs"), ("gpu", "more than 200 characters")])
def test_what_cannot_be_put_in_quarantine(kind: str, words: str) -> None:
    host = machine(gpus=1)
    with pytest.raises(VerbError, match=words):
        quarantine(host.devices.get(kind=kind), "x" * 201)


def test_a_usable_gpu_cannot_be_released() -> None:
    machine(gpus=1)
    with pytest.raises(VerbError, match="can be used, or is being checked"):
        release(gpu())
    Device.objects.filter(kind="gpu").update(problem="timeout")
    assert release(gpu()).problem == "unchecked"
