"""Notifications, and what was sent about them. Users change their own on their pages."""

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from trainingapp.accounts.notifications import webhooks as webhook_verbs
from trainingapp.accounts.notifications.events import event_named
from trainingapp.admin.base import ReadOnlyAdmin, StudioAdmin, verb_action
from trainingapp.models import Alarm, Delivery, Notification, NotificationSettings, Occurrence, Webhook
from trainingapp.presentation.messages import rendered_data


@admin.register(Occurrence)
class OccurrenceAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "shown_event", "text", "run", "dataset")
    list_filter = ("event",)
    search_fields = ("run__name", "dataset__name")
    list_select_related = ("run", "dataset")
    date_hierarchy = "created_at"

    @admin.display(description=_("event"), ordering="event")
    def shown_event(self, occurrence: Occurrence) -> str:
        return str(event_named(occurrence.event).label)

    @admin.display(description=_("message"))
    def text(self, occurrence: Occurrence) -> str:
        return rendered_data(occurrence.message_data)


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    list_display = ("id", "occurrence", "user", "in_page", "in_browser", "read_at")
    list_filter = ("in_page", "in_browser")
    search_fields = ("user__username",)
    list_select_related = ("occurrence", "user")


@admin.register(NotificationSettings)
class NotificationSettingsAdmin(ReadOnlyAdmin):
    list_display = ("user", "language")
    list_filter = ("language",)
    search_fields = ("user__username",)
    list_select_related = ("user",)


@admin.register(Webhook)
class WebhookAdmin(StudioAdmin):
    """Without the secrets."""

    list_display = ("name", "owner", "format", "is_enabled", "created_at")
    list_filter = ("format", "is_enabled")
    search_fields = ("name", "owner__username")
    list_select_related = ("owner",)
    exclude = ("secret",)
    actions = (
        verb_action(
            "delete_webhooks",
            _("Delete"),
            _("These webhooks are deleted with the logs of their deliveries. What waits to be sent is not sent."),
            _("“%(name)s” was deleted."),
            lambda webhook, *, user: webhook_verbs.delete_webhook(webhook, by=user),
            is_final=True,
        ),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return [name for name in super().get_readonly_fields(request, obj) if name != "secret"]


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "occurrence", "webhook", "user", "state", "tries", "status_code", "due_at")
    list_filter = ("state",)
    search_fields = ("webhook__name", "user__username")
    list_select_related = ("occurrence", "webhook", "user")
    date_hierarchy = "created_at"


@admin.register(Alarm)
class AlarmAdmin(ReadOnlyAdmin):
    list_display = ("name", "raised_at")
    list_filter = ("raised_at",)
    search_fields = ("name",)
