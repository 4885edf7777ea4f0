"""Many queued runs and several worker processes: each run is claimed once, and none is lost."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.helpers.studio import REPOSITORY, Studio

T = TypeVar("T", int, str)

RUNS = [60, pytest.param(1000, marks=pytest.mark.long)]
SLOTS = 2

#: What each claimer does: take a run, let it be completed at once, take the next. After the first it waits for the
#: others: the locks of SQLite are not fair, and one process could take all.
CLAIMER = """
import json, sys, django
django.setup()
from trainingapp.scheduling.scheduler import claim_next
host, worker = sys.argv[1], f"{sys.argv[1]}:{sys.argv[2]}:1"
print("ready", flush=True)
sys.stdin.readline()
claimed = []
while (run := claim_next(host, worker)) is not None:
    claimed.append(run.pk)
    run.transition("completed")
    if len(claimed) == 1:
        print("first", flush=True)
        sys.stdin.readline()
print(json.dumps(claimed))
"""

SCENE = """
from django.contrib.auth.models import User
from django.utils import timezone
from trainingapp.models import Dataset, TrainingRun
from trainingapp.contract.config import parse_config
user = User.objects.create_user("ada")
dataset = Dataset.objects.create(name="pets", owner=user, source="/nowhere", status="ready")
config = parse_config({"device": "cpu"}).model_dump(mode="json")
common = dict(name="r", owner=user, dataset=dataset, task="classification", config=config, status="queued")
runs = [TrainingRun(**common, queue_rank=n, queued_at=timezone.now()) for n in range(RUNS)]
TrainingRun.objects.bulk_create(runs)
"""

VERDICT = """
from trainingapp.models import DeviceHold, TrainingRun
columns = ("device__host__name", "taken_at", "released_at", "slots")
holds = DeviceHold.objects.order_by("taken_at").values_list(*columns)
result = {
    "attempts": list(TrainingRun.objects.filter(status="completed").values_list("attempt", flat=True)),
    "held": list(DeviceHold.objects.values_list("run_id", flat=True)),
    "holds": [[host, taken.timestamp(), released.timestamp(), slots] for host, taken, released, slots in holds],
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("runs", RUNS)
def test_no_run_is_claimed_twice_and_none_is_lost(tmp_path: Path, database_url: str, runs: int) -> None:
    studio = Studio(
        tmp_path / "data", DATABASE_URL=database_url, MAX_TRAINING_PROCESSES=str(SLOTS), LOG_LEVEL="WARNING"
    )
    studio.migrate()
    studio.python(f"RUNS = {runs}\n{SCENE}")
    claimed = claim_all(studio, ["one", "one", "two", "two"])
    assert all(claimed), "each of them got some"
    taken = [pk for each in claimed for pk in each]
    assert len(taken) == len(set(taken)) == runs
    found: dict[str, Any] = studio.python(VERDICT)
    assert found["attempts"] == [1] * runs
    assert sorted(found["held"]) == sorted(taken)
    assert all(most <= SLOTS for most in most_at_once(found["holds"]).values())


def claim_all(studio: Studio, hosts: list[str], script: str = CLAIMER) -> list[list[int]]:
    """A process for each host name, let loose at one moment, and again after the first run; what each claimed."""
    command = [sys.executable, "-c", script]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    claimers = [
        subprocess.Popen([*command, host, str(number)], cwd=REPOSITORY, env=studio.env, **pipes)
        for number, host in enumerate(hosts)
    ]
    for reached in ("ready\n", "first\n"):
        for claimer in claimers:
            assert claimer.stdout is not None
            assert claimer.stdout.readline() == reached
        for claimer in claimers:
            assert claimer.stdin is not None
            claimer.stdin.write("go\n")
            claimer.stdin.flush()
    outputs = [claimer.communicate()[0] for claimer in claimers]
    assert [claimer.returncode for claimer in claimers] == [0] * len(hosts)
    return [json.loads(output) for output in outputs]


def most_at_once(holds: Iterable[tuple[T, float, float, int]]) -> dict[T, int]:
    """The most slots of each host, or device, that were ever held at the same moment.

    Each hold is (host, start, end, slots).
    """
    moments = [(when, change, host) for host, start, end, n in holds for when, change in ((start, n), (end, -n))]
    now: Counter[T] = Counter()
    most: dict[T, int] = {}
    for _when, change, host in sorted(moments):
        now[host] += change
        most[host] = max(most.get(host, 0), now[host])
    return most
