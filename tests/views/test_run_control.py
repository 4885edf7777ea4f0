"""The buttons and the menu of a run: which users are offered which, and the responses, also under concurrency."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.helpers.threads import in_threads
from trainingapp.models import Checkpoint, RunEvent, TrainingRun
from trainingapp.models.run import Status

MAKE = Callable[..., TrainingRun]
HTMX = {"HX-Request": "true"}
pytestmark = pytest.mark.django_db


def html(response: Any) -> str:
    return str(response.content.decode())


def order(client: Client, run: TrainingRun, command: str, **headers: str) -> Any:
    return client.post(reverse("run_control", args=[run.pk, command]), headers={**HTMX, **headers})


def triggers(response: Any) -> dict[str, Any]:
    """Event -> message of the notices that the page shows."""
    events = json.loads(response.headers.get("HX-Trigger", "{}"))
    return {name: detail["message"] for name, detail in events.items()}


def entries(response: Any) -> list[str]:
    return re.findall(r'id="(?:verb|menu)-(\w+)"', html(response))


def saved(run: TrainingRun, **fields: Any) -> Checkpoint:
    values = {"file": "epoch_5.pt", "attempt": 1, "epoch": 5, "step": 50, "reason": "epoch", "size_bytes": 1000}
    return Checkpoint.objects.create(run=run, sha256="0" * 64, created_at=timezone.now(), **{**values, **fields})


# What is shown


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("pending", ["start", "epochs", "clone", "edit", "tag", "share", "archive", "delete"]),
        ("queued", ["pause", "stop", "epochs", "clone", "edit", "tag", "share"]),
        ("running", ["pause", "stop", "checkpoint", "evaluate", "epochs", "clone", "edit", "tag", "share"]),
        ("paused", ["resume", "stop", "epochs", "clone", "edit", "tag", "share", "archive", "delete"]),
        ("completed", ["epochs", "clone", "edit", "tag", "share", "archive", "delete"]),
        ("failed", ["resume", "epochs", "clone", "retry", "edit", "tag", "share", "archive", "delete"]),
    ],
)
def test_the_owner_is_offered_what_is_possible(user_client: Client, make: MAKE, status: str, shown: list[str]) -> None:
    run = make(status, heartbeat_at=timezone.now())
    assert entries(user_client.get(run.get_absolute_url())) == shown


def test_an_archived_run_is_offered_its_restoration(user_client: Client, make: MAKE) -> None:
    shown = entries(user_client.get(make("paused", archived_at=timezone.now()).get_absolute_url()))
    assert "restore" in shown
    assert not {"resume", "archive"} & set(shown)


def test_a_fork_is_offered_once_a_valid_checkpoint_exists(user_client: Client, make: MAKE) -> None:
    run = make("completed")
    checkpoint = saved(run, damage="its hash does not hold")
    assert "fork" not in entries(user_client.get(run.get_absolute_url()))
    Checkpoint.objects.filter(pk=checkpoint.pk).update(damage="")
    assert "fork" in entries(user_client.get(run.get_absolute_url()))


def test_users_who_only_see_the_run_are_offered_nothing(client: Client, make: MAKE, other_user: User) -> None:
    other_user.groups.add(Group.objects.get_or_create(name="viewer")[0])
    client.force_login(other_user)
    assert entries(client.get(make("running").get_absolute_url())) == []


def test_an_operator_may_clone_a_run_of_another_user(client: Client, make: MAKE, other_user: User) -> None:
    client.force_login(other_user)
    assert entries(client.get(make("running").get_absolute_url())) == ["clone"]


def test_an_ending_run_is_offered_no_requests(user_client: Client, make: MAKE) -> None:
    run = make("running", requested_action="pause", heartbeat_at=timezone.now())
    assert not {"checkpoint", "evaluate", "epochs"} & set(entries(user_client.get(run.get_absolute_url())))


# What a press does


@pytest.mark.parametrize("command", ["checkpoint", "evaluate"])
def test_a_request_is_stored_and_shown(user_client: Client, make: MAKE, command: str) -> None:
    run = make("running")
    response = order(user_client, run, command)
    assert TrainingRun.objects.get().requests == [{"id": 1, "command": command}]
    assert "at the next step" in triggers(response)["studio:notice"]
    assert 'id="part-header"' in html(response)
    assert "Takes effect at the next step" in html(response)


def test_a_repeated_request_is_stored_once_and_answered(user_client: Client, make: MAKE) -> None:
    run = make("running")
    order(user_client, run, "checkpoint")
    assert "already" in triggers(order(user_client, run, "checkpoint"))["studio:notice"]
    assert len(TrainingRun.objects.get().requests) == 1


def test_a_failed_run_is_retried(user_client: Client, make: MAKE) -> None:
    run = make("failed")
    order(user_client, run, "retry")
    assert TrainingRun.objects.get().status == "queued"
    assert triggers(order(user_client, run, "retry")) == {"studio:notice": "The run is already queued or running."}


@pytest.mark.parametrize(("command", "status"), [("checkpoint", "paused"), ("evaluate", "queued"), ("retry", "paused")])
def test_an_impossible_verb_is_reported(user_client: Client, make: MAKE, command: str, status: str) -> None:
    assert "cannot be" in triggers(order(user_client, make(status), command))["studio:problem"]


def test_without_javascript_it_redirects_with_the_message(user_client: Client, make: MAKE) -> None:
    run = make("running")
    response = user_client.post(reverse("run_control", args=[run.pk, "checkpoint"]), follow=True)
    assert response.redirect_chain == [(run.get_absolute_url(), 302)]
    assert "A checkpoint is saved at the next step." in html(response)


def test_pause_and_stop_say_how_they_differ(user_client: Client, make: MAKE) -> None:
    run = make("running")
    page = html(user_client.get(run.get_absolute_url()))
    assert "The run stays unfinished: resume it whenever you like." in page
    assert "It counts as finished, but can still be resumed." in page
    assert "unfinished until you resume it" in triggers(order(user_client, run, "pause"))["studio:notice"]
    assert "counts as finished" in triggers(order(user_client, run, "stop"))["studio:notice"]


def test_pausing_twice_is_reported(user_client: Client, make: MAKE) -> None:
    run = make("running")
    address = reverse("run_control", args=[run.pk, "pause"])
    assert "unfinished" in triggers(user_client.post(address, headers=HTMX))["studio:notice"]
    assert triggers(user_client.post(address, headers=HTMX)) == {"studio:notice": "A pause has already been requested."}


def test_requests_need_post(user_client: Client, make: MAKE) -> None:
    assert user_client.get(reverse("run_control", args=[make("running").pk, "checkpoint"])).status_code == 405


def test_other_users_cannot_send_requests(client: Client, make: MAKE, other_user: User) -> None:
    client.force_login(other_user)
    assert order(client, make("running"), "checkpoint").status_code == 403
    assert TrainingRun.objects.get().requests == []


@pytest.mark.django_db(transaction=True)
def test_concurrent_requests_are_stored_once(make: MAKE, user: User) -> None:
    run = make("running")

    def press() -> int:
        client = Client()
        client.force_login(user)
        return int(order(client, run, "checkpoint").status_code)

    assert set(in_threads([press] * 4)) == {200}
    assert len(TrainingRun.objects.get().requests) == 1
    assert RunEvent.objects.filter(data__order="checkpoint").count() == 1


# By force


def test_force_stop_is_offered_for_an_unresponsive_trainer_and_confirmed(user_client: Client, make: MAKE) -> None:
    run = make(
        "running", requested_action="stop", requested_at=timezone.now() - timedelta(minutes=1), step=70, elapsed_s=35.0
    )
    saved(run, step=50)
    TrainingRun.objects.update(heartbeat_at=timezone.now(), last_event_at=timezone.now())
    assert "force_stop" in entries(user_client.get(run.get_absolute_url()))
    page = html(user_client.get(reverse("run_force_stop", args=[run.pk])))
    assert "20 steps since the newest checkpoint are lost" in page
    action = re.findall(r'<form class="actions" method="post" action="([^"]*)"', page)[0]
    user_client.post(action)
    assert TrainingRun.objects.get().requested_action == "kill"
    assert "A force stop has already been requested" in html(user_client.post(action, follow=True))


def test_the_force_stop_page_explains_when_it_is_not_needed(user_client: Client, make: MAKE) -> None:
    page = html(user_client.get(reverse("run_force_stop", args=[make("paused").pk])))
    assert '<form class="actions"' not in page
    assert "Pause or stop the run instead" in page


# What it costs


def test_the_page_shows_the_pause_cost(user_client: Client, make: MAKE) -> None:
    run = make("running", step=70, elapsed_s=35.0, heartbeat_at=timezone.now())
    saved(run, size_bytes=31_000_000, step=50)
    page = html(user_client.get(run.get_absolute_url()))
    assert "0 steps lost" in page
    assert "writes 29.6\xa0MB" in page
    assert "time: not known yet" in page
    assert re.search(r'>Kill or crash</th>\s*<td class="number"[^>]*>\s*20\s*<span class="quiet">\(about 10 s\)', page)


@pytest.mark.parametrize("status", [status for status in Status.values if status not in ("running", "paused")])
def test_no_pause_cost_is_shown_without_training(user_client: Client, make: MAKE, status: str) -> None:
    page = html(user_client.get(make(status).get_absolute_url()))
    assert re.search(r'<div id="part-pause_cost"[^>]* hidden>', page)


def test_a_verb_with_a_page_is_a_link_and_one_without_is_a_button(user_client: Client, make: MAKE) -> None:
    page = html(user_client.get(make("running", heartbeat_at=timezone.now()).get_absolute_url()))
    assert re.search(r'<a class="menu-item" id="menu-epochs"\s+href="/runs/\d+/epochs/"', page)
    assert re.search(r'<button class="menu-item" id="menu-checkpoint"\s+form="controls"', page)
