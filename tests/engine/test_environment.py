"""Each attempt records its environment."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.helpers.trainers import events_of, train_here
from trainingapp.engine import environment as module
from trainingapp.engine.environment import driver_version, environment, source_revision


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_an_attempt_begins_with_its_environment(new_run) -> None:
    run_dir = new_run(epochs=1)
    train_here(run_dir)
    (started,) = [event for event in events_of(run_dir, "status") if event["state"] == "started"]
    found = started["environment"]
    assert found == {
        **environment(),
        "batch_size": 8,
        "cpu_threads": 1,
        "precision": "float32",
        "deterministic": True,
        "num_workers": 0,
        "prefetch": 4,
        "images_cached": True,
    }
    lines = [event["message"] for event in events_of(run_dir, "log")]
    assert any("on a CPU" in line and "Decoded images stay in memory" in line for line in lines)
    assert found["python"].endswith(sys.version.split()[0])
    assert found["packages"]["torch"] == version("torch")
    assert found["packages"]["numpy"] == version("numpy")
    assert found["platform"]
    assert all(environment().values())


def test_the_revision_is_that_of_the_checkout_and_shows_changes(tmp_path: Path) -> None:
    file = tmp_path / "engine" / "source.py"
    file.parent.mkdir()
    file.write_text("one = 1\n")
    assert source_revision(file) == "", "there is no checkout"
    _git(tmp_path, "init")
    assert source_revision(file) == "", "an installation in somebody's checkout is no part of it"
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "first")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    assert source_revision(file) == commit
    file.write_text("one = 2\n")
    assert source_revision(file) == f"{commit}+"


def test_without_git_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_revision(Path(module.__file__)) == ""


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\nGCC", "570.86.10"),
    ],
)
def test_the_driver_is_read_from_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, driver: str
) -> None:
    monkeypatch.setattr(module, "DRIVER_FILE", tmp_path / "version")
    assert driver_version() == ""
    (tmp_path / "version").write_text(text)
    assert driver_version() == driver
