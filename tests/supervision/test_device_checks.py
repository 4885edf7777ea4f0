"""Trying GPUs with torch: in a process with a time limit, once for each set of versions.

There is no GPU here: the process is real, and its output is that of torch on machines with the trouble in question.
"""

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from tests.helpers import nvml
from tests.helpers.machines import asking, hold, machine
from tests.helpers.nvml import Nvml
from trainingapp.contract.device_report import DeviceReport, Trouble, failed_report, read_report
from trainingapp.engine import device_probe
from trainingapp.models import Device, TrainingRun
from trainingapp.presentation.messages import text_of
from trainingapp.scheduling import inventory
from trainingapp.scheduling.scheduler import claim_next, why_waiting
from trainingapp.supervision import device_checks, trainers
from trainingapp.supervision.device_checks import check_devices, due_devices, run_probe, store

MAKE = Callable[..., TrainingRun]

#: First lines of torch's errors, as torch raises them.
ERRORS: list[tuple[str, Trouble]] = [
    ("Torch not compiled with CUDA enabled", "cpu_build"),
    ("The NVIDIA driver on your system is too old (found version 11040).", "driver"),
    ("Found no NVIDIA driver on your system.", "driver"),
    ("Unexpected error from cudaGetDeviceCount(). Error 804: forward compatibility was attempted on non ...", "driver"),
    ("CUDA error: no kernel image is available for execution on the device", "architecture"),
    ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "busy"),
    ("CUDA error: out of memory", "full"),
    ("Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized", "error"),
    ("No CUDA GPUs are available", "error"),
    ("CUDA error: unspecified launch failure", "error"),
]


@pytest.fixture(autouse=True)
def _torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "torch_has_cuda", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def answering(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Probes run this code instead of torch's."""
    monkeypatch.setattr(device_checks, "PROBE", (sys.executable, "-c", code))


def report(trouble: Trouble = "", error: str = "") -> DeviceReport:
    return {**failed_report(trouble, error), "torch": "2.11.0+cu130"}


def refresh(machine: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.install(monkeypatch)
    inventory.refresh("here", "here:1:2")


def checked(host: str = "here") -> None:
    """A round of checks, to its end."""
    thread = check_devices(host)
    assert thread is not None
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize(("text", "trouble"), ERRORS)
def test_errors_of_torch_are_told_apart(text: str, trouble: Trouble) -> None:
    assert device_probe.trouble_of(RuntimeError(f"{text}\nCompile with TORCH_USE_CUDA_DSA")) == trouble


@pytest.mark.parametrize(
    ("output", "trouble", "error"),
    [
        (f"a warning\n{json.dumps(report())}\n", "", ""),
        (json.dumps({"trouble": "busy", "error": "x", "of a later version": 1}), "busy", "x"),
        ("Traceback ...\nModuleNotFoundError: No module named 'torch'", "error", "ModuleNotFoundError"),
        ("", "error", ""),
        ("[1, 2]", "error", "[1, 2]"),
    ],
)
def test_the_last_line_is_the_report(output: str, trouble: str, error: str) -> None:
    found = read_report(output)
    assert (found["trouble"], found["error"].partition(":")[0]) == (trouble, error)


def test_the_process_sees_the_gpu_alone_and_none_of_the_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "secret")
    answering(
        monkeypatch,
        "import os, sys, json; print(json.dumps({'torch': repr((sys.argv[1:], os.environ['CUDA_VISIBLE_DEVICES'], "
        "os.environ.get('SECRET_KEY')))}))",
    )
    assert run_probe(["0"], uuid="MIG-1")["torch"] == "(['0'], 'MIG-1', None)"


def test_a_process_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_checks, "PROBE_S", 0.5)
    answering(monkeypatch, "import time; time.sleep(600)")
    assert run_probe(["0"], uuid="GPU-1")["trouble"] == "timeout"


def test_a_process_that_cannot_even_be_killed_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that waits in the driver: SIGKILL, which cannot be refused otherwise, is not sent here."""
    started: list[int] = []
    monkeypatch.setattr(device_checks, "PROBE_S", 0.2)
    monkeypatch.setattr(trainers, "KILLED_S", 0.2)
    monkeypatch.setattr(trainers, "kill_group", started.append)
    answering(monkeypatch, "import time; time.sleep(600)")
    assert run_probe(["0"], uuid="GPU-1")["trouble"] == "timeout"
    monkeypatch.undo()
    trainers.kill_group(started[0])


@pytest.mark.django_db(transaction=True)
def test_a_new_gpu_gets_no_run_before_torch_has_tried_it(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(nvml.healthy(1), monkeypatch)
    run = make("queued", queued_at=timezone.now(), config=asking())
    assert claim_next("here", "here:1:2") is None, "neither on the GPU nor on the CPU"
    assert "It is being checked whether torch can use it." in why_waiting(run)
    answering(monkeypatch, f"print({json.dumps(report())!r})")
    checked()
    assert due_devices("here") == []
    claimed = claim_next("here", "here:1:2")
    assert claimed is not None
    assert claimed.device == "cuda:0"


@pytest.mark.django_db(transaction=True)
def test_a_gpu_that_torch_cannot_use_says_why_and_the_other_is_used(
    make: MAKE, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.MAX_TRAINING_PROCESSES = 9
    refresh(nvml.healthy(2), monkeypatch)
    bad, good = json.dumps(report("architecture", "no kernel image")), json.dumps(report())
    is_first = "'GPU-00000000' in os.environ['CUDA_VISIBLE_DEVICES']"
    answering(monkeypatch, f"import os; print({bad!r} if {is_first} else {good!r})")
    checked()
    first, second = Device.objects.filter(kind="gpu").order_by("index")
    assert (first.problem, second.problem, first.check_at) == ("architecture", "", None)
    runs = [make("queued", queued_at=timezone.now(), queue_rank=rank, config=asking()) for rank in range(2)]
    claimed = claim_next("here", "here:1:2")
    assert claimed is not None
    assert claimed.device == "cuda:1"
    assert claim_next("here", "here:1:2") is None
    assert "torch 2.11.0+cu130 has no kernels for its architecture." in why_waiting(runs[1])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("trouble", "problem", "words", "again"),
    [
        ("cpu_build", "cpu_build", "is a build for CPUs", False),
        ("driver", "driver", "The driver is too old for torch 2.11.0+cu130, or does not match it (why).", False),
        ("architecture", "architecture", "has no kernels", False),
        ("busy", "busy", "exclusive-process mode", True),
        ("full", "busy", "leave no memory", True),
        ("lost", "lost", "lost it (why)", False),
        ("timeout", "timeout", "did not respond on it within 120 s", True),
        ("error", "error", "A step of training on it failed (why).", True),
    ],
)
def test_each_trouble_has_an_explanation_and_passing_ones_are_looked_at_again(
    trouble: Trouble, problem: str, words: str, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh(nvml.healthy(1), monkeypatch)
    device = Device.objects.get(kind="gpu")
    store(device.pk, report(trouble, "why"))
    refresh(nvml.healthy(1), monkeypatch)  # a reading without a problem does not hide what a check has found
    device.refresh_from_db()
    assert (device.problem, device.usable_at, device.check_at is not None) == (problem, None, again)
    assert words in str(device_checks.explanation_of(report(trouble, "why")))
    assert due_devices("here") == []
    Device.objects.filter(check_at__isnull=False).update(check_at=timezone.now() - timedelta(seconds=1))
    assert [each.pk for each in due_devices("here")] == [device.pk] * again


@pytest.mark.django_db
def test_it_is_asked_again_after_an_update_and_after_the_gpu_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(nvml.healthy(1), monkeypatch)
    device = Device.objects.get(kind="gpu")
    store(device.pk, report())
    assert due_devices("here") == []
    newer = nvml.healthy(1)
    newer.driver = "590.1"
    refresh(newer, monkeypatch)
    assert [each.pk for each in due_devices("here")] == [device.pk]
    store(device.pk, report())
    newer.gpus[0].refused = {nvml.ALL_CALLS: 15}
    refresh(newer, monkeypatch)
    assert due_devices("here") == [], "the driver says why already"
    newer.gpus[0].refused = {}
    refresh(newer, monkeypatch)
    assert [each.pk for each in due_devices("here")] == [device.pk]


@pytest.mark.django_db
def test_a_gpu_with_a_run_is_not_disturbed(make: MAKE) -> None:
    gpu = machine(gpus=1).devices.get(kind="gpu")
    Device.objects.filter(pk=gpu.pk).update(problem="unchecked")
    run = make("running", host="here")
    held = hold(run, gpu)
    assert due_devices("here") == []
    held.released_at = timezone.now()
    held.save()
    assert [device.pk for device in due_devices("here")] == [gpu.pk]


# GPUs that are not NVIDIA's


def other_torch(monkeypatch: pytest.MonkeyPatch, **found: Any) -> None:
    """A torch for other GPUs, on a machine without an NVIDIA driver."""
    Nvml(init_error=12).install(monkeypatch)
    monkeypatch.setattr(device_checks, "torch_may_know_others", lambda: True)
    monkeypatch.setattr(device_checks, "_report_of_torch", lambda: {**report(), **found})


@pytest.mark.django_db
def test_gpus_of_rocm_are_named_and_used(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [{"name": "AMD Instinct MI300X", "uuid": "", "memory_bytes": 192 * nvml.GB}]
    other_torch(monkeypatch, backend="rocm", backend_version="6.4.2", devices=devices)
    host = inventory.refresh("here", "here:1:2")
    gpu = host.devices.get(kind="gpu")
    assert (gpu.name, gpu.uuid, gpu.memory_free_bytes) == ("AMD Instinct MI300X (ROCm)", "", 192 * nvml.GB)
    assert (host.versions["rocm"], host.gpu_problem) == ("6.4.2", {})
    asked: list[tuple[Any, str]] = []
    monkeypatch.setattr(device_checks, "run_probe", lambda arguments, uuid="": asked.append((arguments, uuid)))
    device_checks.probe(gpu)
    assert asked == [(["0"], "")], "by its number: only NVIDIA's GPUs are named by UUID"
    store(gpu.pk, report())
    make("queued", queued_at=timezone.now(), config=asking())
    run = claim_next("here", "here:1:2")
    assert run is not None
    assert run.device == "cuda:0"


@pytest.mark.django_db
@pytest.mark.parametrize(("backend", "name"), [("mps", "MPS (Apple)"), ("xpu", "XPU (Intel)")])
def test_other_backends_are_refused_by_name(
    backend: str, name: str, make: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_torch(monkeypatch, backend=backend)
    host = inventory.refresh("here", "here:1:2")
    assert f"torch offers {name} on this host, which CV Studio does not support" in text_of(host.gpu_problem)
    make("queued", queued_at=timezone.now(), config=asking())
    run = claim_next("here", "here:1:2")
    assert run is not None
    assert run.device == "cpu"


@pytest.mark.slow
@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_without_a_driver_the_real_process_says_so() -> None:
    found = run_probe(["0"])
    assert found["trouble"] in ("driver", "cpu_build")
    assert found["torch"]
