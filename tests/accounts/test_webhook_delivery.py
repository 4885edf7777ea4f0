"""E-mails and webhooks as they are sent: against a real server, signed, tried again, and logged."""

import base64
import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core import mail
from django.utils import timezone

from tests.helpers.receiver import Receiver, receiving
from tests.helpers.threads import in_threads
from trainingapp.accounts.notifications import delivery, sending
from trainingapp.accounts.notifications.delivery import WAITS_S, deliver_next, is_due
from trainingapp.accounts.notifications.preferences import save_settings
from trainingapp.accounts.notifications.webhooks import (
    WebhookValues,
    change_webhook,
    create_webhook,
)
from trainingapp.accounts.notifications.webhooks import (
    test_webhook as request_test,
)
from trainingapp.contract.limits import MAX_WEBHOOKS
from trainingapp.models import Delivery, TrainingRun, Webhook
from trainingapp.models.run import Status
from trainingapp.models.verbs import VerbError

pytestmark = pytest.mark.django_db

Run = Callable[..., TrainingRun]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
def hook(user: User, receiver: Receiver, settings: Any) -> Webhook:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    return create_webhook(user, WebhookValues(name="chat", url=receiver.url))


def of_format(hook: Webhook, format_: str, language: str = "en") -> None:
    Webhook.objects.filter(pk=hook.pk).update(format=format_, language=language)


def complete(make: Run, **fields: Any) -> TrainingRun:
    run = make(**{"status": "running", "name": "birds", **fields})
    run.transition(Status.COMPLETED)
    return run


def only() -> Delivery:
    return Delivery.objects.get()


def make_due() -> None:
    Delivery.objects.update(due_at=timezone.now())


def test_a_completed_run_calls_the_webhook_with_a_signature(hook: Webhook, receiver: Receiver, make: Run) -> None:
    run = complete(make, best_metric_name="top1", best_metric=0.75)
    assert deliver_next()
    [request] = receiver.requests
    content = json.loads(request.body)
    assert content["event"] == "run_completed"
    assert content["text"] == "The run “birds” was completed."
    assert content["run"]["best_metric"] == {"name": "top1", "value": 0.75}
    assert content["url"].endswith(run.get_absolute_url())
    signed = request.headers["X-CVStudio-Timestamp"].encode() + b"." + request.body
    expected = hmac.new(hook.secret.encode(), signed, hashlib.sha256).hexdigest()
    assert request.headers["X-CVStudio-Signature"] == f"sha256={expected}"
    assert request.headers["X-CVStudio-Delivery"] == content["id"] == str(only().pk)


def test_the_answer_is_in_the_log(hook: Webhook, receiver: Receiver, make: Run) -> None:
    receiver.answers = [(201, b"thank you")]
    complete(make)
    assert deliver_next()
    sent = only()
    assert (sent.state, sent.status_code, sent.response, sent.tries) == ("sent", 201, "thank you", 1)
    assert not is_due()
    assert not deliver_next()


def test_a_failure_is_tried_again_later_with_the_same_id(hook: Webhook, receiver: Receiver, make: Run) -> None:
    receiver.answers = [(500, b"broken")]
    complete(make)
    before = timezone.now()
    assert deliver_next()
    waiting = only()
    assert (waiting.state, waiting.status_code, waiting.response) == ("waiting", 500, "broken")
    assert waiting.due_at >= before + timedelta(seconds=WAITS_S[0])
    assert not deliver_next()
    make_due()
    assert deliver_next()
    assert only().state == "sent"
    assert len({request.headers["X-CVStudio-Delivery"] for request in receiver.requests}) == 1
    assert only().error_data == {}


def test_after_the_last_try_it_has_failed(hook: Webhook, receiver: Receiver, make: Run) -> None:
    receiver.answers = [(503, b"")] * (len(WAITS_S) + 1)
    complete(make)
    for _ in range(len(WAITS_S) + 1):
        make_due()
        assert deliver_next()
    failed = only()
    assert (failed.state, failed.due_at, failed.tries) == ("failed", None, len(WAITS_S) + 1)
    assert failed.error_data["code"] == "delivery_answered"


def test_a_receiver_that_is_gone_is_not_asked_again(hook: Webhook, receiver: Receiver, make: Run) -> None:
    receiver.answers = [(410, b"")]
    complete(make)
    deliver_next()
    assert only().state == "failed"


def test_a_redirect_is_not_followed(hook: Webhook, receiver: Receiver, make: Run) -> None:
    receiver.answers = [(302, b"")]
    complete(make)
    deliver_next()
    assert len(receiver.requests) == 1
    assert only().error_data["code"] == "delivery_answered"


def test_what_a_killed_worker_had_claimed_is_due_again(
    hook: Webhook, receiver: Receiver, make: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete(make)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(delivery, "_called", killed)
        with pytest.raises(KeyboardInterrupt):
            deliver_next()
    assert not deliver_next()  # its lease
    assert only().due_at > timezone.now()
    make_due()
    assert deliver_next()
    assert (only().state, only().tries, len(receiver.requests)) == ("sent", 2, 1)


def test_the_result_of_a_lost_try_does_not_overwrite_that_of_the_next(hook: Webhook, make: Run) -> None:
    complete(make)
    first = delivery._claimed(timezone.now())
    make_due()
    second = delivery._claimed(timezone.now())
    assert first is not None
    assert second is not None
    delivery._store(second, delivery.Result(status=200))
    delivery._store(first, delivery.Result(delivery.messages.ANSWERED(status=500), status=500))
    assert (only().state, only().status_code) == ("sent", 200)


def test_slack_gets_a_text_in_which_a_name_mentions_no_one(hook: Webhook, receiver: Receiver, make: Run) -> None:
    of_format(hook, "slack")
    run = complete(make, name="<!channel> & co")
    deliver_next()
    text = json.loads(receiver.requests[0].body)["text"]
    assert "&lt;!channel&gt; &amp; co" in text
    assert f"{run.get_absolute_url()}>" in text


def test_feishu_gets_a_signed_post_in_its_language(hook: Webhook, receiver: Receiver, make: Run) -> None:
    of_format(hook, "feishu", "zh-hans")
    complete(make)
    deliver_next()
    content = json.loads(receiver.requests[0].body)
    post = content["content"]["post"]["zh_cn"]
    assert post["title"] == "运行已完成"
    assert "birds" in post["content"][0][0]["text"]
    key = f"{content['timestamp']}\n{hook.secret}".encode()
    assert base64.b64decode(content["sign"]) == hmac.new(key, b"", hashlib.sha256).digest()


def test_a_refusal_of_feishu_has_status_200(hook: Webhook, receiver: Receiver, make: Run) -> None:
    of_format(hook, "feishu")
    receiver.answers = [(200, b'{"code": 19021, "msg": "sign match fail"}')]
    complete(make)
    deliver_next()
    assert (only().state, only().error_data["params"]) == ("waiting", {"reason": "sign match fail"})


def test_a_test_is_sent_to_a_disabled_webhook_too(hook: Webhook, receiver: Receiver) -> None:
    change_webhook(hook, WebhookValues(name="chat", url=hook.url, is_enabled=False), by=hook.owner)
    request_test(hook)
    assert deliver_next()
    assert json.loads(receiver.requests[0].body)["event"] == "test"
    assert only().state == "sent"


def test_a_webhook_that_was_disabled_meanwhile_is_not_called(hook: Webhook, receiver: Receiver, make: Run) -> None:
    complete(make)
    Webhook.objects.update(is_enabled=False)
    deliver_next()
    assert (only().state, receiver.requests) == ("failed", [])


def test_only_administrators_may_call_private_addresses(receiver: Receiver, make: Run, user: User) -> None:
    webhook = Webhook.objects.create(owner=user, name="inside", url=receiver.url, secret="s" * 20, language="en")
    complete(make)
    deliver_next()
    assert (only().state, receiver.requests) == ("failed", [])
    assert only().error_data["code"] == "delivery_private_address"
    user.groups.add(Group.objects.get_or_create(name="administrator")[0])
    request_test(webhook)
    deliver_next()
    assert len(receiver.requests) == 1


def test_the_address_that_was_checked_is_the_one_that_is_called(
    receiver: Receiver, make: Run, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A public name that is resolved to a private address is refused when it is called, not when it is entered."""
    port = receiver.url.split(":")[2].split("/")[0]
    create_webhook(user, WebhookValues(name="rebound", url=f"http://hooks.example.org:{port}/"))
    inside = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port)))]
    monkeypatch.setattr(sending.socket, "getaddrinfo", lambda *arguments, **options: inside)
    complete(make)
    deliver_next()
    assert (only().state, receiver.requests) == ("failed", [])


PUBLIC = ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e")
PRIVATE = (
    *("127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1"),
    *("::1", "fe80::1", "fc00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::"),
)


@pytest.mark.parametrize(
    ("address", "is_public"), [*((each, True) for each in PUBLIC), *((each, False) for each in PRIVATE)]
)
def test_private_addresses_are_recognized_in_every_form(address: str, is_public: bool) -> None:
    assert sending.is_public(ipaddress.ip_address(address)) is is_public


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://example.org/", "example.org", "http://", "http://example.org:0/", "http://example.org:port/"),
        *("http://user:password@example.org/", "http://example.org/a b", "http://example.org/\r\nHost: x"),
        *("http://127.0.0.1/", "http://localhost:8000/", "http://[::1]/", "http://169.254.169.254/latest"),
    ],
)
def test_an_address_that_cannot_be_called_is_refused(user: User, url: str) -> None:
    with pytest.raises(VerbError):
        create_webhook(user, WebhookValues(name="x", url=url))


def test_a_receiver_that_does_not_answer_in_time_is_left(
    hook: Webhook, make: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections, and answers nothing
        monkeypatch.setattr(sending, "TOTAL_S", 0.2)
        Webhook.objects.update(url=f"http://127.0.0.1:{silent.getsockname()[1]}/")
        complete(make)
        deliver_next()
    assert only().error_data["code"] == "delivery_too_slow"


def test_an_e_mail_is_in_the_language_of_its_recipient(user: User, make: Run, settings: Any) -> None:
    settings.MAIL_IS_CONFIGURED = True
    settings.STUDIO_URL = "https://studio.example.org"
    save_settings(user, {"run_completed": ["email"]}, language="zh-hans", email="ada@example.org")
    run = complete(make)
    assert deliver_next()
    [sent] = mail.outbox
    assert sent.to == ["ada@example.org"]
    assert sent.subject == f"[CV Studio] 运行已完成: {run.name}"
    assert f"https://studio.example.org{run.get_absolute_url()}" in sent.body
    assert only().state == "sent"


def test_a_name_with_a_line_break_adds_no_header(user: User, make: Run, settings: Any) -> None:
    settings.MAIL_IS_CONFIGURED = True
    save_settings(user, {"run_completed": ["email"]}, language="en", email="ada@example.org")
    complete(make, name="birds\nBcc: eve@example.org")
    deliver_next()
    assert mail.outbox[0].recipients() == ["ada@example.org"]


@pytest.mark.django_db(transaction=True)
def test_webhooks_created_at_the_same_time_do_not_exceed_the_limit(admin: User, receiver: Receiver) -> None:
    Webhook.objects.bulk_create(
        Webhook(owner=admin, name=f"hook {number}", url=receiver.url) for number in range(MAX_WEBHOOKS - 1)
    )
    values = WebhookValues(name="new", url=receiver.url)
    results = in_threads([partial(create_webhook, admin, values) for _ in range(4)])
    assert sum(isinstance(result, VerbError) for result in results) == 3
    assert Webhook.objects.filter(owner=admin).count() == MAX_WEBHOOKS
