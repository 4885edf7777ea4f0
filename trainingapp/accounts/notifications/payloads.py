"""What is sent about an occurrence: texts in the language of the recipient, by format, and the signature."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.conf import settings
from django.urls import reverse
from django.utils import translation

from trainingapp.accounts.notifications.events import event_named
from trainingapp.models import Occurrence, Webhook
from trainingapp.presentation.messages import rendered_data

#: Headers of every call of a webhook.
TIMESTAMP_HEADER, SIGNATURE_HEADER = "X-CVStudio-Timestamp", "X-CVStudio-Signature"
DELIVERY_HEADER, EVENT_HEADER = "X-CVStudio-Delivery", "X-CVStudio-Event"

#: The pages of events that are about no run and no dataset.
PAGES = {"disk_low": "disk", "device_quarantined": "device_list"}


@dataclass(frozen=True)
class Telling:
    """An occurrence in one language."""

    title: str
    text: str
    url: str


def path_of(occurrence: Occurrence) -> str:
    """The page that an occurrence is about; that of the notifications where its object was deleted."""
    if occurrence.run_id is not None:
        return reverse("run_detail", args=[occurrence.run_id])
    if occurrence.dataset_id is not None:
        return reverse("dataset_detail", args=[occurrence.dataset_id])
    if occurrence.sweep_id is not None:
        return reverse("sweep_detail", args=[occurrence.sweep_id])
    return reverse(PAGES.get(occurrence.event, "notification_list"))


def told(occurrence: Occurrence, language: str) -> Telling:
    with translation.override(language):
        return Telling(
            title=str(event_named(occurrence.event).label),
            text=rendered_data(occurrence.message_data),
            url=settings.STUDIO_URL + path_of(occurrence),
        )


def webhook_body(webhook: Webhook, occurrence: Occurrence, delivery_id: str, timestamp: int) -> bytes:
    """The body of a call, in the format and the language of the webhook."""
    telling = told(occurrence, webhook.language)
    content = _FORMATS[Webhook.Format(webhook.format)](webhook, telling, timestamp)
    if webhook.format == Webhook.Format.JSON:
        content |= {
            "id": delivery_id,
            "event": occurrence.event,
            "time": occurrence.created_at.isoformat(),
            "run": None,
            "dataset": None,
            **occurrence.facts,
        }
    return json.dumps(content, ensure_ascii=False).encode()


def signed_headers(webhook: Webhook, event: str, body: bytes, delivery_id: str, timestamp: int) -> dict[str, str]:
    """The headers of a call: `sha256=` and the HMAC-SHA256 of "TIMESTAMP.BODY" with the secret, in hexadecimal."""
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "CVStudio",
        DELIVERY_HEADER: delivery_id,
        EVENT_HEADER: event,
        TIMESTAMP_HEADER: str(timestamp),
        SIGNATURE_HEADER: f"sha256={signature(webhook.secret, timestamp, body)}",
    }


def signature(secret: str, timestamp: int, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def _json(webhook: Webhook, telling: Telling, timestamp: int) -> dict[str, object]:
    return {"title": telling.title, "text": telling.text, "url": telling.url}


def _slack(webhook: Webhook, telling: Telling, timestamp: int) -> dict[str, object]:
    """An incoming webhook of Slack. Its three special characters are escaped, so that a name cannot mention people."""
    escaped = telling.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": f"*{telling.title}*\n{escaped}\n<{telling.url}>"}


def _feishu(webhook: Webhook, telling: Telling, timestamp: int) -> dict[str, object]:
    """A custom bot of Feishu (Lark), with the signature that it checks where "Set signature verification" is on."""
    language = "zh_cn" if webhook.language.startswith("zh") else "en_us"
    lines = [[{"tag": "text", "text": telling.text}], [{"tag": "a", "text": telling.url, "href": telling.url}]]
    key = f"{timestamp}\n{webhook.secret}".encode()
    return {
        "timestamp": str(timestamp),
        "sign": base64.b64encode(hmac.new(key, b"", hashlib.sha256).digest()).decode(),
        "msg_type": "post",
        "content": {"post": {language: {"title": telling.title, "content": lines}}},
    }


_FORMATS: Mapping[Webhook.Format, Callable[[Webhook, Telling, int], dict[str, object]]] = {
    Webhook.Format.JSON: _json,
    Webhook.Format.SLACK: _slack,
    Webhook.Format.FEISHU: _feishu,
}
