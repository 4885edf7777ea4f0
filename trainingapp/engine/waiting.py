"""How the CPU threads wait for each other: they spin while the run is alone on its cores, else they sleep (no torch).

torch shares an operation among OpenMP threads, and threads that finish early wait for the others. Spinning meanwhile is
10 % faster than sleeping while no other process needs the core; two trainers that spin on the same cores are several
times slower than two that sleep. Therefore a background thread measures the load twice per second and selects one or
the other. Neither changes how a sum is split, so results stay bit-identical.

libgomp, the OpenMP runtime of torch on Linux, reads the spin count from the environment once and cannot change it
later. But while it manages more threads than there are cores, its threads sleep immediately. An idle team of threads
brings it into that state. Without libgomp, or on a system that does not report the processor time used, threads sleep.
"""

import ctypes
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

#: Iterations of the waiting loop before a thread sleeps. More gains nothing, and costs time while other load is not
#: noticed yet.
SPIN_COUNT = 20_000
POLL_INTERVAL_S = 0.5
#: Busy cores of other processes from which the run does not count as alone; a browser that shows the run stays below.
COMPANY_CORES = 0.25
#: Consecutive quiet measurements after which the run counts as alone again.
QUIET_POLLS = 3


def prepare_environment() -> None:
    """Set how threads wait, unless the environment already does. To be called before torch is loaded."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))


class IdleTeam:
    """As many idle OpenMP threads as there are cores: while they exist, all other threads sleep when they wait."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def gather(self) -> None:
        """Start the threads. torch must be loaded; without libgomp nothing happens."""
        if self._thread is None and hasattr(library := ctypes.CDLL(None), "GOMP_parallel"):
            there = threading.Event()
            self._thread = threading.Thread(target=self._stay, args=(library, there), name="idle team", daemon=True)
            self._thread.start()
            there.wait()

    def dismiss(self) -> None:
        """End the threads: libgomp ends a team with the thread that started it."""
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._over.clear()
            self._thread = None

    def _stay(self, library: ctypes.CDLL, there: threading.Event) -> None:
        # libgomp creates the team when it runs something: here a C function, which does not need Python's lock.
        library.GOMP_parallel(library.omp_get_thread_num, None, len(_cores()), 0)
        there.set()
        self._over.wait()


@dataclass(frozen=True)
class Reading:
    """Seconds of processor time used until `moment_s`: by all processes on the cores of this one, and by this one."""

    moment_s: float
    all_s: float
    own_s: float


class Company:
    """Whether other processes use the same cores: after one busy measurement, until QUIET_POLLS quiet ones in a row."""

    def __init__(self) -> None:
        self.is_there = True
        self._quiet_polls = 0

    def look(self, before: Reading, after: Reading) -> None:
        passed_s = after.moment_s - before.moment_s
        if passed_s > 3 * POLL_INTERVAL_S:  # this process was stopped: what others used meanwhile did not slow it down
            return
        own_cores = (after.own_s - before.own_s) / passed_s
        others_cores = (after.all_s - before.all_s) / passed_s - own_cores
        # Less for all processes than for this one alone: the system's counters are unusable, so assume other load.
        is_quiet = -COMPANY_CORES < others_cores < COMPANY_CORES
        self._quiet_polls = self._quiet_polls + 1 if is_quiet else 0
        self.is_there = self._quiet_polls < QUIET_POLLS


def follow_load() -> None:
    """Follow the load in a daemon thread, and select how threads wait. Imports nothing."""
    IDLE_TEAM.gather()
    threading.Thread(target=_follow, name="waiting", daemon=True).start()


def is_alone() -> bool:
    """Whether the load is followed and no other process uses the cores: then sharing work among threads is faster."""
    return not COMPANY.is_there


def _follow() -> None:
    while (before := read_load()) is not None:
        time.sleep(POLL_INTERVAL_S)
        if (after := read_load()) is None:
            return
        COMPANY.look(before, after)
        if COMPANY.is_there:
            IDLE_TEAM.gather()
        else:
            IDLE_TEAM.dismiss()


def read_load(stat_file: Path = Path("/proc/stat")) -> Reading | None:
    """The processor time used so far; None on a system without such a file."""
    try:
        lines = [line.split() for line in stat_file.read_text().splitlines()]
    except FileNotFoundError:
        return None
    names = {f"cpu{core}" for core in _cores()}
    # Columns: user nice system idle iowait irq softirq steal. Time that the hypervisor stole counts as used by others.
    ticks = sum(int(line[column]) for line in lines if line[0] in names for column in (1, 2, 3, 6, 7, 8))
    return Reading(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time())


def _cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


IDLE_TEAM = IdleTeam()
COMPANY = Company()
