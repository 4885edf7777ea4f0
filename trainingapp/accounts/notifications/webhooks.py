"""The verbs of webhooks: create, change, delete, test."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.accounts.notifications.events import EVENTS, TEST
from trainingapp.accounts.notifications.outbox import wake
from trainingapp.accounts.notifications.sending import checked_url
from trainingapp.accounts.permissions import is_administrator
from trainingapp.accounts.users import AnyUser, lock_account
from trainingapp.contract.limits import MAX_WEBHOOKS
from trainingapp.contract.messages import notifications as messages
from trainingapp.models import Delivery, Occurrence, Webhook
from trainingapp.models.verbs import VerbError, checked_name

LEAST_SECRET = 16


@dataclass(frozen=True, kw_only=True)
class WebhookValues:
    """What a user enters. Without a secret, a new webhook gets one, and an old one keeps its own."""

    name: str
    url: str
    format: str = Webhook.Format.JSON
    language: str = ""
    secret: str = ""
    events: Iterable[str] = ()
    is_enabled: bool = True


def webhooks_of(user: AnyUser) -> QuerySet[Webhook]:
    """The webhooks that a user may see and change: their own, and for administrators those of the installation."""
    own = Webhook.objects.filter(owner_id=user.pk or 0)
    return own | Webhook.objects.filter(owner=None) if is_administrator(user) else own


def may_be_private(webhook: Webhook) -> bool:
    """Whether the webhook may call private addresses: the role of its owner decides each time."""
    if settings.WEBHOOKS_TO_PRIVATE_ADDRESSES or webhook.owner is None:
        return True
    return is_administrator(webhook.owner)


def create_webhook(user: User, values: WebhookValues, *, for_installation: bool = False) -> Webhook:
    """Create a webhook of the user, or of the installation, which the caller has checked the permission for.

    Raises VerbError for a wrong value.
    """
    webhook = Webhook(owner=None if for_installation else user, secret=secrets.token_urlsafe(32))
    _fill(webhook, values)
    with transaction.atomic():
        lock_account(user)
        if Webhook.objects.filter(owner=webhook.owner).count() >= MAX_WEBHOOKS:
            raise VerbError(_("There are %(count)d webhooks already. Delete one first.") % {"count": MAX_WEBHOOKS})
        webhook.save()
        audit.record("create", webhook, by=user, details={"address": _host(webhook)})
    return webhook


def change_webhook(webhook: Webhook, values: WebhookValues, *, by: User) -> Webhook:
    """Raises VerbError for a wrong value."""
    _fill(webhook, values)
    with transaction.atomic():
        webhook.save()
        audit.record("change", webhook, by=by, details={"address": _host(webhook)})
    return webhook


def delete_webhook(webhook: Webhook, *, by: User | None = None) -> int:
    """Delete it with the log of its deliveries; what is still waiting is not sent. Returns the length of the log."""
    with transaction.atomic():
        audit.record("delete", webhook, by=by)
        count = webhook.deliveries.count()
        webhook.delete()
    return count


def test_webhook(webhook: Webhook) -> Delivery:
    """Request a test call. Its result is in the log of the deliveries."""
    with transaction.atomic():
        message = messages.TEST(webhook=webhook.name)
        occurrence = Occurrence.objects.create(event=TEST.name, message_data=message.as_data())
        delivery = Delivery.objects.create(occurrence=occurrence, webhook=webhook)
        transaction.on_commit(wake)
    return delivery


def _host(webhook: Webhook) -> str:
    """The host alone: the path of an address is often a secret."""
    return urlsplit(webhook.url).hostname or ""


def _fill(webhook: Webhook, values: WebhookValues) -> None:
    webhook.name = checked_name(values.name)
    webhook.url = checked_url(values.url, may_be_private=may_be_private(webhook))
    webhook.format = values.format
    webhook.language = values.language or settings.LANGUAGE_CODE
    webhook.is_enabled = values.is_enabled
    if values.secret:
        if len(values.secret) < LEAST_SECRET and webhook.format == Webhook.Format.JSON:
            raise VerbError(_("The secret must have at least %(count)d characters.") % {"count": LEAST_SECRET})
        webhook.secret = values.secret
    chosen = set(values.events)
    webhook.events = [name for name in EVENTS if name in chosen]
