"""Runs on several CPU slots, each attempt in a process of its own: a process group ends with its process."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.helpers.trainers import DEADLINE_S, assert_same_result
from trainingapp.contract.evaluation import evaluation_path

#: Trains like `train_here`. The second argument is the number of polls until a pause, 0 for none; the third has the
#: requests by the poll at which they come.
ATTEMPT = """
import json, math, os, sys
from pathlib import Path
from tests.helpers.trainers import Ask, EndAfter, train_here
from trainingapp.contract.commands import parse_command
from trainingapp.engine import loop
loop.LONGEST_STEP_AHEAD_S = math.inf
asked = {int(poll): parse_command(json.dumps(request)) for poll, request in json.loads(sys.argv[3]).items()}
state = train_here(Path(sys.argv[1]), EndAfter(int(sys.argv[2])) if int(sys.argv[2]) else Ask(asked))
print(state, flush=True)
os._exit(0)
"""


def use_devices(run_dir: Path, count: int) -> None:
    """Assign `count` CPU slots to the next attempt."""
    path = run_dir / "config.json"
    values: dict[str, Any] = json.loads(path.read_text())
    values["devices"] = ["cpu"] * count
    path.write_text(json.dumps(values))


def train_on(
    run_dir: Path, devices: int, *, pause_after: int = 0, asked: Mapping[int, Mapping[str, Any]] | None = None
) -> str:
    """One attempt on this number of devices; returns its outcome.

    It is paused after so many polls between two steps, or gets the requests `asked` at the polls that are their keys.
    """
    use_devices(run_dir, devices)
    command = [sys.executable, "-c", ATTEMPT, str(run_dir), str(pause_after), json.dumps(asked or {})]
    deadline_s = 2 * DEADLINE_S * max(2, devices)
    done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def rank_processes(trainer_pid: int) -> list[psutil.Process]:
    """The processes of the ranks above 0."""
    children = psutil.Process(trainer_pid).children()
    return [child for child in children if "--rank" in child.cmdline()]


def assert_same_run(run_dir: Path, reference: Path, epochs: int) -> None:
    """Assert that results, curves and evaluation files are equal."""
    assert_same_result(run_dir, reference)
    for epoch in range(1, epochs + 1):
        for suffix in (".json", ".npz"):
            one, other = (evaluation_path(folder, epoch).with_suffix(suffix) for folder in (run_dir, reference))
            assert one.read_bytes() == other.read_bytes(), (epoch, suffix)
