"""What the trainer may use of its machine: cores, GPUs and memory, within the limits of its container."""

import contextlib
import math
import os
import shutil
from pathlib import Path

import pynvml

from trainingapp.contract.loading import Machine
from trainingapp.engine.device import available_threads
from trainingapp.engine.memory import free_bytes_of_machine

CGROUP = Path("/sys/fs/cgroup")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - through which loader processes pass batches


def machine() -> Machine:
    """This machine now."""
    memory = min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), _memory_limit())
    free = min(free_bytes_of_machine(), memory)
    return Machine(available_cores(), gpu_count(), memory, free, free_shared_bytes())


def available_cores() -> int:
    """The cores of the process, or what a container gives it of their time."""
    return max(1, min(available_threads(), _cpu_limit()))


def gpu_count() -> int:
    """The GPUs of the machine, whether or not this process sees them; 0 where the driver cannot be asked."""
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


def free_shared_bytes() -> int | None:
    """Free in /dev/shm; None where there is no such folder."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return None


def _cpu_limit() -> int:
    """Whole cores that a container may use, rounded up."""
    quota, period = (*_words(CGROUP / "cpu.max"), "", "")[:2]
    if quota.isdecimal() and period.isdecimal():
        return math.ceil(int(quota) / int(period))
    older = [_number(CGROUP / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    return math.ceil(older[0] / older[1]) if older[0] > 0 and older[1] > 0 else os.cpu_count() or 1


def _memory_limit() -> int:
    """Bytes that a container may use; 2^62 without a limit."""
    limits = [_number(CGROUP / "memory.max"), _number(CGROUP / "memory" / "memory.limit_in_bytes")]
    return min([limit for limit in limits if limit > 0], default=1 << 62)


def _number(path: Path) -> int:
    """The number in the file; 0 where it holds none."""
    with contextlib.suppress(ValueError, IndexError):
        return int(_words(path)[0])
    return 0


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
