"""The page of the downtime journal, the banner after a restart, and the notices on a run's page."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from trainingapp.models import JournalEntry, TrainingRun

pytestmark = pytest.mark.database

MAKE = Callable[..., TrainingRun]
WORKER = "studio:77:1764064800.00"


def html(response: Any) -> str:
    return " ".join(response.content.decode().split())


def entry(run: TrainingRun, worker: str = WORKER, **fields: Any) -> JournalEntry:
    now = timezone.now()
    evidence = {
        "heartbeat_at": now.isoformat(),
        "process": "gone",
        "last_event": {"seq": 41, "type": "log", "time": now.isoformat()},
        "checkpoint": {"file": "epoch_3.pt", "step": 300, "sound": True},
        "steps_lost": 12,
    }
    defaults = {"action": "requeued", "message": "The worker was lost.", "done_at": now, "evidence": evidence}
    return JournalEntry.objects.create(
        run=run, run_name=run.name, attempt=1, found_by=worker, found_at=now, **{**defaults, **fields}
    )


def test_an_empty_journal_explains_itself(user_client: Client) -> None:
    page = html(user_client.get(reverse("journal")))
    assert "No interrupted runs" in page
    assert "restart" not in html(user_client.get(reverse("run_list"))).lower()


def test_entries_are_shown_by_worker_with_their_evidence(user_client: Client, make: MAKE) -> None:
    entry(make(name="older"), "studio:1:1764000000.00")
    entry(make(name="middling"))
    entry(make(name="newest"), action="failed")
    page = html(user_client.get(reverse("journal")))
    assert page.index("newest") < page.index("middling") < page.index("older")
    assert page.count("Worker on studio, started") == 2
    assert "1 resumed, 1 lost" in page
    assert "Newest valid checkpoint: epoch_3.pt, step 300" in page
    assert "Steps to repeat: 12" in page
    assert "Last event: number 41" in page


def test_entries_of_a_private_run_are_shown_only_to_users_who_see_it(
    user_client: Client, client: Client, make: MAKE, other_user: User
) -> None:
    entry(make(name="secret", visibility="private"))
    client.force_login(other_user)
    assert "secret" in html(user_client.get(reverse("journal")))
    assert "secret" not in html(client.get(reverse("journal")))
    assert "secret" not in html(client.get(reverse("run_list")))


def test_an_entry_outlives_its_run_and_an_open_one_is_marked(staff_client: Client, make: MAKE) -> None:
    run = make(name="gone for good")
    entry(run)
    entry(make(name="in work"), action="", message="", done_at=None, evidence={"process": "alive"})
    run.delete()
    page = html(staff_client.get(reverse("journal")))
    assert "gone for good" in page
    assert "Recovery in progress" in page


def test_the_banner_is_shown_until_it_is_dismissed(user_client: Client, make: MAKE) -> None:
    entry(make(name="one"))
    entry(make(name="two"), action="completed")
    entry(make(name="three"), action="failed")
    page = html(user_client.get(reverse("run_list")))
    assert "Since the restart at" in page
    assert "2 runs resumed," in page
    assert "1 lost." in page
    assert user_client.post(reverse("journal_seen")).headers["Location"] == reverse("run_list")
    assert "Since the restart" not in html(user_client.get(reverse("run_list")))
    entry(make(name="four"), "studio:88:1764069999.00")
    assert "1 run resumed," in html(user_client.get(reverse("run_list")))
    response = user_client.post(reverse("journal_seen"), headers={"HX-Request": "true"})
    assert (response.status_code, response.content) == (200, b"")


def test_the_banner_is_dismissed_by_post_only(user_client: Client) -> None:
    assert user_client.get(reverse("journal_seen")).status_code == 405
    assert user_client.post(reverse("journal")).status_code == 405


# The page of a run


def page_of(client: Client, run: TrainingRun) -> str:
    return html(client.get(reverse("run_detail", args=[run.pk])))


def test_the_page_of_a_run_shows_its_recovery(user_client: Client, make: MAKE) -> None:
    run = make("queued")
    found = entry(run)
    page = page_of(user_client, run)
    assert "The worker was lost." in page
    assert f"{reverse('journal')}#entry-{found.pk}" in page


def test_a_waiting_retry_is_shown_with_its_reason_and_time(user_client: Client, make: MAKE, user: User) -> None:
    soon = timezone.now() + timedelta(seconds=40)
    failure = {"error_class": "device_error", "error_message": "CUDA error. Once more.", "error_lines": ["the proof"]}
    run = make("queued", not_before=soon, **failure)
    page = page_of(user_client, run)
    assert "The GPU or its driver reported an error" in page
    assert "the proof" in page
    assert f"automatic retry at {timezone.localtime(soon):%H:%M:%S}" in page
    assert f"Automatic retry at {timezone.localtime(soon):%H:%M:%S}" in page
    assert 'id="verb-resume"' in page
    assert "notice-warning" in page


def test_a_time_limit_is_not_shown_as_an_error(user_client: Client, make: MAKE) -> None:
    run = make("stopped", error_class="time_limit", error_message="The time limit of 12 h was reached.")
    page = page_of(user_client, run)
    assert "The time limit was reached" in page
    assert "notice-error" not in page


@pytest.mark.django_db
def test_an_unresponsive_trainer_is_reported_and_force_stop_is_offered(user_client: Client, make: MAKE) -> None:
    now = timezone.now()
    run = make("running", heartbeat_at=now, last_event_at=now - timedelta(seconds=185))
    page = page_of(user_client, run)
    assert "has not reported for 3 min 5 s" in page
    assert reverse("run_force_stop", args=[run.pk]) in page
    user_client.post(reverse("run_control", args=[run.pk, "force_stop"]))
    run.refresh_from_db()
    assert run.requested_action == "kill"
    assert "The trainer is being killed" in page_of(user_client, run)


def test_only_the_owner_is_offered_force_stop(client: Client, make: MAKE, other_user: User) -> None:
    run = make("running", heartbeat_at=timezone.now())
    client.force_login(other_user)
    assert client.post(reverse("run_control", args=[run.pk, "force_stop"])).status_code == 403
    run.refresh_from_db()
    assert run.requested_action == ""


def test_the_advice_of_a_custom_rule_takes_precedence(user_client: Client, make: MAKE) -> None:
    from trainingapp.models import FailureRule

    FailureRule.objects.create(name="The fan", pattern="fan", error_class="fan", advice="Clean the fan.")
    page = page_of(user_client, make("failed", error_class="fan", error_message="It got hot."))
    assert "The fan" in page
    assert "Clean the fan." in page
