"""The admin: every model, the status out of reach, verbs as actions."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.web.world import line, tell
from trainingapp.models import Checkpoint, Dataset, FailureRule, JournalEntry, RunEvent, TrainingRun

MODELS = [TrainingRun, RunEvent, Checkpoint, Dataset, JournalEntry]


def address(model: Any, page: str, *arguments: Any) -> str:
    return reverse(f"admin:trainingapp_{model._meta.model_name}_{page}", args=arguments)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_list_that_can_be_searched(staff_client: Client, run: TrainingRun, model: Any) -> None:
    tell(run, line("hello"))
    assert staff_client.get(address(model, "changelist"), {"q": "try"}).status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_added_by_form(staff_client: Client, model: Any) -> None:
    assert staff_client.get(address(model, "add")).status_code == 403


def test_a_form_changes_name_and_priority_and_nothing_else(staff_client: Client, run: TrainingRun) -> None:
    page = address(TrainingRun, "change", run.pk)
    assert staff_client.get(page).status_code == 200
    staff_client.post(page, {"name": "renamed", "priority": "7", "status": "completed", "attempt": "9", "config": "{}"})
    before = dict(run.config)
    run.refresh_from_db()
    assert (run.name, run.priority, run.status, run.attempt, run.config) == ("renamed", 7, "pending", 0, before)


@pytest.mark.parametrize("model", [TrainingRun, Dataset])
def test_rows_are_not_deleted_without_their_files(staff_client: Client, run: TrainingRun, model: Any) -> None:
    row = model.objects.get()
    assert staff_client.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert model.objects.exists()


def act(client: Client, model: Any, action: str, *rows: Any) -> str:
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return str(client.post(address(model, "changelist"), data, follow=True).content.decode())


def test_verbs_are_actions_with_a_word_for_each_run(staff_client: Client, make: Callable[..., TrainingRun]) -> None:
    possible, impossible = make(name="first"), make(status="completed", name="second")
    page = act(staff_client, TrainingRun, "start", possible, impossible)
    possible.refresh_from_db()
    assert possible.status == "queued"
    assert "“first” was queued." in page
    assert "“second” is completed and cannot be started" in page


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("pause", "queued", "paused"),
        ("resume", "paused", "queued"),
        ("stop", "paused", "stopped"),
        ("force_stop", "queued", "stopped"),
    ],
)
def test_each_verb(
    staff_client: Client, make: Callable[..., TrainingRun], action: str, before: str, after: str
) -> None:
    run = make(status=before)
    act(staff_client, TrainingRun, action, run)
    run.refresh_from_db()
    assert run.status == after


def test_deleting_takes_the_files_along(staff_client: Client, run: TrainingRun) -> None:
    run.folder.mkdir(parents=True)
    act(staff_client, TrainingRun, "delete_with_files", run)
    assert not TrainingRun.objects.exists()
    assert not run.folder.exists()


def test_the_admin_is_for_staff(user_client: Client) -> None:
    assert user_client.get(address(TrainingRun, "changelist")).status_code == 302


RULE = {"name": "fan", "pattern": "fan .* stopped", "error_class": "fan", "action": "retry", "max_retries": "2"}
RULE |= {"wait_s": "60", "advice": "Clean the fan.", "order": "1", "is_enabled": "on"}


def test_an_administrator_adds_a_rule_for_failures(staff_client: Client) -> None:
    staff_client.post(address(FailureRule, "add"), RULE)
    assert FailureRule.objects.get().advice == "Clean the fan."
    page = staff_client.get(address(FailureRule, "changelist")).content.decode()
    assert "fan .* stopped" in page
    assert "out_of_memory" in page, "the built-in rules are shown beside"
    assert "CUDA error" in page


@pytest.mark.parametrize(("pattern", "words"), [("fan (", "no regular expression"), ("x*", "every failure")])
def test_a_pattern_that_cannot_be_used_is_refused_at_its_field(staff_client: Client, pattern: str, words: str) -> None:
    response = staff_client.post(address(FailureRule, "add"), {**RULE, "pattern": pattern})
    assert words in str(response.context["adminform"].form.errors["pattern"])
    assert not FailureRule.objects.exists()


def test_rules_are_for_administrators(user_client: Client) -> None:
    assert user_client.post(address(FailureRule, "add"), RULE).status_code == 302
    assert not FailureRule.objects.exists()
