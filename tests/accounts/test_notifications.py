"""Who is told of what, in the transaction in which it happens."""

from collections import namedtuple
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from trainingapp.accounts.notifications import events, outbox
from trainingapp.accounts.notifications.events import EVENTS, Channel
from trainingapp.accounts.notifications.preferences import save_settings
from trainingapp.accounts.notifications.reading import mark_read, unread_count
from trainingapp.accounts.notifications.webhooks import WebhookValues, create_webhook
from trainingapp.contract.messages import runs as messages
from trainingapp.contract.messages.dataset_checks import NO_IMPORTABLE_IMAGES, NO_OBJECTS
from trainingapp.datasets import imports
from trainingapp.datasets.decisions import CANCELLED, decide
from trainingapp.datasets.report import report_item
from trainingapp.models import Alarm, Dataset, Delivery, Notification, Occurrence, TrainingRun
from trainingapp.models.run import Status
from trainingapp.operations import disk_alarm

pytestmark = pytest.mark.django_db

HOOK = "https://hooks.example.org/a"
Run = Callable[..., TrainingRun]


def told(event: str = "") -> set[tuple[str, str]]:
    """The notifications as pairs of user name and event."""
    rows = Notification.objects.values_list("user__username", "occurrence__event")
    return {(name, each) for name, each in rows if not event or each == event}


@pytest.mark.parametrize(
    ("to", "level", "requested", "event"),
    [
        (Status.COMPLETED, "info", "", "run_completed"),
        (Status.FAILED, "error", "", "run_failed"),
        (Status.QUEUED, "warning", "", "run_interrupted"),  # a retry
        (Status.STOPPED, "warning", "", "run_interrupted"),  # a time limit
        (Status.STOPPED, "warning", "kill", ""),
        (Status.PAUSED, "info", "pause", ""),
        (Status.QUEUED, "info", "", ""),  # the studio was stopped
    ],
)
def test_the_owner_is_told_of_the_end_of_a_run_that_they_did_not_request(
    make: Run, to: str, level: str, requested: str, event: str
) -> None:
    run = make(status="running", requested_action=requested)
    run.transition(to, level=level, message=messages.KILLED())
    assert told() == ({("ada", event)} if event else set())


def test_the_message_names_the_run_and_the_reason(make: Run) -> None:
    make(status="running", name="birds").transition(Status.FAILED, level="error", message=messages.KILLED())
    notification = Notification.objects.get()
    assert notification.occurrence.message_data["params"]["run"] == "birds"
    assert notification.occurrence.message_data["params"]["reason"]["code"] == messages.KILLED().code
    assert notification.occurrence.facts["run"]["status"] == "failed"


def test_what_is_rolled_back_was_never_announced(make: Run) -> None:
    run = make(status="running")
    with transaction.atomic():
        run.transition(Status.COMPLETED)
        transaction.set_rollback(True)
    assert not Occurrence.objects.exists()
    assert not Notification.objects.exists()


def test_those_who_starred_a_run_are_told_while_they_may_see_it(make: Run, other_user: User) -> None:
    stranger = User.objects.create_user("eve")
    run = make(status="running")
    run.starred_by.add(other_user)
    run.transition(Status.COMPLETED)
    hidden = make(status="running", visibility="private")
    hidden.starred_by.add(other_user, stranger)
    hidden.transition(Status.FAILED)
    assert told() == {("ada", "run_completed"), ("grace", "run_completed"), ("ada", "run_failed")}


def test_an_account_that_was_deactivated_is_not_told(make: Run, user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)
    make(status="running").transition(Status.COMPLETED)
    assert told() == set()


def test_settings_choose_the_channels_of_each_event(make: Run, user: User, settings: Any) -> None:
    settings.MAIL_IS_CONFIGURED = True
    create_webhook(user, WebhookValues(name="chat", url=HOOK))
    channels = {"run_completed": ["email"], "run_failed": ["page", "webhook"]}
    save_settings(user, channels, language="zh-hans", email="ada@example.org")
    make(status="running").transition(Status.COMPLETED)
    assert told() == set()
    assert [each.webhook for each in Delivery.objects.all()] == [None]
    make(status="running").transition(Status.FAILED)
    assert told() == {("ada", "run_failed")}
    assert Delivery.objects.filter(webhook__name="chat").count() == 1
    assert Delivery.objects.count() == 2


def test_no_mail_waits_where_no_server_is_configured(make: Run, user: User) -> None:
    save_settings(user, {"run_completed": ["email"]}, language="en", email="ada@example.org")
    make(status="running").transition(Status.COMPLETED)
    assert not Delivery.objects.exists()


def test_a_webhook_of_the_installation_hears_of_what_everyone_sees(make: Run, admin: User) -> None:
    values = WebhookValues(name="hall", url=HOOK, events=["run_completed"])
    create_webhook(admin, values, for_installation=True)
    for visibility in ("everybody", "private"):
        make(status="running", visibility=visibility).transition(Status.COMPLETED)
    make(status="running").transition(Status.FAILED)
    assert [each.occurrence.event for each in Delivery.objects.all()] == ["run_completed"]


def test_the_owner_is_told_of_an_import_once(dataset: Dataset) -> None:
    Dataset.objects.update(status="inspecting")
    inspecting = Dataset.objects.filter(pk=dataset.pk, status="inspecting")
    assert decide(inspecting, status="proposed", proposal={})
    assert not decide(inspecting, status="proposed", proposal={})
    assert [row.event for row in Occurrence.objects.all()] == ["import_proposed"]


def test_a_refused_import_is_told_with_its_first_reason(dataset: Dataset) -> None:
    Dataset.objects.update(status="importing")
    findings = [report_item("error", "no_images", reason()) for reason in (NO_IMPORTABLE_IMAGES, NO_OBJECTS)]
    decide(Dataset.objects.filter(pk=dataset.pk), status="refused", report=findings)
    occurrence = Occurrence.objects.get()
    assert occurrence.event == "import_refused"
    assert occurrence.message_data["params"]["reason"]["code"] == NO_IMPORTABLE_IMAGES.code
    assert told() == {("ada", "import_refused")}


def test_who_cancels_an_import_is_not_told_of_it(dataset: Dataset) -> None:
    Dataset.objects.update(status="importing")
    finding = report_item("error", CANCELLED, imports.IMPORT_CANCELLED())
    decide(Dataset.objects.filter(pk=dataset.pk), status="refused", report=[finding])
    assert not Occurrence.objects.exists()


def test_a_disk_that_becomes_full_is_announced_once_to_administrators(
    user: User, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_free(free_gb: int) -> None:
        disk = namedtuple("disk", "total used free")(100 * 2**30, 0, free_gb * 2**30)
        monkeypatch.setattr("shutil.disk_usage", lambda path: disk)
        disk_alarm.check_disk()

    for free_gb in (50, 4, 3, 6, 4):  # 6 GB are above the limit, and too near to it to end the alarm
        with_free(free_gb)
    assert told() == {("root", "disk_low")}
    assert Occurrence.objects.count() == 1
    with_free(20)
    assert not Alarm.objects.exists()
    with_free(1)
    assert Occurrence.objects.count() == 2


def test_old_notifications_are_removed_with_their_deliveries(make: Run, user: User, settings: Any) -> None:
    create_webhook(user, WebhookValues(name="chat", url=HOOK))
    for _ in range(2):
        make(status="running").transition(Status.COMPLETED)
    old = Occurrence.objects.earliest("pk")
    Occurrence.objects.filter(pk=old.pk).update(
        created_at=timezone.now() - timedelta(days=settings.NOTIFICATION_DAYS, minutes=1)
    )
    assert outbox.remove_old() == 1
    assert Notification.objects.count() == Delivery.objects.count() == 1


def test_reading_concerns_one_s_own_notifications_only(make: Run, user: User, other_user: User) -> None:
    run = make(status="running")
    run.starred_by.add(other_user)
    run.transition(Status.COMPLETED)
    numbers = list(Notification.objects.values_list("pk", flat=True))
    assert mark_read(user, numbers) == 1
    assert (unread_count(user.pk), unread_count(other_user.pk)) == (0, 1)


def test_the_names_of_events_are_their_keys() -> None:
    assert {name: event.name for name, event in EVENTS.items()} == {name: name for name in EVENTS}
    assert all(event.channels <= set(Channel) for event in EVENTS.values())
    assert events.event_named("of_a_later_version").label == "of a later version"
