"""How the CPU's threads wait for each other: awake while the run is alone on its cores, else asleep (no torch).

torch shares an operation among OpenMP threads, and who is done waits for the rest. To spin meanwhile is a tenth faster
than to sleep, as long as nobody else wants the core; two trainers that spin on the same cores are several times slower
than two that sleep. So a thread looks twice a second whether others are at work here, and has the threads wait one way
or the other. Neither changes how a sum is split, so results stay the same to the last bit.

libgomp, the OpenMP of torch on Linux, takes how long to spin from the environment and keeps to it; but while it counts
more threads than there are cores, its threads sleep at once. An idle team of threads makes it count so. Where there is
no libgomp, or no count of the processor time used, the threads sleep.
"""

import ctypes
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

#: turns of the waiting loop before a thread sleeps; more gains nothing, and costs while company is not yet noticed
SPIN_COUNT = 20_000
LOOK_INTERVAL_S = 0.5
#: busy cores of others that count as company; a browser that shows the run stays below
COMPANY_CORES = 0.25
QUIET_LOOKS = 3


def prepare_environment() -> None:
    """Say how threads wait, unless the environment does already. To be called before torch is loaded."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))


class IdleTeam:
    """As many OpenMP threads as there are cores, that do nothing: while they are there, all others wait asleep."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def gather(self) -> None:
        """Torch must be loaded. Without libgomp nothing happens."""
        if self._thread is None and hasattr(library := ctypes.CDLL(None), "GOMP_parallel"):
            there = threading.Event()
            self._thread = threading.Thread(target=self._stay, args=(library, there), name="idle team", daemon=True)
            self._thread.start()
            there.wait()

    def dismiss(self) -> None:
        """libgomp ends a team when the thread ends that it belongs to."""
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._over.clear()
            self._thread = None

    def _stay(self, library: ctypes.CDLL, there: threading.Event) -> None:
        # Something for the team to run once, so that there is one: a function of C, which needs no interpreter.
        library.GOMP_parallel(library.omp_get_thread_num, None, len(_cores()), 0)
        there.set()
        self._over.wait()


@dataclass(frozen=True)
class Reading:
    """Processor time used until `moment_s`: on this process's cores by everybody, and by this process anywhere."""

    moment_s: float
    everybody_s: float
    own_s: float


class Company:
    """Whether others work on the same cores. One busy look makes it so, only some quiet ones in a row unmake it."""

    def __init__(self) -> None:
        self.is_there = True
        self._quiet_looks = 0

    def look(self, before: Reading, after: Reading) -> None:
        passed_s = after.moment_s - before.moment_s
        if passed_s > 3 * LOOK_INTERVAL_S:  # this process was stopped, and what others did meanwhile took nothing away
            return
        own_cores = (after.own_s - before.own_s) / passed_s
        others_cores = (after.everybody_s - before.everybody_s) / passed_s - own_cores
        # Less for everybody than for one alone: this system does not really count, so nobody knows.
        is_quiet = -COMPANY_CORES < others_cores < COMPANY_CORES
        self._quiet_looks = self._quiet_looks + 1 if is_quiet else 0
        self.is_there = self._quiet_looks < QUIET_LOOKS


def follow_load() -> None:
    """Watch the machine in a thread that ends with the process, and have threads wait as suits it. Loads nothing."""
    IDLE_TEAM.gather()
    threading.Thread(target=_follow, name="waiting", daemon=True).start()


def is_alone() -> bool:
    """Whether the load is followed and nobody else works on the cores: then to share work among threads pays."""
    return not COMPANY.is_there


def _follow() -> None:
    while (before := read_load()) is not None:
        time.sleep(LOOK_INTERVAL_S)
        if (after := read_load()) is None:
            return
        COMPANY.look(before, after)
        if COMPANY.is_there:
            IDLE_TEAM.gather()
        else:
            IDLE_TEAM.dismiss()


def read_load(stat_file: Path = Path("/proc/stat")) -> Reading | None:
    """The processor time used so far; None on a system that does not tell it this way."""
    try:
        lines = [line.split() for line in stat_file.read_text().splitlines()]
    except FileNotFoundError:
        return None
    names = {f"cpu{core}" for core in _cores()}
    # Columns: user nice system idle iowait irq softirq steal. Stolen time too was somebody else's.
    ticks = sum(int(line[column]) for line in lines if line[0] in names for column in (1, 2, 3, 6, 7, 8))
    return Reading(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time())


def _cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


IDLE_TEAM = IdleTeam()
COMPANY = Company()
