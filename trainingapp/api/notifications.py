"""The notifications of the caller, and webhooks."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from django.db.models import QuerySet
from ninja import Query, Router, Schema, Status
from pydantic import ConfigDict, Field

from trainingapp.accounts.notifications import webhooks as webhook_verbs
from trainingapp.accounts.notifications.events import EVENTS, EventName
from trainingapp.accounts.notifications.payloads import path_of
from trainingapp.accounts.notifications.reading import mark_read, notifications_of
from trainingapp.accounts.notifications.webhooks import WebhookValues, webhooks_of
from trainingapp.accounts.permissions import Verb
from trainingapp.api.access import require
from trainingapp.api.callers import ApiRequest
from trainingapp.api.paging import MOST_ID, Id, Page, Paging, paged
from trainingapp.api.problems import not_found
from trainingapp.api.schemas import TAKEN
from trainingapp.contract.limits import NAME_LENGTH, SECRET_LENGTH, URL_LENGTH
from trainingapp.models import Delivery, Notification, Webhook
from trainingapp.presentation.messages import rendered_data

router = Router(tags=["notifications"])

Format = Literal["json", "slack", "feishu"]
Language = Literal["en", "zh-hans"]


class NotificationFilters(Paging):
    unread: bool = Field(False, description="Only unread ones.")
    event: EventName | None = Field(None, description="Only those of this event.")


class NotificationItem(Schema):
    """One notification."""

    id: int
    event: str
    text: str = Field(description="In the language of the request.")
    url: str = Field(description="Path of the page that it is about.")
    run: int | None = Field(description="Id of the run, if there is one.")
    dataset: int | None = Field(description="Id of the dataset, if there is one.")
    created_at: datetime
    read_at: datetime | None

    @staticmethod
    def resolve_event(row: Notification) -> str:
        return row.occurrence.event

    @staticmethod
    def resolve_text(row: Notification) -> str:
        return rendered_data(row.occurrence.message_data)

    @staticmethod
    def resolve_url(row: Notification) -> str:
        return path_of(row.occurrence)

    @staticmethod
    def resolve_run(row: Notification) -> int | None:
        return row.occurrence.run_id

    @staticmethod
    def resolve_dataset(row: Notification) -> int | None:
        return row.occurrence.dataset_id

    @staticmethod
    def resolve_created_at(row: Notification) -> datetime:
        return row.occurrence.created_at


class NotificationList(Page):
    items: list[NotificationItem]


class ReadRequest(Schema):
    """Which notifications to mark as read."""

    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"ids": [12, 13]}, {}]})

    ids: list[int] | None = Field(None, max_length=1000, description="Their ids. Without them: all.")


class ReadResult(Schema):
    marked: int = Field(description="How many were unread before.")


class WebhookRequest(Schema):
    """A webhook as it is created or replaced."""

    model_config = TAKEN | ConfigDict(
        json_schema_extra={"examples": [{"name": "chat", "url": "https://hooks.example.org/abc", "format": "slack"}]}
    )

    name: str = Field(min_length=1, max_length=NAME_LENGTH)
    url: str = Field(min_length=1, max_length=URL_LENGTH, description="Receives a POST request for each event.")
    format: Format = "json"
    language: Language | None = Field(None, description="Language of the texts. Without it: that of the studio.")
    secret: str | None = Field(
        None, max_length=SECRET_LENGTH, description="Key of the signature. Without it, a new webhook gets one."
    )
    is_enabled: bool = True
    events: list[EventName] = Field(
        list(EVENTS), description="Events of a webhook of the installation. Your own follow your settings."
    )

    def values(self) -> WebhookValues:
        content = self.model_dump(exclude={"for_installation"})
        return WebhookValues(**{**content, "language": self.language or "", "secret": self.secret or ""})


class NewWebhook(WebhookRequest):
    """A webhook to be created."""

    for_installation: bool = Field(
        False, description="For the events of all objects that are shared with everyone; for administrators only."
    )


class WebhookItem(Schema):
    """A webhook, without its secret."""

    id: int
    name: str
    url: str
    format: Format
    language: str
    is_enabled: bool
    for_installation: bool
    events: list[str]
    created_at: datetime

    @staticmethod
    def resolve_for_installation(webhook: Webhook) -> bool:
        return webhook.owner_id is None


class CreatedWebhook(WebhookItem):
    secret: str = Field(description="Key of the signature. The API returns it only here.")


class DeletedWebhook(Schema):
    deliveries: int = Field(description="Entries of its log that were deleted with it.")


class WebhookList(Page):
    items: list[WebhookItem]


class DeliveryItem(Schema):
    """One call of a webhook."""

    id: UUID = Field(description="The header X-CVStudio-Delivery, the same for each try.")
    event: str
    state: Literal["waiting", "sent", "failed"]
    tries: int
    due_at: datetime | None = Field(description="Time of the next try.")
    status_code: int | None = Field(description="Status of the last answer.")
    response: str = Field(description="Beginning of the last answer.")
    error: str = Field(description="Why the last try failed.")
    created_at: datetime
    finished_at: datetime | None

    @staticmethod
    def resolve_event(delivery: Delivery) -> str:
        return delivery.occurrence.event

    @staticmethod
    def resolve_error(delivery: Delivery) -> str:
        return rendered_data(delivery.error_data)


class DeliveryList(Page):
    items: list[DeliveryItem]


@router.get("/notifications", response=NotificationList, summary="List notifications")
def list_notifications(request: ApiRequest, filters: Query[NotificationFilters]) -> dict[str, object]:
    """Your notifications, newest first."""
    rows = notifications_of(request.caller.user)
    if filters.unread:
        rows = rows.filter(read_at=None)
    if filters.event is not None:
        rows = rows.filter(occurrence__event=filters.event)
    return paged(rows, filters)


@router.post("/notifications/read", response=ReadResult, summary="Mark notifications as read")
def read_notifications(request: ApiRequest, payload: ReadRequest) -> dict[str, int]:
    """Mark some or all of your notifications as read. Ids of others are ignored."""
    numbers = None if payload.ids is None else [number for number in payload.ids if 0 < number <= MOST_ID]
    return {"marked": mark_read(request.caller.user, numbers)}


@router.get("/webhooks", response=WebhookList, summary="List webhooks")
def list_webhooks(request: ApiRequest, paging: Query[Paging]) -> dict[str, object]:
    """Your webhooks; for administrators also those of the installation."""
    return paged(_webhooks(request), paging)


@router.post("/webhooks", response={201: CreatedWebhook}, summary="Create a webhook")
def create_webhook(request: ApiRequest, payload: NewWebhook) -> Status[Webhook]:
    """Create a webhook. Only administrators may create one for the installation or for a private address."""
    require(request, Verb.ADMINISTER if payload.for_installation else Verb.CREATE)
    user = request.caller.user
    webhook = webhook_verbs.create_webhook(user, payload.values(), for_installation=payload.for_installation)
    return Status(201, webhook)


@router.get("/webhooks/{pk}", response=WebhookItem, summary="Show a webhook")
def show_webhook(request: ApiRequest, pk: Id) -> Webhook:
    """One of your webhooks."""
    return _webhook(request, pk)


@router.put("/webhooks/{pk}", response=WebhookItem, summary="Replace a webhook")
def change_webhook(request: ApiRequest, pk: Id, payload: WebhookRequest) -> Webhook:
    """Replace the settings of a webhook. Without a secret, it keeps its own."""
    return webhook_verbs.change_webhook(_webhook(request, pk), payload.values(), by=request.caller.user)


@router.delete("/webhooks/{pk}", response=DeletedWebhook, summary="Delete a webhook")
def delete_webhook(request: ApiRequest, pk: Id) -> dict[str, int]:
    """Delete a webhook with the log of its deliveries."""
    return {"deliveries": webhook_verbs.delete_webhook(_webhook(request, pk), by=request.caller.user)}


@router.post("/webhooks/{pk}/test", response={202: DeliveryItem}, summary="Test a webhook")
def test_webhook(request: ApiRequest, pk: Id) -> Status[Delivery]:
    """Request a test call. Its result is in the list of deliveries."""
    return Status(202, webhook_verbs.test_webhook(_webhook(request, pk)))


@router.get("/webhooks/{pk}/deliveries", response=DeliveryList, summary="List deliveries of a webhook")
def list_deliveries(request: ApiRequest, pk: Id, paging: Query[Paging]) -> dict[str, object]:
    """The calls of a webhook, newest first."""
    return paged(_webhook(request, pk).deliveries.select_related("occurrence").order_by("-created_at", "pk"), paging)


def _webhooks(request: ApiRequest) -> QuerySet[Webhook]:
    return webhooks_of(request.caller.user).order_by("name", "pk")


def _webhook(request: ApiRequest, pk: int) -> Webhook:
    webhook = webhooks_of(request.caller.user).filter(pk=pk).first()
    if webhook is None:
        raise not_found()
    return webhook
