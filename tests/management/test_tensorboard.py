"""manage.py tensorboard shows the charts of runs."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.conftest import REPOSITORY
from trainingapp.contract.events import EVENTS_FILE, EventLog
from trainingapp.engine.tensorboard_writer import TensorBoardWriter
from trainingapp.management.commands.tensorboard import link_runs, runs_with_files
from trainingapp.models import TrainingRun

MAKE = Callable[..., TrainingRun]
DEADLINE_S = 60


def with_points(run: TrainingRun) -> TrainingRun:
    run.folder.mkdir(parents=True)
    board = TensorBoardWriter(run.folder, 0, EventLog(run.folder / EVENTS_FILE, 1))
    board.add("train", {"loss": 0.5}, 3)
    board.flush()
    return run


@pytest.mark.django_db
def test_missing_runs_and_runs_without_files_are_refused(make: MAKE) -> None:
    with pytest.raises(CommandError, match="There is no run 998, 999"):
        call_command("tensorboard", 998, 999)
    with pytest.raises(CommandError, match="has files for TensorBoard yet"):
        call_command("tensorboard", make("pending").pk)


@pytest.mark.django_db
def test_runs_with_files_are_shown_under_their_names(make: MAKE, tmp_path: Path) -> None:
    one, two = with_points(make("running", name="A pet!")), with_points(make("completed", name="小狗"))
    make("pending")
    assert runs_with_files([]) == [one, two]
    assert runs_with_files([two.pk, two.pk]) == [two]
    link_runs([one, two], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_symlink()) == sorted(
        [f"{one.pk}-a-pet", f"{two.pk}-run"]
    )


@pytest.mark.long
def test_the_server_shows_the_points_and_ends_with_the_command(studio_env: dict[str, str], free_port: int) -> None:
    """End to end: a separate database with one run, and the responses of TensorBoard."""
    command = [sys.executable, str(REPOSITORY / "manage.py")]
    subprocess.run([*command, "migrate", "-v0"], env=studio_env, check=True, cwd=REPOSITORY)
    subprocess.run([*command, "shell", "-v0", "-c", MAKE_A_RUN], env=studio_env, check=True, cwd=REPOSITORY)
    arguments = [*command, "tensorboard", "--port", str(free_port)]
    process = subprocess.Popen(arguments, env=studio_env, cwd=REPOSITORY, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{free_port}/data/plugin/scalars/tags"
        tags = _wait_for(address, lambda found: found.get("1-try"), process)
        assert "loss/train" in tags["1-try"]
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(address, timeout=5)
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None


MAKE_A_RUN = """
from django.contrib.auth.models import User
from trainingapp.models import Dataset, TrainingRun
from trainingapp.engine.tensorboard_writer import TensorBoardWriter
from trainingapp.contract.events import EVENTS_FILE, EventLog
user = User.objects.create_user("ada")
dataset = Dataset.objects.create(name="d", owner=user, source="/nowhere", status="ready")
run = TrainingRun.objects.create(name="try", owner=user, dataset=dataset, task="classification", config={})
run.folder.mkdir(parents=True)
board = TensorBoardWriter(run.folder, 0, EventLog(run.folder / EVENTS_FILE, 1))
board.add("train", {"loss": 0.5}, 3)
board.flush()
"""


def _wait_for(address: str, condition: Callable[[Any], Any], process: "subprocess.Popen[bytes]") -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            with urllib.request.urlopen(address, timeout=5) as response:
                found = json.load(response)
            if condition(found):
                return found
        except (OSError, ValueError):
            pass
        time.sleep(0.2)
    raise AssertionError("TensorBoard did not answer")
