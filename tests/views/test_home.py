"""The first page: running runs, results, what needs attention, and the first steps."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.helpers.library import make_entry
from tests.helpers.machines import hold, machine
from trainingapp.models import Dataset, TrainingRun
from trainingapp.runs import home as home_data
from trainingapp.runs.home import SPARK_HEIGHT, SPARK_WIDTH, spark
from trainingapp.runs.series import Line

MAKE = Callable[..., TrainingRun]
pytestmark = [pytest.mark.django_db, pytest.mark.database]


def html(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


def running(make: MAKE, **fields: Any) -> TrainingRun:
    now = timezone.now()
    facts = {"heartbeat_at": now, "started_at": now, "step": 5, "total_steps": 10, "epoch": 2, "total_epochs": 4}
    return make("running", **facts | fields)


def test_a_running_run_is_a_card_with_a_pause(user_client: Client, make: MAKE) -> None:
    run = running(make, name="in training", eta_s=120.0, best_metric=0.5, best_metric_name="top1")
    page = html(user_client.get("/"))
    card = page[page.index(f'id="card-{run.pk}"') :]
    card = card[: card.index("</li>")]
    for part in ("in training", "Epoch 2 of 4", "50.0 %", "2 min 0 s", reverse("run_control", args=[run.pk, "pause"])):
        assert part in card


def test_a_reader_without_the_right_gets_no_pause(client: Client, make: MAKE, other_user: User) -> None:
    running(make, name="shared")
    running(make, name="hush", visibility="private")
    client.force_login(other_user)
    page = html(client.get("/"))
    assert "shared" in page
    assert "hush" not in page
    assert 'id="pause-' not in page


class Disk(NamedTuple):
    total: int
    used: int
    free: int


def test_what_needs_attention_is_named(
    staff_client: Client, make: MAKE, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    make("failed", name="failed lately", finished_at=now)
    make("failed", name="failed long ago", finished_at=now - timedelta(days=30))
    make("failed", name="failed and archived", finished_at=now, archived_at=now)
    running(make, name="lost", heartbeat_at=now - timedelta(hours=1))
    Dataset.objects.create(name="to review", owner=user, status="proposed")
    monkeypatch.setattr(home_data.shutil, "disk_usage", lambda path: Disk(100 * 2**30, 98 * 2**30, 2 * 2**30))
    found = [(str(item.title), str(item.text)) for item in staff_client.get("/").context["attention"]]
    assert found == [
        ("The disk is almost full", "2 GB of 100 GB are free."),
        ("lost", "No contact with its worker"),
        ("to review", "Import to review"),
        ("failed lately", "Failed"),
    ]


def test_the_disk_is_for_administrators_only(user_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_data.shutil, "disk_usage", lambda path: Disk(100 * 2**30, 98 * 2**30, 2 * 2**30))
    assert "Nothing needs your attention." in html(user_client.get("/"))


def test_results_are_the_runs_that_were_completed_last(user_client: Client, make: MAKE) -> None:
    now = timezone.now()
    make("completed", name="older", finished_at=now - timedelta(hours=1))
    make("completed", name="newer", finished_at=now, best_metric=0.75, best_metric_name="top1")
    make("completed", name="put away", finished_at=now, archived_at=now)
    response = user_client.get("/")
    assert [run.name for run in response.context["results"]] == ["newer", "older"]
    assert "75.0 %" in html(response)


def test_the_strip_counts_the_queue_and_the_devices(user_client: Client, make: MAKE) -> None:
    assert "No worker is running" in html(user_client.get("/"))
    device = machine(slots=1).devices.get()
    make("queued")
    hold(running(make), device)
    page = " ".join(html(user_client.get("/")).split())
    assert "1 run waits" in page
    assert "1 of 1 device in use" in page
    assert "No worker is running" not in page


def test_the_first_steps_are_shown_until_they_are_done(user_client: Client, make: MAKE, user: User) -> None:
    def done() -> list[bool]:
        return [step.is_done for step in user_client.get("/").context["steps"]]

    Dataset.objects.update(status="refused")
    assert done() == [False, False, False, False]
    Dataset.objects.update(status="ready")
    make("completed")
    assert done() == [True, True, False, False]
    make_entry(user)
    assert done() == []


def test_a_viewer_gets_no_first_steps(client: Client, other_user: User) -> None:
    other_user.groups.add(Group.objects.get_or_create(name="viewer")[0])
    client.force_login(other_user)
    assert "First steps" not in html(client.get("/"))


def test_htmx_gets_the_part_that_changes(user_client: Client) -> None:
    part = user_client.get("/", headers={"HX-Request": "true", "HX-Target": "home"})
    assert html(part).lstrip().startswith('<div id="home"')


def test_old_addresses_of_the_list_lead_to_it(user_client: Client) -> None:
    response = user_client.get("/?status=failed&page=2")
    assert (response.status_code, response.headers["Location"]) == (302, "/runs/?status=failed&page=2")


def test_a_curve_fills_its_box() -> None:
    def line(*values: float) -> Line:
        numbers = list(range(len(values)))
        return Line(step=[*numbers], epoch=[*numbers], time_s=[float(n) for n in numbers], value=[*values], total=9)

    assert spark(line(3.0, 1.0, 2.0)) == f"0.0,1.0 {SPARK_WIDTH / 2:.1f},{SPARK_HEIGHT - 1:.1f} {SPARK_WIDTH:.1f},16.0"
    assert spark(line(1.0)) == spark(None) == ""
    assert len(spark(line(1.0, 1.0)).split()) == 2
