"""manage.py queue and manage.py devices."""

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from tests.helpers.machines import asking, busy_studio, machine
from trainingapp.models import AuditEntry, Dataset, Device, TrainingRun
from trainingapp.scheduling import forecast

MAKE = Callable[..., TrainingRun]
pytestmark = [pytest.mark.django_db, pytest.mark.database]


def run(*arguments: object) -> str:
    output = StringIO()
    call_command(*map(str, arguments), stdout=output)
    return output.getvalue()


@pytest.fixture
def queue(make: MAKE) -> list[TrainingRun]:
    now = timezone.now()
    return [make("queued", name=n, queue_rank=float(i), queued_at=now, config=asking()) for i, n in enumerate("abc")]


def names(text: str) -> str:
    return "".join(record["name"] for record in json.loads(text))


def test_list_shows_order_and_reasons(queue: list[TrainingRun]) -> None:
    machine(slots=1)
    forecast.keep_up()
    heading, first, *rest = run("queue", "list").splitlines()
    assert heading.split() == ["PLACE", "ID", "NAME", "PRIORITY", "OWNER", "STARTS", "ENDS", "WAITS", "BECAUSE"]
    assert first.split()[:5] == ["1", str(queue[0].pk), "a", "0", "ada"]
    assert "A device is available" in first
    assert len(rest) == 2
    records = json.loads(run("queue", "list", "--json"))
    assert [record["place"] for record in records] == [1, 2, 3]
    assert records[0]["forecast"]["start_earliest"] is not None
    assert "used by “a”" in records[1]["reason"]


def test_move(queue: list[TrainingRun]) -> None:
    a, b, c = (each.pk for each in queue)
    assert names(run("queue", "move", c, "--first", "--json")) == "cab"
    assert names(run("queue", "move", c, "--last", "--json")) == "abc"
    assert names(run("queue", "move", c, "--before", b, "--json")) == "acb"
    assert names(run("queue", "move", a, "--after", b, "--json")) == "cba"


def test_priority(queue: list[TrainingRun]) -> None:
    assert names(run("queue", "priority", queue[2].pk, 4, "--json")) == "cab"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["move", "4711", "--first"], "There is no run 4711"),
        (["move", "{a}", "--before", "4711"], "There is no run 4711"),
        (["move", "{a}"], "one of the arguments"),
        (["move", "{a}", "--first", "--last"], "not allowed with"),
        (["priority", "{a}", "5000"], "must lie between"),
    ],
)
def test_errors_are_reported(queue: list[TrainingRun], arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        run("queue", *(each.format(a=queue[0].pk) for each in arguments))


def test_a_run_that_is_not_queued_cannot_be_moved(make: MAKE) -> None:
    with pytest.raises(CommandError, match="and not in the queue"):
        run("queue", "move", make("completed").pk, "--first")


def test_devices(admin: User, dataset: Dataset) -> None:
    assert "No host has reported yet" in run("devices")
    assert json.loads(run("devices", "--json")) == []
    busy_studio(admin, dataset)
    text = run("devices")
    lines = {tuple(line.split()[:3]): line for line in text.splitlines()}
    assert "4711 blender" in lines["cuda:1", "gpu-box", "present"]
    assert "Street scenes, large" in lines["cuda:0", "gpu-box", "present"]
    assert ("cpu", "attic", "away") in lines
    hosts: dict[str, Any] = {host["name"]: host for host in json.loads(run("devices", "--json"))}
    gpu = hosts["gpu-box"]["devices"][1]
    assert (gpu["device"], gpu["holds"][0]["name"]) == ("cuda:0", "Street scenes, large")
    assert hosts["attic"]["is_away"]


def test_hosts_that_are_leaving_or_have_left(db: None) -> None:
    machine("barn", state="leaving")
    machine("shed", gpus=1, state="left").devices.filter(kind="gpu").update(problem="driver")
    text = run("devices")
    states = {tuple(line.split()[:3]) for line in text.splitlines()[1:]}
    assert states == {("cpu", "barn", "leaving"), ("cpu", "shed", "left"), ("cuda:0", "shed", "left")}
    assert {host["name"]: host["state"] for host in json.loads(run("devices", "--json"))} == {
        "barn": "leaving",
        "shed": "left",
    }


def test_a_gpu_is_put_in_quarantine_and_released(admin: User, dataset: Dataset) -> None:
    busy_studio(admin, dataset)
    text = run("devices", "quarantine", "gpu-box:cuda:1", "--reason", "fan broken")
    lines = {tuple(line.split()[:3]): line for line in text.splitlines()}
    assert ("cuda:1", "gpu-box", "quarantine") in lines
    assert "gpu-box cuda:1: It was put in quarantine by " in text
    assert text.rstrip().endswith("fan broken")
    (entry,) = AuditEntry.objects.filter(verb="quarantine")
    assert (entry.source, entry.details) == ("command", {"reason": "fan broken"})
    gpu = Device.objects.get(host__name="gpu-box", kind="gpu", index=1)
    released = {tuple(line.split()[:3]) for line in run("devices", "release", str(gpu.pk)).splitlines()}
    assert ("cuda:1", "gpu-box", "unchecked") in released
    with pytest.raises(CommandError, match="can be used, or is being checked"):
        run("devices", "release", gpu.uuid)
    for name in ("gpu-box:cuda:7", "gpu-box:cuda:x", "4711000", "GPU-none"):
        with pytest.raises(CommandError, match="There is no device"):
            run("devices", "release", name)
