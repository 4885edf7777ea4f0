"""Runs on several devices and several worker processes: no device twice, no part of a run, and none is left."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.studio import Studio
from tests.scheduling.test_many_claimers import claim_all, most_at_once

SIZES = [(3, 24), pytest.param((8, 200), marks=pytest.mark.long)]

SLOTS = 4

#: What each claimer does: take runs, let the older of two be completed, and wait for the others where nothing fits.
CLAIMER = """
import json, sys, time, django
django.setup()
from trainingapp.models import TrainingRun
from trainingapp.scheduling.scheduler import claim_next
host, worker = sys.argv[1], f"{sys.argv[1]}:{sys.argv[2]}:1"
print("ready", flush=True)
sys.stdin.readline()
claimed, held, tried = [], [], False
while held or TrainingRun.objects.filter(status="queued").exists():
    run = claim_next(host, worker)
    if run is not None:
        claimed.append(run.pk)
        held.append(run)
    if not tried:
        tried = True
        print("first", flush=True)
        sys.stdin.readline()
    if held and (run is None or len(held) > 1):
        held.pop(0).transition("completed")
    elif run is None:
        time.sleep(0.02)
print(json.dumps(claimed))
"""

SCENE = """
import random
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from tests.helpers.machines import asking, machine
from trainingapp.models import Dataset, Device, Host, TrainingRun
user = User.objects.create_user("ada")
dataset = Dataset.objects.create(name="pets", owner=user, source="/nowhere", status="ready")
for name in ("one", "two"):
    machine(name, slots=SLOTS, gpus=4, address=f"{name}.example.org")
Device.objects.filter(host__name="two", kind="gpu", index=3).update(name="Another")
Host.objects.update(seen_at=timezone.now() + timedelta(hours=1))
draw = random.Random(5)
runs = []
for rank in range(RUNS):
    count = draw.choice([1, 1, 1, 2, 2, 3, 4])
    least = draw.choice([0, 0, max(1, count - 1)])
    config = asking(device=draw.choice(["cuda", "cuda", "cpu"]), device_count=count, devices_at_least=least)
    config["accumulation_steps"] = 4
    config["hosts_at_most"] = draw.choice([1, 1, 2]) if count > 1 else 1
    runs.append(TrainingRun(name="r", owner=user, dataset=dataset, task="classification", config=config,
                            status="queued", queue_rank=rank, queued_at=timezone.now()))
TrainingRun.objects.bulk_create(runs)
"""

VERDICT = """
from trainingapp.models import DeviceHold, RunShare, TrainingRun
holds = DeviceHold.objects.order_by("taken_at", "pk").select_related("device__host")
result = {
    "attempts": list(TrainingRun.objects.filter(status="completed").values_list("attempt", flat=True)),
    "asked": {str(run.pk): run.config for run in TrainingRun.objects.all()},
    "holds": [
        {"run": str(hold.run_id), "device": hold.device_id, "slots": hold.slots, "kind": hold.device.kind,
         "host": hold.device.host.name, "group": [hold.device.name, hold.taken_at.timestamp()],
         "start": hold.taken_at.timestamp(), "end": hold.released_at.timestamp()}
        for hold in holds
    ],
    "shares": [
        [str(share.run_id), share.node_rank, share.host, share.ended_at is None] for share in RunShare.objects.all()
    ],
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_each_run_gets_all_of_its_devices_and_no_device_is_given_twice(
    tmp_path: Path, database_url: str, size: tuple[int, int]
) -> None:
    claimers, runs = size
    studio = Studio(tmp_path / "data", DATABASE_URL=database_url, LOG_LEVEL="WARNING")
    studio.migrate()
    studio.python(f"RUNS, SLOTS = {runs}, {SLOTS}\n{SCENE}")
    claimed = claim_all(studio, [("one", "two")[number % 2] for number in range(claimers)], CLAIMER)
    taken = [pk for each in claimed for pk in each]
    assert len(taken) == len(set(taken)) == runs, "none is left, and none was claimed twice"
    found: dict[str, Any] = studio.python(VERDICT)
    assert found["attempts"] == [1] * runs
    of_run: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for hold in found["holds"]:
        of_run[hold["run"]].append(hold)
    for run, holds in of_run.items():
        asked = found["asked"][run]
        count = sum(hold["slots"] for hold in holds)
        assert (asked["devices_at_least"] or asked["device_count"]) <= count <= asked["device_count"]
        assert len({tuple(hold["group"]) for hold in holds}) == 1, "one kind, at one moment"
        hosts = list(dict.fromkeys(hold["host"] for hold in holds))
        assert len(hosts) <= asked["hosts_at_most"]
        expected = [[run, number, host, False] for number, host in enumerate(hosts)] if len(hosts) > 1 else []
        assert [share for share in found["shares"] if share[0] == run] == expected
    assert found["shares"], "some of the runs had devices of both hosts"
    kinds = {hold["device"]: hold["kind"] for hold in found["holds"]}
    most = most_at_once((hold["device"], hold["start"], hold["end"], hold["slots"]) for hold in found["holds"])
    assert len(most) == len(kinds)
    for device, slots in most.items():
        assert slots <= (1 if kinds[device] == "gpu" else SLOTS)
