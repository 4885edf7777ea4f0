"""Runs on several CPU slots, each attempt in a process of its own: a process group ends with its process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from tests.helpers.trainers import DEADLINE_S, assert_same_result
from trainingapp.contract.evaluation import evaluation_path

#: Trains like `train_here`; the number of polls until a pause is the second argument, 0 for none.
ATTEMPT = """
import math, os, sys
from pathlib import Path
from tests.helpers.trainers import EndAfter, train_here
from trainingapp.engine import loop
loop.LONGEST_STEP_AHEAD_S = math.inf
state = train_here(Path(sys.argv[1]), EndAfter(int(sys.argv[2])) if int(sys.argv[2]) else None)
print(state, flush=True)
os._exit(0)
"""


def use_devices(run_dir: Path, count: int) -> None:
    """Assign `count` CPU slots to the next attempt."""
    path = run_dir / "config.json"
    values: dict[str, Any] = json.loads(path.read_text())
    values["devices"] = ["cpu"] * count
    path.write_text(json.dumps(values))


def train_on(run_dir: Path, devices: int, *, pause_after: int = 0) -> str:
    """One attempt on this number of devices, paused after so many polls between two steps; returns its outcome."""
    use_devices(run_dir, devices)
    command = [sys.executable, "-c", ATTEMPT, str(run_dir), str(pause_after)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE_S * devices, check=False)
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
