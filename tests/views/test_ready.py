"""/readyz: what a load balancer requests before it sends traffic."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from trainingapp.models import Host, TrainingRun
from trainingapp.operations.doctor import health as vital_signs

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _worker(db: None) -> None:
    Host.objects.create(name="studio", seen_at=timezone.now())


def ask(client: Client) -> tuple[int, dict[str, Any]]:
    response = client.get(reverse("ready"))
    return response.status_code, response.json()


def unwell(client: Client) -> set[str]:
    status, body = ask(client)
    assert (status, body["status"]) == (503, "not ready")
    return {name for name, check in body["checks"].items() if not check["ok"]}


def test_a_working_studio_is_ready_without_a_login(client: Client) -> None:
    status, body = ask(client)
    assert (status, body["status"]) == (200, "ok")
    assert set(body["checks"]) == {"database", "migrations", "queue", "worker", "folders", "disk"}
    assert client.post(reverse("ready")).status_code == 405


def test_without_a_worker_it_is_not_ready(client: Client, make: Callable[..., TrainingRun]) -> None:
    Host.objects.update(seen_at=timezone.now() - timedelta(seconds=11))
    assert unwell(client) == {"worker"}
    make("running", host="studio", heartbeat_at=timezone.now())
    assert ask(client)[0] == 200, "a run that beats is a sign of life as well"
    Host.objects.update(seen_at=timezone.now() + timedelta(hours=1))
    TrainingRun.objects.all().delete()
    assert unwell(client) == {"worker"}, "of a clock that was set back since"
    Host.objects.update(seen_at=timezone.now(), state="leaving")
    assert unwell(client) == {"worker"}, "it takes nothing"


def test_with_a_missing_migration_it_is_not_ready(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'trainingapp'")
    assert unwell(client) == {"migrations"}


def test_with_an_unwritable_folder_it_is_not_ready(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vital_signs, "data_folders", lambda: [vital_signs.Path("/proc/sys")])
    assert "folders" in unwell(client)


def test_with_a_full_disk_it_is_not_ready(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vital_signs, "LEAST_FREE_BYTES", 1 << 62)
    assert unwell(client) == {"disk"}


def test_with_an_unreachable_queue_it_is_not_ready_and_shows_no_secret(client: Client, settings: Any) -> None:
    settings.REDIS_URL = "redis://:hunter2@127.0.0.1:1/0"
    assert unwell(client) == {"queue"}
    assert "hunter2" not in client.get(reverse("ready")).content.decode()
