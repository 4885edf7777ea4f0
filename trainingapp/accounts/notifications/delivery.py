"""Sends e-mails and calls webhooks: what is due, one at a time, again after a failure.

A delivery is claimed by compare-and-set of `due_at`, which moves past the longest try. No two workers send the same
one at a time; one whose worker was killed becomes due again. Its receiver may then get it twice, with the same id.
"""

import json
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from smtplib import SMTPException

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from trainingapp.accounts.notifications.payloads import signed_headers, told, webhook_body
from trainingapp.accounts.notifications.preferences import language_of, settings_of
from trainingapp.accounts.notifications.sending import RefusedAddressError, post
from trainingapp.accounts.notifications.webhooks import may_be_private
from trainingapp.contract.messages import Message, MessageError
from trainingapp.contract.messages import notifications as messages
from trainingapp.models import Delivery, Occurrence, Webhook

log = structlog.get_logger(__name__)

#: Seconds before each further try; after the last one, the delivery has failed.
WAITS_S = (10, 60, 300, 1800, 7200, 21600)
#: Longer than any try takes: a claimed delivery is due again after it.
LEASE = timedelta(seconds=90)
LOOKED_AT = 10


@dataclass(frozen=True)
class Result:
    """How a try ended. `is_final` where another try cannot help."""

    error: Message | None = None
    is_final: bool = False
    status: int | None = None
    response: str = field(default="", repr=False)


def has_waiting() -> bool:
    """Whether there is something to send, now or later."""
    return Delivery.objects.filter(state=Delivery.State.WAITING).exists()


def is_due() -> bool:
    """Whether there is something to send now."""
    return Delivery.objects.filter(state=Delivery.State.WAITING, due_at__lte=timezone.now()).exists()


def deliver_next() -> bool:
    """Send one delivery that is due. Returns False where there is none."""
    delivery = _claimed(timezone.now())
    if delivery is None:
        return False
    try:
        result = _sent_mail(delivery) if delivery.webhook is None else _called(delivery.webhook, delivery)
    except Exception:  # what nobody has thought of must not be tried again every 90 seconds
        log.exception("a notification could not be delivered", delivery=str(delivery.pk))
        result = Result(messages.UNREACHABLE(reason=_("internal error")))
    _store(delivery, result)
    return True


def _claimed(now: datetime) -> Delivery | None:
    rows = Delivery.objects.filter(state=Delivery.State.WAITING, due_at__lte=now).order_by("due_at")
    for row in rows.select_related("occurrence", "webhook__owner", "user")[:LOOKED_AT]:
        same = Delivery.objects.filter(pk=row.pk, state=Delivery.State.WAITING, due_at=row.due_at)
        if same.update(due_at=now + LEASE, tries=row.tries + 1):
            row.tries += 1
            return row
    return None


def _store(delivery: Delivery, result: Result) -> None:
    now = timezone.now()
    is_over = result.error is None or result.is_final or delivery.tries > len(WAITS_S)
    state = Delivery.State.SENT if result.error is None else Delivery.State.FAILED
    Delivery.objects.filter(pk=delivery.pk, tries=delivery.tries, state=Delivery.State.WAITING).update(
        state=state if is_over else Delivery.State.WAITING,
        due_at=None if is_over else now + timedelta(seconds=WAITS_S[delivery.tries - 1]),
        finished_at=now if is_over else None,
        status_code=result.status,
        response=result.response,
        error_data=dict(result.error.as_data()) if result.error else {},
    )
    if result.error is not None:
        log.info("notification not delivered", delivery=str(delivery.pk), tries=delivery.tries, error=str(result.error))


def _called(webhook: Webhook, delivery: Delivery) -> Result:
    if not webhook.is_enabled and delivery.occurrence.event != "test":
        return Result(messages.SWITCHED_OFF(), is_final=True)
    timestamp = int(time.time())
    body = webhook_body(webhook, delivery.occurrence, str(delivery.pk), timestamp)
    headers = signed_headers(webhook, delivery.occurrence.event, body, str(delivery.pk), timestamp)
    try:
        answer = post(webhook.url, body, headers, may_be_private=may_be_private(webhook))
    except RefusedAddressError as error:
        return Result(error.message, is_final=True)
    except MessageError as error:
        return Result(error.message)
    failure = None
    if not 200 <= answer.status < 300:
        failure = messages.ANSWERED(status=answer.status)
    elif webhook.format == Webhook.Format.FEISHU:
        failure = _feishu_failure(answer.text)
    return Result(failure, is_final=answer.status == 410, status=answer.status, response=answer.text)


def _feishu_failure(text: str) -> Message | None:
    """Feishu answers a refusal with status 200 and a code in the body."""
    try:
        content = json.loads(text)
    except ValueError:
        return None
    if not isinstance(content, dict) or not content.get("code"):
        return None
    return messages.REFUSED_BY_RECEIVER(reason=str(content.get("msg") or content["code"]))


def _name(occurrence: Occurrence) -> str:
    """The name of the run or the dataset that it is about, in one line."""
    about = occurrence.facts.get("run") or occurrence.facts.get("dataset") or {}
    return " ".join(str(about.get("name", "")).split())


def _sent_mail(delivery: Delivery) -> Result:
    user = delivery.user
    if not settings.MAIL_IS_CONFIGURED:
        return Result(messages.NO_MAIL_SERVER(), is_final=True)
    if user is None or not user.email or not user.is_active:
        return Result(messages.NO_MAIL_ADDRESS(), is_final=True)
    language = language_of(settings_of([user]).get(user.pk))
    telling = told(delivery.occurrence, language)
    with translation.override(language):
        foot = _("Choose what you are notified about: %(address)s") % {
            "address": settings.STUDIO_URL + reverse("notification_settings")
        }
    mail = EmailMessage(
        subject=": ".join(filter(None, [f"[CV Studio] {telling.title}", _name(delivery.occurrence)])),
        body=f"{telling.text}\n\n{telling.url}\n\n--\n{foot}\n",
        to=[user.email],
        headers={"Message-ID": f"<{delivery.pk}@cvstudio>", "Auto-Submitted": "auto-generated"},
    )
    try:
        mail.send()
    except (OSError, SMTPException) as error:
        return Result(messages.UNREACHABLE(reason=str(error)))
    return Result()
