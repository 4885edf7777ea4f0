"""Whether the kernel has just killed a trainer because memory ran out."""

import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

#: The kernel counts a kill before the process has ended, which may take seconds on a busy machine.
DYING_S = 10.0

#: A flag of a process that is ending, from include/linux/sched.h.
PF_EXITING = 0x4

#: The count of the whole machine, for processes whose control group has none.
MACHINE = Path("/proc/vmstat")


@dataclass(frozen=True)
class Counter:
    """A file in which the kernel counts its kills in a line "oom_kill N"."""

    path: Path

    def count(self) -> int:
        """The kills since the machine or the control group was started; 0 where the kernel does not count them."""
        with contextlib.suppress(OSError):
            for line in self.path.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0


def memory_kill_counter(pid: int, proc: Path = Path("/proc")) -> Counter | None:
    """The narrowest counter for the process; None when the process has ended or is ending.

    The count of its control group leaves out what the kernel kills elsewhere on the machine, such as a browser.
    See https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.events) and
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html (memory.oom_control).
    """
    try:
        groups = (proc / str(pid) / "cgroup").read_text()
        # Looked at last: from when it is ending, version 1 shows a process in the root group.
        if _is_ending((proc / str(pid) / "stat").read_text()):
            return None
        return _counter_of(groups, proc)
    except OSError:
        return None


@lru_cache(maxsize=64)
def _counter_of(groups: str, proc: Path) -> Counter:
    """The counter of the groups in a `cgroup` file. It is asked for at each poll, and the mounts stay as they are."""
    paths = {
        controllers: path for _hierarchy, controllers, path in (line.split(":", 2) for line in groups.splitlines())
    }
    for mount in map(str.split, (proc / "self" / "mountinfo").read_text().splitlines()):
        root, folder, kind, options = mount[3], mount[4], mount[mount.index("-") + 1], mount[-1].split(",")
        if kind == "cgroup2":
            path, name = paths.get(""), "memory.events"
        elif kind == "cgroup" and "memory" in options:
            path, name = next((paths[key] for key in paths if "memory" in key.split(",")), None), "memory.oom_control"
        else:
            continue
        # In a container the mount shows only a part of the tree, its own `root`.
        if path is not None and Path(path).is_relative_to(root):
            file = Path(folder, Path(path).relative_to(root), name)
            if file.is_file() and "\noom_kill " in "\n" + file.read_text():
                return Counter(file)
    return Counter(MACHINE)


def _is_ending(stat: str) -> bool:
    """Whether the flags say so in a process's `stat`, whose second field, the name, may contain spaces and brackets."""
    flags = stat.rpartition(")")[2].split()[6]
    return bool(int(flags) & PF_EXITING)


class MemoryKills:
    """Samples the count while a trainer runs, so that a kill shortly before its end is recognized."""

    def __init__(
        self,
        counter: Callable[[], Counter | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`counter` names what to count now, or None when the trainer has ended."""
        self._counter, self._clock = counter, clock
        self._last: Counter | None = None
        #: (time, count) of the last DYING_S seconds, and one from before.
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self) -> None:
        """Take a sample; to be called while the trainer runs."""
        counter = self._counter()
        if counter is None:
            return
        if counter != self._last:  # the trainer was moved to another control group
            self._samples.clear()
            self._last = counter
        now = self._clock()
        self._samples.append((now, counter.count()))
        while len(self._samples) > 1 and self._samples[1][0] <= now - DYING_S:
            self._samples.popleft()

    def has_one(self) -> bool:
        """Whether a process was killed since the oldest sample."""
        return self._last is not None and self._last.count() > self._samples[0][1]
