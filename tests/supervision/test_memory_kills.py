"""A trainer killed by the system for its memory, distinguished from one that a user killed."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from trainingapp.supervision.memory_kills import DYING_S, MACHINE, Counter, MemoryKills, memory_kill_counter


@dataclass
class World:
    """The system's count in a file, and the clock."""

    file: Path
    now: float = 100.0

    def kill(self) -> None:
        self.file.write_text(f"low 0\noom 9\noom_kill {Counter(self.file).count() + 1}\noom_group_kill 0\n")

    def watch(self) -> MemoryKills:
        return MemoryKills(lambda: Counter(self.file), lambda: self.now)

    def live(self, watched: MemoryKills, seconds: float) -> None:
        for _sample in range(round(seconds * 4)):
            self.now += 0.25
            watched.sample()


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "memory.events")
    world.kill()
    return world


def test_without_a_kill_none_is_reported(world: World) -> None:
    watched = world.watch()
    assert not watched.has_one()
    world.live(watched, 2 * DYING_S)
    assert not watched.has_one()


def test_a_kill_counted_at_the_end_is_detected(world: World) -> None:
    watched = world.watch()
    world.live(watched, 2 * DYING_S)
    world.kill()
    assert watched.has_one()


def test_a_kill_of_a_slowly_ending_process_is_detected(world: World) -> None:
    """The count rises when the kill is decided; a busy machine samples many times before the process is gone."""
    watched = world.watch()
    world.live(watched, 2 * DYING_S)
    world.kill()
    world.live(watched, DYING_S / 2)
    assert watched.has_one()


def test_an_old_kill_belongs_to_another_process(world: World) -> None:
    watched = world.watch()
    world.live(watched, 1)
    world.kill()
    world.live(watched, DYING_S + 1)
    assert not watched.has_one()


def test_the_count_of_another_control_group_is_ignored(world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other")
    for _kill in range(5):
        other.kill()
    files = [world.file, other.file]
    watched = MemoryKills(lambda: Counter(files[0]), lambda: world.now)
    world.live(watched, 1)
    files.pop(0)
    world.live(watched, 1)
    assert not watched.has_one()
    other.kill()
    assert watched.has_one()


#: Of a process named "a (b) c": its state, five numbers, its flags.
ALIVE, ENDING = "7 (a (b) c) R 1 7 7 0 -1 4194560 0", "7 (a (b) c) R 1 7 7 0 -1 4194564 0"


def a_system(folder: Path, mount: str, group: str, stat: str = ALIVE) -> tuple[Path, Path]:
    """A /proc for process 7, and a mounted tree of control groups; `mount` has a place for its folder."""
    proc, tree = folder / "proc", folder / "cgroup"
    files = [("self", "mountinfo", mount.format(folder=tree)), ("7", "cgroup", group), ("7", "stat", stat)]
    for process, name, text in files:
        (proc / process).mkdir(parents=True, exist_ok=True)
        (proc / process / name).write_text(text)
    return proc, tree


SYSTEMS = {
    "version 2": (
        "30 24 0:26 / {folder} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
        "0::/system.slice/studio.service\n",
        "system.slice/studio.service/memory.events",
        "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n",
    ),
    "version 1": (
        "35 31 0:32 / {folder} rw,relatime - cgroup cgroup rw,memory\n",
        "5:cpu,cpuacct:/jobs\n4:memory:/jobs/a\n0::/\n",
        "jobs/a/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    ),
    "version 1 in a container": (
        "35 31 0:32 /docker/4711 {folder} rw,relatime - cgroup cgroup rw,memory\n",
        "4:memory:/docker/4711/jobs\n",
        "jobs/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    ),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_kills_of_its_control_group_are_counted(tmp_path: Path, system: str) -> None:
    mount, group, name, text = SYSTEMS[system]
    proc, tree = a_system(tmp_path, mount, group)
    file = tree / name
    file.parent.mkdir(parents=True)
    file.write_text(text)
    counter = memory_kill_counter(7, proc)
    assert counter == Counter(file)
    assert counter.count() == 1


@pytest.mark.parametrize("system", SYSTEMS)
def test_without_a_count_of_its_group_that_of_the_machine_is_used(tmp_path: Path, system: str) -> None:
    mount, group, _name, _text = SYSTEMS[system]
    proc, _tree = a_system(tmp_path, mount, group)
    assert memory_kill_counter(7, proc) == Counter(MACHINE)


def test_a_process_that_has_ended_has_no_counter(tmp_path: Path) -> None:
    proc, _tree = a_system(tmp_path, *SYSTEMS["version 2"][:2])
    assert memory_kill_counter(8, proc) is None


def test_a_process_that_is_ending_has_no_counter(tmp_path: Path) -> None:
    """The kernel shows it in the root group then, whose count says nothing about it."""
    proc, _tree = a_system(tmp_path, "35 31 0:32 / {folder} rw - cgroup cgroup rw,memory\n", "4:memory:/\n", ENDING)
    assert memory_kill_counter(7, proc) is None


def test_a_zombie_has_no_counter() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert memory_kill_counter(ended.pid) is None


def test_this_system_has_a_counter() -> None:
    counter = memory_kill_counter(os.getpid())
    assert counter is not None
    assert counter.count() >= 0
