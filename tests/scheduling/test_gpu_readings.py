"""What the studio makes of the answers of a driver, for their shapes on real machines (helpers/nvml.py)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.helpers import nvml
from tests.helpers.machines import asking
from tests.helpers.nvml import GB, H200_BYTES, RESERVED, Nvml, uuid
from trainingapp.contract.device_report import failed_report
from trainingapp.models import Device, Host, TrainingRun
from trainingapp.scheduling import inventory
from trainingapp.scheduling.gpus import GpuReading, read_driver, visible_gpus
from trainingapp.scheduling.scheduler import claim_next, why_waiting
from trainingapp.supervision import device_checks
from trainingapp.supervision.device_checks import due_devices

MAKE = Callable[..., TrainingRun]
GOOD = failed_report("", "")


@pytest.fixture(autouse=True)
def _torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a torch for CUDA, whichever one is installed here."""
    monkeypatch.setattr(inventory, "torch_has_cuda", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def read(machine: Nvml, monkeypatch: pytest.MonkeyPatch) -> list[GpuReading]:
    machine.install(monkeypatch)
    return read_driver().gpus


def refresh(machine: Nvml, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Read the machine; what torch has not tried yet passes its check."""
    machine.install(monkeypatch)
    host = inventory.refresh("here", "here:1:2")
    for device in due_devices("here"):
        device_checks.store(device.pk, GOOD)
    return host


def queued(make: MAKE, **config: Any) -> TrainingRun:
    rank = float(TrainingRun.objects.count())
    return make("queued", queue_rank=rank, queued_at=timezone.now(), config=asking(**config))


def claim() -> TrainingRun | None:
    return claim_next("here", "here:1:2")


def of(gpus: list[GpuReading], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(gpu, name) for name in names) for gpu in gpus]


# Reading


def test_a_healthy_gpu_has_all_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = read(nvml.healthy(1), monkeypatch)
    assert (found.uuid, found.name, found.problem) == (uuid(0), "NVIDIA H200", None)
    assert (found.memory_bytes, found.memory_free_bytes) == (H200_BYTES - RESERVED, H200_BYTES - RESERVED)
    assert (found.load, found.temperature_c, found.is_exclusive) == (0.0, 30.0, False)
    assert read_driver().version == "580.159.04"


def test_a_lost_gpu_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(nvml.lost(), monkeypatch)
    assert of(found, "uuid", "problem", "board") == [(uuid(0), None, 0), ("", "lost", 1), (uuid(2), None, 2)]
    assert "The driver has lost it (GPU is lost)." in str(found[1].explanation)


@pytest.mark.parametrize("call", sorted(nvml.ANSWERS))
@pytest.mark.parametrize("code", [3, 4, 15, 999])  # not supported, no permission, lost, unknown
def test_whatever_call_is_refused_the_other_gpu_is_read(call: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = nvml.healthy(2)
    machine.gpus[0].refused = {call: code}
    refused, other = read(machine, monkeypatch)
    assert (other.uuid, other.problem, other.memory_bytes) == (uuid(1), None, H200_BYTES - RESERVED)
    needed = {"nvmlDeviceGetUUID"} | ({"nvmlDeviceGetMemoryInfo"} if code not in (3, 4) else set())
    assert (refused.problem is not None) == (call in needed)


def test_a_divided_gpu_is_read_as_its_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(nvml.divided(), monkeypatch)
    assert of(found, "uuid", "board", "board_uuid", "problem") == [
        (uuid(0), 0, uuid(0), None),
        (uuid(0xA0, "MIG"), 1, uuid(1), None),
        (uuid(0xA1, "MIG"), 1, uuid(1), None),
        (uuid(2), 2, uuid(2), "no_slice"),
    ]
    assert of(found, "load", "temperature_c")[1] == (None, 30.0)
    assert found[2].memory_bytes == 69 * GB - RESERVED


def test_memory_may_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = read(nvml.without_memory_info(), monkeypatch)
    assert (found.memory_bytes, found.memory_free_bytes, found.problem) == (0, 0, None)


def test_processes_that_only_draw_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = nvml.display()
    machine.gpus[0].compute = [nvml.Process(2204, GB), nvml.Process(4711, None)]
    (found,) = read(machine, monkeypatch)
    kinds = {process.pid: (process.is_graphics, process.memory_bytes) for process in found.processes}
    assert kinds == {1811: (True, 3 * GB), 2204: (False, GB), 4711: (False, 0)}


def test_an_old_driver_is_read_by_the_calls_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = read(nvml.old_driver(), monkeypatch)
    assert (found.memory_bytes, found.memory_free_bytes, found.processes) == (H200_BYTES, H200_BYTES - RESERVED, ())
    assert found.problem is None


def test_gpus_are_in_the_order_of_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = nvml.healthy(3)
    machine.gpus[0].bus = 0xD8
    assert of(read(machine, monkeypatch), "uuid", "board") == [(uuid(1), 0), (uuid(2), 1), (uuid(0), 2)]


def test_a_driver_that_cannot_be_asked_is_a_problem_and_a_machine_without_one_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml.mismatch().install(monkeypatch)
    found = read_driver()
    assert (found.gpus, found.is_installed) == ([], True)
    assert "RM has detected an NVML/RM version mismatch" in str(found.explanation)
    Nvml(init_error=12).install(monkeypatch)
    assert not read_driver().is_installed


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (None, ["GPU 0", "MIG a0", "MIG a1", "GPU 2"]),
        ("1", ["MIG a0", "MIG a1"]),
        (uuid(1), ["MIG a0", "MIG a1"]),
        (uuid(0xA1, "MIG"), ["MIG a1"]),
        (f"{uuid(0xA1, 'MIG')},{uuid(0)}", ["MIG a1", "GPU 0"]),
        (f"1,{uuid(0xA1, 'MIG')}", ["MIG a0", "MIG a1"]),
        ("MIG-", []),
        (uuid(9, "MIG"), []),
    ],
)
def test_slices_are_visible_by_their_uuid_or_with_their_board(
    variable: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = read(nvml.divided(), monkeypatch)
    found = visible_gpus(gpus, variable)
    assert [f"{gpu.uuid[:3]} {int(gpu.uuid[4:12], 16):x}" for gpu in found] == expected


def test_the_only_lost_gpu_keeps_its_place_among_visible_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = read(nvml.lost(), monkeypatch)
    assert of(visible_gpus(gpus, f"{uuid(2)},{uuid(1)},{uuid(0)}"), "board") == [(2,), (1,), (0,)]


# The rows


@pytest.mark.django_db
@pytest.mark.parametrize("case", sorted(nvml.CASES))
def test_every_shape_is_stored_and_read_again_unchanged(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = nvml.CASES[case]()
    refresh(machine, monkeypatch)
    rows = list(Device.objects.values())
    refresh(machine, monkeypatch)
    assert [row | {"load": 0, "memory_free_bytes": 0} for row in Device.objects.values()] == [
        row | {"load": 0, "memory_free_bytes": 0} for row in rows
    ]


@pytest.mark.django_db
def test_a_gpu_that_is_lost_keeps_its_row_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(nvml.healthy(3), monkeypatch)
    row = Device.objects.get(uuid=uuid(1))
    refresh(nvml.lost(), monkeypatch)
    now = Device.objects.get(pk=row.pk)
    assert (now.problem, now.is_present, now.index, now.name) == ("lost", True, 1, "NVIDIA H200")
    assert now.memory_bytes == row.memory_bytes
    assert Device.objects.filter(kind="gpu").count() == 3


@pytest.mark.django_db
def test_a_row_follows_its_gpu_when_the_numbers_change(monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(nvml.healthy(3), monkeypatch)
    rows = dict(Device.objects.filter(kind="gpu").values_list("uuid", "pk"))
    Device.objects.filter(uuid=uuid(2)).update(is_shareable=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"2,{uuid(0)}")
    refresh(nvml.healthy(3), monkeypatch)
    present = Device.objects.filter(kind="gpu", is_present=True).order_by("index")
    assert list(present.values_list("pk", "index", "is_shareable")) == [
        (rows[uuid(2)], 0, False),
        (rows[uuid(0)], 1, True),
    ]
    assert not Device.objects.get(pk=rows[uuid(1)]).is_present


@pytest.mark.django_db
def test_a_driver_that_fails_is_explained_unless_the_machine_never_had_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refresh(Nvml(init_error=9), monkeypatch).gpu_problem == {}
    assert refresh(nvml.mismatch(), monkeypatch).gpu_problem["code"] == "gpu_driver_failed"
    assert refresh(nvml.healthy(), monkeypatch).gpu_problem == {}
    assert refresh(Nvml(init_error=9), monkeypatch).gpu_problem["code"] == "gpu_driver_failed"
    assert not Device.objects.filter(kind="gpu", is_present=True).exists()


@pytest.mark.django_db
def test_a_torch_without_cuda_uses_no_gpu(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "torch_has_cuda", lambda: False)
    refresh(nvml.healthy(1), monkeypatch)
    assert Device.objects.get(kind="gpu").problem == "cpu_build"
    explicit = queued(make, device="cuda")
    assert "is a build for CPUs" in why_waiting(explicit)
    automatic = queued(make)
    assert claim() == automatic
    assert TrainingRun.objects.get(pk=automatic.pk).device == "cpu"


# The scheduler over them


@pytest.mark.django_db
def test_a_lost_gpu_gets_no_run_and_the_others_do(make: MAKE, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.MAX_TRAINING_PROCESSES = 9
    refresh(nvml.lost(), monkeypatch)
    for _ in range(3):
        queued(make)
    assert sorted(run.device for run in (claim(), claim()) if run) == ["cuda:0", "cuda:2"]
    assert claim() is None
    waiting = TrainingRun.objects.get(status="queued")
    assert "cuda:1 on here cannot be used now. The driver has lost it" in why_waiting(waiting)


@pytest.mark.django_db
@pytest.mark.parametrize("then", ["lost", "mismatch"])
def test_an_automatic_run_waits_for_the_gpus_that_a_host_had_lately(
    then: str, make: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh(nvml.healthy(1), monkeypatch)
    machine = nvml.CASES[then]()
    if machine.gpus:
        machine.gpus = machine.gpus[1:2]
        machine.gpus[0].bus = 0x1B
    refresh(machine, monkeypatch)
    run = queued(make)
    assert claim() is None
    reason = why_waiting(run)
    expected = {
        "lost": "cuda:0 on here cannot be used now. The driver has lost it (GPU is lost).",
        "mismatch": "cuda:0 on here was there lately and is missing now. The GPU driver cannot be queried",
    }
    assert reason.startswith(expected[then])
    assert reason.endswith("The run does not train on the CPU instead; to do so, choose the device cpu.")
    on_the_cpu = queued(make, device="cpu")
    assert claim() == on_the_cpu
    long_ago = timezone.now() - timedelta(days=8)
    Device.objects.filter(kind="gpu").update(usable_at=long_ago)
    assert claim() == run, "a host whose GPU has been gone for a week is a host without one"


@pytest.mark.django_db
def test_gpus_that_somebody_has_hidden_are_not_waited_for(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(nvml.healthy(1), monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    refresh(nvml.healthy(1), monkeypatch)
    queued(make)
    run = claim()
    assert run is not None
    assert run.device == "cpu"


@pytest.mark.django_db
def test_slices_are_devices_of_their_own(make: MAKE, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.MAX_TRAINING_PROCESSES = 9
    refresh(nvml.divided(), monkeypatch)
    for _ in range(4):
        queued(make, device="cuda")
    assert {run.device for run in (claim(), claim(), claim()) if run} == {"cuda:0", "cuda:1", "cuda:2"}
    assert claim() is None
    assert "It is divided (MIG), but has no instance." in why_waiting(TrainingRun.objects.get(status="queued"))


@pytest.mark.django_db
def test_a_gpu_of_unknown_memory_is_assigned_and_not_shared(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(nvml.without_memory_info(), monkeypatch)
    wish = {"device": "cuda", "share_device": True, "min_free_memory_gb": 4}
    first, second = queued(make, **wish), queued(make, **wish)
    assert claim() == first
    assert claim() is None
    assert why_waiting(second) == "cuda:0 on here is used by “try”."


@pytest.mark.django_db
def test_a_gpu_that_was_replaced_is_not_waited_for(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(nvml.healthy(1), monkeypatch)
    machine = nvml.healthy(1)
    machine.gpus[0].uuid = uuid(7)
    refresh(machine, monkeypatch)
    first, second = queued(make), queued(make)
    assert claim() == first
    assert why_waiting(second) == "cuda:0 on here is used by “try”."


# Other programs


@pytest.mark.django_db
def test_a_desktop_does_not_occupy_a_gpu_below_half_of_its_memory(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(nvml.display(memory_gb=24, desktop_gb=13), monkeypatch)
    run = queued(make)
    assert claim() is None
    reason = why_waiting(run).replace("\xa0", " ")
    assert reason.startswith("Other programs use cuda:0 on here (13.0 GB of its memory): ")
    assert "state the required free memory of the run" in reason
    refresh(nvml.display(memory_gb=24, desktop_gb=11), monkeypatch)
    assert claim() == run


@pytest.mark.django_db
def test_the_memory_of_a_desktop_is_not_free(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(nvml.display(memory_gb=24, desktop_gb=11), monkeypatch)
    queued(make, min_free_memory_gb=14)
    assert claim() is None
    modest = queued(make, min_free_memory_gb=12)
    assert claim() == modest


@pytest.mark.django_db
def test_a_program_that_computes_and_draws_counts_as_one_that_computes(
    make: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = nvml.display(memory_gb=24, desktop_gb=4)
    machine.gpus[0].compute = machine.gpus[0].graphics
    refresh(machine, monkeypatch)
    queued(make)
    assert claim() is None


@pytest.mark.django_db
def test_memory_in_use_by_invisible_processes_is_that_of_others_unless_a_run_holds_the_gpu(
    make: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh(nvml.container(used_gb=60), monkeypatch)
    (foreign,) = Device.objects.get(kind="gpu").foreign
    assert (foreign["pid"], foreign["memory_bytes"]) == (0, 60 * GB)
    run = queued(make)
    assert claim() is None
    assert "processes that are not visible from here" in why_waiting(run)
    refresh(nvml.container(used_gb=0), monkeypatch)
    assert claim() == run
    refresh(nvml.container(used_gb=60), monkeypatch)
    assert Device.objects.get(kind="gpu").foreign == [], "its own trainer, as far as anybody can tell"


@pytest.mark.django_db
def test_numbers_from_outside_the_container_may_be_those_of_our_trainer(
    make: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = 4_194_999  # above the highest number of a process
    machine = nvml.container(used_gb=60)
    machine.gpus[0].compute = [nvml.Process(outside, 60 * GB)]
    refresh(nvml.healthy(1), monkeypatch)
    run = queued(make)
    assert claim() == run
    refresh(machine, monkeypatch)
    assert Device.objects.get(kind="gpu").foreign == []
    run.refresh_from_db()
    run.transition("completed")
    refresh(machine, monkeypatch)
    assert [process["pid"] for process in Device.objects.get(kind="gpu").foreign] == [outside]


@pytest.mark.django_db
@pytest.mark.parametrize("min_free_memory_gb", [0, 8])
def test_a_gpu_in_exclusive_mode_is_not_assigned_beside_another_program(
    min_free_memory_gb: int, make: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh(nvml.exclusive(pid=1), monkeypatch)
    run = queued(make, min_free_memory_gb=min_free_memory_gb)
    assert claim() is None
    assert why_waiting(run).startswith("cuda:0 on here is in exclusive-process mode and used by ")
    machine = nvml.exclusive()
    machine.gpus[0].compute = []
    refresh(machine, monkeypatch)
    assert claim() == run


@pytest.mark.django_db
def test_a_gpu_in_exclusive_mode_is_not_shared(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = nvml.exclusive()
    machine.gpus[0].compute = []
    refresh(machine, monkeypatch)
    wish = {"device": "cuda", "share_device": True, "min_free_memory_gb": 4}
    first, _second = queued(make, **wish), queued(make, **wish)
    assert [claim(), claim()] == [first, None]


@pytest.mark.django_db
def test_prohibited_compute_is_explained(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = nvml.healthy(1)
    machine.gpus[0].compute_mode = 2
    refresh(machine, monkeypatch)
    assert "nvidia-smi --compute-mode=DEFAULT" in why_waiting(queued(make, device="cuda"))
    assert claim() is None
