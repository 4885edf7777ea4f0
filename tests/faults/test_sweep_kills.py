"""A sweep whose workers are killed again and again has exactly its trials, each with one result."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.studio import REPOSITORY, Studio

#: What a worker does, as often as it is let: advance the sweeps, and train what they have queued. It forks for each
#: line of standard input, since starting Python takes longer than a life in this test. A line follows each step.
WORKER = """
import os, sys, django
django.setup()
from django.db import connections
from tests.helpers.sweeps import measure
from trainingapp.models import TrainingRun
from trainingapp.runs.sweeps.advance import advance_due
from trainingapp.runs.sweeps import sampling
sampling.propose  # imported before the first fork

def work():
    while True:
        advance_due()
        print("advanced", flush=True)
        for run in TrainingRun.objects.filter(status__in=("queued", "running")).order_by("pk"):
            if run.status == "queued":
                run.transition("running", attempt=run.attempt + 1)
            while run.epoch < 3:
                measure(run, run.epoch + 1)
                print("measured", flush=True)
            run.transition("completed")
            print("completed", flush=True)

for line in sys.stdin:
    connections.close_all()
    child = os.fork()
    if not child:
        work()
    print("child", child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""

SCENE = """
from django.contrib.auth.models import User
from tests.helpers.sweeps import make_sweep
from trainingapp.models import Dataset
user = User.objects.create_user("ada")
dataset = Dataset.objects.create(name="pets", owner=user, source="/nowhere", status="ready", classes=["a", "b"],
    tasks=["classification"], counts={"train": {"a": 2, "b": 2}, "val": {"a": 1, "b": 1}},
    images={"train": 4, "val": 2})
make_sweep(user, dataset, sampler="random", max_trials=TRIALS, concurrency=2)
"""

VERDICT = """
from trainingapp.models import Sweep, TrainingRun
from trainingapp.runs.sweeps.advance import advance_due
sweep = Sweep.objects.get()
rows = sweep.trials.order_by("number").values_list("number", "state", "value", "run__best_metric", "run_id")
result = {"status": sweep.status, "trials": [list(row) for row in rows], "runs": TrainingRun.objects.count()}
"""


@pytest.mark.slow
@pytest.mark.parametrize(("trials", "kills"), [(12, 10), pytest.param(40, 50, marks=pytest.mark.long)])
def test_kills_lose_no_trial_and_make_none_twice(tmp_path: Path, trials: int, kills: int) -> None:
    studio = Studio(tmp_path / "data", LOG_LEVEL="ERROR")
    studio.migrate()
    studio.python(f"TRIALS = {trials}\n{SCENE}")
    chosen = random.Random(trials)
    env = {**studio.env, "PYTHONPATH": str(REPOSITORY)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", WORKER], cwd=REPOSITORY, env=env, **pipes) as worker:
        assert worker.stdin
        assert worker.stdout

        def line() -> str:
            return str(worker.stdout.readline()).strip()  # type: ignore[union-attr]

        # So few steps between two kills that the sweep is not over before the last of them.
        for _kill in range(kills):
            _life(worker, line, steps=chosen.randint(1, max(2, trials * 4 // kills)))
        while studio.python(VERDICT)["status"] != "completed":
            _life(worker, line, steps=trials * 5)
        worker.stdin.close()
    found = studio.python(VERDICT)
    assert [number for number, *_rest in found["trials"]] == list(range(trials))
    assert {state for _number, state, *_rest in found["trials"]} == {"completed"}
    assert all(value == best is not None for _number, _state, value, best, _run in found["trials"])
    assert len({run for *_rest, run in found["trials"]}) == found["runs"] == trials, json.dumps(found)


def _life(worker: Any, line: Any, *, steps: int) -> None:
    """Start a worker, and kill it somewhere after that many steps."""
    worker.stdin.write("live\n")
    worker.stdin.flush()
    child = 0
    while steps or not child:
        said = line()
        if said.startswith("child"):
            child = int(said.split()[1])
        elif steps:
            steps -= 1
    os.kill(child, signal.SIGKILL)
    while line() != "gone":
        pass
