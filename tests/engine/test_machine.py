"""What a trainer may use of its machine, within the limits of a container."""

from pathlib import Path

import pytest

from trainingapp.engine import machine


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine, "available_threads", lambda: 16)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 16),
        ({"cpu.max": "max 100000\n"}, 16),
        ({"cpu.max": "400000 100000\n"}, 4),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 16),
        ({"cpu.max": ""}, 16),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
    ],
)
def test_cores_of_a_container(cgroup: Path, files: dict[str, str], cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 64)
    _write(cgroup, files)
    assert machine.available_cores() == cores


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "1000000\n"}, 1_000_000),
        ({"memory/memory.limit_in_bytes": "2000000\n"}, 2_000_000),
        ({"memory.max": "max\n"}, None),
        ({}, None),
    ],
)
def test_memory_of_a_container(cgroup: Path, files: dict[str, str], limit: int | None) -> None:
    _write(cgroup, files)
    found = machine.machine()
    assert 0 < found.free_bytes <= found.memory_bytes
    assert found.memory_bytes == limit if limit else found.memory_bytes > 1 << 28


def test_a_machine_without_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path / "missing")
    assert machine.machine().shared_bytes is None


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
