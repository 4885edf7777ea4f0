"""The pages of notifications, their settings and webhooks."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from trainingapp.accounts.notifications.events import EVENTS
from trainingapp.accounts.notifications.preferences import channels_of, settings_of
from trainingapp.accounts.notifications.webhooks import WebhookValues, create_webhook
from trainingapp.models import AuditEntry, Delivery, Notification, TrainingRun, Webhook
from trainingapp.models.run import Status

pytestmark = pytest.mark.django_db

HOOK = {"name": "chat", "url": "https://hooks.example.org/a", "format": "slack", "language": "en", "is_enabled": "on"}
Run = Callable[..., TrainingRun]


def page(client: Client, address: str, **data: Any) -> str:
    return client.get(address, data).content.decode()


def test_an_empty_list_says_what_will_be_in_it(user_client: Client) -> None:
    assert "No notifications yet" in page(user_client, "/notifications/")


def test_the_bell_of_every_page_counts_unread_notifications(user_client: Client, make: Run) -> None:
    make(status="running").transition(Status.COMPLETED)
    assert "Notifications: 1 unread" in page(user_client, "/queue/")
    user_client.post("/notifications/read/")
    assert "Notifications: 1 unread" not in page(user_client, "/queue/")


def test_the_list_is_in_the_language_of_the_reader(user_client: Client, make: Run) -> None:
    make(status="running", name="birds").transition(Status.COMPLETED)
    assert "The run “birds” was completed." in page(user_client, "/notifications/")
    user_client.cookies["django_language"] = "zh-hans"
    assert "运行“birds”已完成" in page(user_client, "/notifications/")


def test_the_list_is_filtered_by_event_and_by_what_is_unread(user_client: Client, make: Run) -> None:
    make(status="running", name="good").transition(Status.COMPLETED)
    make(status="running", name="bad").transition(Status.FAILED)
    failed = page(user_client, "/notifications/", event="run_failed")
    assert ("bad" in failed, "good" in failed) == (True, False)
    user_client.post("/notifications/read/", {"id": Notification.objects.latest("pk").pk})
    unread = page(user_client, "/notifications/", show="unread")
    assert ("bad" in unread, "good" in unread) == (False, True)
    assert "No such notifications" in page(user_client, "/notifications/", event="disk_low")


def test_opening_a_notification_marks_it_as_read_and_shows_its_run(user_client: Client, make: Run) -> None:
    run = make(status="running")
    run.transition(Status.COMPLETED)
    response = user_client.get(f"/notifications/{Notification.objects.get().pk}/")
    assert response.headers["Location"] == run.get_absolute_url()
    assert Notification.objects.get().read_at is not None


def test_a_notification_outlives_its_run(user_client: Client, make: Run) -> None:
    run = make(status="running", name="birds")
    run.transition(Status.COMPLETED)
    TrainingRun.objects.filter(pk=run.pk).delete()
    assert "birds" in page(user_client, "/notifications/")
    response = user_client.get(f"/notifications/{Notification.objects.get().pk}/")
    assert response.headers["Location"] == "/notifications/"


def test_marking_as_read_leads_to_no_other_site(user_client: Client) -> None:
    response = user_client.post("/notifications/read/", {"next": "https://example.org/"})
    assert response.headers["Location"] == "/notifications/"


def test_the_settings_store_the_channels_of_each_event(user_client: Client, user: User) -> None:
    data = {"language": "zh-hans", "email": "ada@example.org", "run_completed": ["page", "webhook"]}
    assert user_client.post("/notifications/settings/", data).status_code == 302
    stored = settings_of([user])[user.pk]
    assert channels_of(stored, EVENTS["run_completed"]) == {"page", "webhook"}
    assert channels_of(stored, EVENTS["run_failed"]) == set()
    user.refresh_from_db()
    assert (user.email, stored.language) == ("ada@example.org", "zh-hans")


def test_the_settings_refuse_an_address_that_is_none(user_client: Client) -> None:
    response = user_client.post("/notifications/settings/", {"language": "en", "email": "ada"})
    assert response.status_code == 422


def test_the_settings_say_that_no_mail_server_is_configured(user_client: Client, settings: Any) -> None:
    assert "No mail server is configured" in page(user_client, "/notifications/settings/")
    settings.MAIL_IS_CONFIGURED = True
    assert "No mail server is configured" not in page(user_client, "/notifications/settings/")


def test_only_administrators_choose_what_concerns_the_studio(user_client: Client, staff_client: Client) -> None:
    assert "Disk almost full" not in page(user_client, "/notifications/settings/")
    assert "Disk almost full" in page(staff_client, "/notifications/settings/")


def test_a_webhook_is_created_changed_and_deleted(user_client: Client, user: User) -> None:
    response = user_client.post("/notifications/webhooks/new/", HOOK)
    webhook = Webhook.objects.get()
    assert response.headers["Location"] == f"/notifications/webhooks/{webhook.pk}/"
    assert (webhook.owner, webhook.format) == (user, "slack")
    shown = page(user_client, f"/notifications/webhooks/{webhook.pk}/")
    assert webhook.secret in shown
    user_client.post(f"/notifications/webhooks/{webhook.pk}/", {**HOOK, "name": "room"})
    changed = Webhook.objects.get()
    assert (changed.name, changed.secret) == ("room", webhook.secret)
    question = page(user_client, f"/notifications/webhooks/{webhook.pk}/delete/")
    assert "Delete “room”?" in question
    assert Webhook.objects.exists()
    user_client.post(f"/notifications/webhooks/{webhook.pk}/delete/")
    assert not Webhook.objects.exists()
    verbs = AuditEntry.objects.filter(kind="webhook").order_by("pk").values_list("verb", flat=True)
    assert list(verbs) == ["create", "change", "delete"]


def test_the_audit_trail_holds_neither_the_secret_nor_the_path(user_client: Client) -> None:
    user_client.post("/notifications/webhooks/new/", {**HOOK, "url": "https://hooks.example.org/token"})
    assert AuditEntry.objects.get(kind="webhook").details == {"address": "hooks.example.org"}


def test_a_private_address_is_refused_with_a_reason(user_client: Client) -> None:
    response = user_client.post("/notifications/webhooks/new/", {**HOOK, "url": "http://127.0.0.1:9000/"})
    assert response.status_code == 422
    assert "Only webhooks of administrators may use private addresses" in response.content.decode()


def test_only_administrators_create_webhooks_of_the_installation(user_client: Client, staff_client: Client) -> None:
    for client in (user_client, staff_client):
        client.post("/notifications/webhooks/new/", {**HOOK, "for_installation": "on", "events": ["run_failed"]})
    own, common = Webhook.objects.order_by("pk")
    assert (own.owner is None, own.events) == (False, [])
    assert (common.owner, common.events) == (None, ["run_failed"])
    assert user_client.get(f"/notifications/webhooks/{common.pk}/").status_code == 404
    assert staff_client.get(f"/notifications/webhooks/{common.pk}/").status_code == 200


def test_a_test_appears_in_the_log(user_client: Client, user: User) -> None:
    webhook = create_webhook(user, WebhookValues(name="chat", url=HOOK["url"]))
    user_client.post(f"/notifications/webhooks/{webhook.pk}/test/")
    Delivery.objects.update(state="failed", tries=1, status_code=404, response="<b>who?</b>", due_at=None)
    shown = page(user_client, f"/notifications/webhooks/{webhook.pk}/")
    assert "&lt;b&gt;who?&lt;/b&gt;" in shown
    assert "404" in shown
