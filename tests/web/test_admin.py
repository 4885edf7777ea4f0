"""The admin: every model, the status out of reach, verbs as actions."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.machines import machine
from tests.web.world import line, tell
from trainingapp.models import Checkpoint, Dataset, Device, DeviceHold, Forecast, Host, RunEvent, TrainingRun

MODELS = [TrainingRun, RunEvent, Checkpoint, Dataset, Host, Device, DeviceHold, Forecast]


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
    [("pause", "queued", "paused"), ("resume", "paused", "queued"), ("stop", "paused", "stopped")],
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


def test_a_person_says_whether_a_gpu_is_shared_and_nothing_else(staff_client: Client) -> None:
    device = machine(gpus=1).devices.get(kind="gpu")
    page = address(Device, "change", device.pk)
    assert staff_client.get(page).status_code == 200
    staff_client.post(page, {"is_present": "", "memory_bytes": "1"})
    before = device.memory_bytes
    device.refresh_from_db()
    assert (device.is_shareable, device.is_present, device.memory_bytes) == (False, True, before)


def test_the_admin_is_for_staff(user_client: Client) -> None:
    assert user_client.get(address(TrainingRun, "changelist")).status_code == 302
