"""Whether torch can use the GPUs of this host: each is tried once in a process of its own, with a time limit.

A driver reports GPUs that torch cannot use: its kernels may be missing for an old or a very new one, the driver may be
too old for it, another process may have it to itself, or it hangs. The result is stored with the versions that it
depends on, so that it is asked again after an update, after a restart of the machine, and when somebody requests it.
"""

import logging
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

from django.db import OperationalError, close_old_connections, transaction
from django.db.models import Q
from django.utils import timezone

from trainingapp.accounts import audit
from trainingapp.contract.device_report import DeviceReport, Trouble, failed_report, read_report
from trainingapp.contract.messages import Message
from trainingapp.contract.messages import devices as messages
from trainingapp.models import Device
from trainingapp.scheduling.gpus import (
    DriverReading,
    GpuReading,
    check_key,
    read_driver,
    torch_may_know_others,
    visible_gpus,
)
from trainingapp.scheduling.placement import held_by_jobs, open_holds
from trainingapp.scheduling.quarantine import end_quarantine
from trainingapp.supervision.identity import HOST, is_alive
from trainingapp.supervision.trainers import end_group, trainer_environment

logger = logging.getLogger(__name__)

#: Starts a probe; the number of the GPU and options follow.
PROBE = (sys.executable, "-m", "trainingapp.engine.device_probe")
#: Seconds for importing torch and a step on the GPU: a cold network drive takes a minute.
PROBE_S = 120.0
#: After which a problem that may pass is looked at again.
AGAIN_AFTER = timedelta(minutes=10)
PASSING: frozenset[Trouble] = frozenset({"busy", "full", "timeout", "error"})

#: Names of the backends of torch: those that the studio uses as it does CUDA, and those that it does not support.
BACKENDS = {"rocm": "ROCm", "cuda": "CUDA"}
REFUSED = {"mps": "MPS (Apple)", "xpu": "XPU (Intel)"}

#: The problem that a device gets for the trouble of a probe.
PROBLEMS: dict[Trouble, Device.Problem] = {
    "cpu_build": Device.Problem.CPU_BUILD,
    "driver": Device.Problem.DRIVER,
    "architecture": Device.Problem.ARCHITECTURE,
    "busy": Device.Problem.BUSY,
    "full": Device.Problem.BUSY,
    "lost": Device.Problem.LOST,
    "timeout": Device.Problem.TIMEOUT,
    "error": Device.Problem.ERROR,
}

_checking = threading.Lock()


def read_gpus() -> DriverReading:
    """The GPUs that this process may use: those of the NVIDIA driver, else those that torch alone knows (ROCm).

    A backend that the studio does not support is named in the explanation.
    """
    driver = read_driver()
    if driver.gpus or (driver.explanation and driver.is_installed) or not torch_may_know_others():
        visible = visible_gpus(driver.gpus)
        hidden = frozenset(gpu.uuid for gpu in driver.gpus if gpu not in visible)
        return replace(driver, gpus=visible, hidden=hidden - {""})
    report = _report_of_torch()
    if report["backend"] in REFUSED:
        return DriverReading(explanation=messages.GPU_BACKEND_REFUSED(backend=REFUSED[report["backend"]]))
    shown = BACKENDS.get(report["backend"], report["backend"])
    gpus = [
        GpuReading("", f"{seen['name']} ({shown})", seen["memory_bytes"], seen["memory_bytes"], board=number)
        for number, seen in enumerate(report["devices"])
    ]
    return DriverReading(gpus, backend=f"{report['backend']} {report['backend_version']}" if gpus else "")


@cache
def _report_of_torch() -> DeviceReport:
    """What torch lists, asked once: the process takes seconds."""
    return run_probe([])


def check_devices(host: str) -> threading.Thread | None:
    """Check the GPUs of this host that are due, one after the other in a thread; None where none is due or the thread
    of an earlier call still works."""
    if not due_devices(host) or not _checking.acquire(blocking=False):
        return None
    thread = threading.Thread(target=_check_in_thread, args=(host,), name="device checks", daemon=True)
    thread.start()
    return thread


def due_devices(host: str) -> list[Device]:
    """The GPUs to check now. One with runs is not disturbed: in exclusive-process mode the check would fail."""
    is_due = Q(problem=Device.Problem.UNCHECKED) | Q(check_at__lte=timezone.now())
    gpus = Device.objects.filter(is_due, host__name=host, kind=Device.Kind.GPU, is_present=True)
    free = gpus.exclude(pk__in=open_holds().values("device_id")).exclude(pk__in=held_by_jobs()).order_by("index")
    # A check of a GPU in whose driver a process hangs would hang too.
    return [device for device in free if not _has_stuck_process(device)]


def _has_stuck_process(device: Device) -> bool:
    process = device.stuck_process
    return bool(process) and process.get("host") == HOST and is_alive(process["pid"], process["create_time"])


def _check_in_thread(host: str) -> None:
    try:
        for device in due_devices(host):
            store(device.pk, probe(device, with_memory=device.quarantined_at is not None))
    except OperationalError as error:  # they are still due
        logger.warning("The result of a check of a GPU could not be stored: %s", error)
    finally:
        _checking.release()
        close_old_connections()


def probe(device: Device, *, with_memory: bool = False) -> DeviceReport:
    """Try the GPU in a process of its own, to which no other one is visible."""
    number = "0" if device.uuid else str(device.index)
    options = ["--memory"] if with_memory else []
    return run_probe([number, *options], uuid=device.uuid)


def run_probe(arguments: Sequence[str], *, uuid: str = "") -> DeviceReport:
    """What the process reports; it is killed after PROBE_S."""
    visible = {"CUDA_VISIBLE_DEVICES": uuid} if uuid else {}
    process = subprocess.Popen(
        [*PROBE, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=Path(__file__).resolve().parents[2],
        env={**trainer_environment(), **visible},
        start_new_session=True,
    )
    try:
        return read_report(process.communicate(timeout=PROBE_S)[0])
    except subprocess.TimeoutExpired:
        end_group(process)
        return failed_report("timeout", "")
    finally:
        if process.stdout is not None:
            process.stdout.close()


def store(device_pk: int, report: DeviceReport) -> None:
    """Write what a check has found."""
    trouble = report["trouble"]
    with transaction.atomic():
        device = Device.objects.select_for_update().select_related("host").filter(pk=device_pk).first()
        if device is None:  # its host was removed meanwhile
            return
        device.checked_as = check_key(device.host.versions.get("driver", ""))
        is_quarantined = device.quarantined_at is not None and device.quarantine_cause != Device.Cause.MANUAL
        is_again = trouble in PASSING or (trouble and is_quarantined)
        device.check_at = timezone.now() + AGAIN_AFTER if is_again else None
        device.problem = PROBLEMS[trouble] if trouble else ""
        device.problem_data = dict(explanation_of(report).as_data()) if trouble else {}
        if not trouble:
            device.usable_at = timezone.now()
        device.save(update_fields=["checked_as", "check_at", "problem", "problem_data", "usable_at"])
        if is_quarantined and not trouble:
            end_quarantine(device)
            audit.record("release", device, details={"cause": "check"})
    if trouble:
        logger.warning("%s cannot be used: %s", device, explanation_of(report))


def explanation_of(report: DeviceReport) -> Message:
    """What the trouble of a report means, and what to do about it."""
    torch, error = report["torch"], report["error"]
    explanations: dict[Trouble, Message] = {
        "cpu_build": messages.GPU_CPU_BUILD(torch=torch),
        "driver": messages.GPU_DRIVER(torch=torch, error=error),
        "architecture": messages.GPU_ARCHITECTURE(torch=torch),
        "busy": messages.GPU_BUSY(),
        "full": messages.GPU_FULL(),
        "lost": messages.GPU_LOST(error=error),
        "timeout": messages.GPU_TIMEOUT(seconds=round(PROBE_S)),
    }
    return explanations.get(report["trouble"]) or messages.GPU_CHECK_FAILED(error=error)
