"""manage.py webhook: create, list, test, deliveries, delete."""

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from tests.helpers.receiver import Receiver, receiving
from trainingapp.accounts.notifications.webhooks import WebhookValues, create_webhook
from trainingapp.models import AuditEntry, Webhook


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def call(*arguments: str) -> str:
    output = StringIO()
    call_command("webhook", *arguments, stdout=output, stderr=StringIO())
    return output.getvalue()


def test_only_the_secret_of_a_new_webhook_is_printed(admin: User, receiver: Receiver) -> None:
    secret = call("create", "chat", receiver.url, "--format", "slack", "--language", "zh-hans").strip()
    webhook = Webhook.objects.get()
    assert (webhook.owner, webhook.secret, webhook.format, webhook.language) == (admin, secret, "slack", "zh-hans")
    assert secret not in call("list") + call("list", "--json")


def test_a_webhook_of_the_installation_receives_the_chosen_events(admin: User, receiver: Receiver) -> None:
    call("create", "ops", receiver.url, "--installation", "--event", "run_failed")
    (record,) = json.loads(call("list", "--json"))
    assert (record["user"], record["events"], record["is_enabled"]) == (None, ["run_failed"], True)
    assert "(installation)" in call("list")


def test_a_test_is_sent_and_its_answer_shown(admin: User, receiver: Receiver) -> None:
    call("create", "chat", receiver.url)
    number = str(Webhook.objects.get().pk)
    assert call("test", number) == "chat: 200\n"
    assert json.loads(receiver.requests[0].body)["event"] == "test"
    assert "sent" in call("deliveries", number)


def test_a_failed_test_fails_the_command(admin: User, receiver: Receiver) -> None:
    call("create", "chat", receiver.url)
    receiver.answers.append((500, b"broken"))
    with pytest.raises(CommandError, match="chat"):
        call("test", str(Webhook.objects.get().pk))


def test_webhooks_are_deleted_and_the_deletion_is_recorded(user: User, receiver: Receiver, settings: Any) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    webhook = create_webhook(user, WebhookValues(name="chat", url=receiver.url))
    assert "was deleted" in call("delete", str(webhook.pk))
    assert not Webhook.objects.exists()
    assert AuditEntry.objects.filter(verb="delete", source="command").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "x", "https://example.org/", "--user", "nobody"],
        ["create", "x", "ftp://example.org/"],
        ["create", "x", "https://example.org/", "--event", "run_failed"],
        ["delete", "4711"],
        ["test", "4711"],
    ],
)
def test_errors_are_reported(admin: User, arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        call(*arguments)
    assert not Webhook.objects.exists()
