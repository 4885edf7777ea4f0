"""What has happened, who is told of it, and what is sent to other programs.

An `Occurrence` is written in the transaction that changes a status, together with the notifications of the users and
the deliveries that follow from it. Workers send the deliveries; `due_at` is both the time of the next try and the lease
of a try in progress.
"""

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.limits import NAME_LENGTH, SECRET_LENGTH, URL_LENGTH


class Occurrence(models.Model):
    """Something that happened. `event` is a name in `accounts/notifications/events.py`."""

    event = models.SlugField(_("event"), max_length=32)
    run = models.ForeignKey(
        "TrainingRun", models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("run")
    )
    dataset = models.ForeignKey(
        "Dataset", models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("dataset")
    )
    sweep = models.ForeignKey(
        "Sweep", models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("sweep")
    )
    #: Message data (`contract.messages`), rendered in the language of each recipient.
    message_data = models.JSONField(_("message data"), default=dict)
    #: The object as it was then, for programs: {"run": {"id": ..., "name": ..., "status": ...}}
    facts = models.JSONField(_("facts"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, db_index=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = _("occurrence")
        verbose_name_plural = _("occurrences")

    def __str__(self) -> str:
        return f"{self.event} {self.created_at:%Y-%m-%d %H:%M}"


class Notification(models.Model):
    """An occurrence as one user is told of it on pages, by the browser, or both."""

    occurrence = models.ForeignKey(
        Occurrence, models.CASCADE, related_name="notifications", verbose_name=_("occurrence")
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="notifications", verbose_name=_("user")
    )
    in_page = models.BooleanField(_("on pages"), default=True)
    in_browser = models.BooleanField(_("in the browser"), default=False)
    read_at = models.DateTimeField(_("read"), null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["occurrence", "user"], name="notification_once")]
        indexes = [
            models.Index(fields=["user", "-id"], name="notification_newest"),
            # The bell of every page counts these.
            models.Index(
                fields=["user", "-id"],
                condition=models.Q(read_at=None, in_page=True),
                name="notification_unread",
            ),
        ]
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")

    def __str__(self) -> str:
        return f"{self.occurrence_id} {self.user_id}"


class NotificationSettings(models.Model):
    """By which channels a user is told of which events, and in which language. Without a row, the defaults apply."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="notification_settings", verbose_name=_("user")
    )
    #: {event: [channels]}; an event that is missing has its default channels.
    channels = models.JSONField(_("channels"), default=dict, blank=True)
    language = models.CharField(_("language"), max_length=16, choices=settings.LANGUAGES)

    class Meta:
        verbose_name = _("notification settings")
        verbose_name_plural = _("notification settings")

    def __str__(self) -> str:
        return str(self.user_id)


class Webhook(models.Model):
    """An address that is called for events: of its owner, or without an owner for the installation."""

    class Format(models.TextChoices):
        JSON = "json", _("JSON")
        SLACK = "slack", _("Slack")
        FEISHU = "feishu", _("Feishu")

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="webhooks",
        verbose_name=_("owner"),
    )
    name = models.CharField(_("name"), max_length=NAME_LENGTH)
    url = models.CharField(_("address"), max_length=URL_LENGTH)
    #: Key of the signature. It is stored as it is, because every call is signed with it.
    secret = models.CharField(_("secret"), max_length=SECRET_LENGTH)
    format = models.CharField(_("format"), max_length=16, choices=Format.choices, default=Format.JSON)
    language = models.CharField(_("language"), max_length=16, choices=settings.LANGUAGES)
    #: Events of a webhook of the installation. Those of a user follow the settings of the user.
    events = models.JSONField(_("events"), default=list, blank=True)
    is_enabled = models.BooleanField(_("enabled"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        ordering = ["name", "id"]
        verbose_name = _("webhook")
        verbose_name_plural = _("webhooks")

    def __str__(self) -> str:
        return self.name


class Delivery(models.Model):
    """One e-mail or one call of a webhook: its tries, and the last answer."""

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        SENT = "sent", _("sent")
        FAILED = "failed", _("failed")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    occurrence = models.ForeignKey(Occurrence, models.CASCADE, related_name="deliveries", verbose_name=_("occurrence"))
    #: Null for an e-mail.
    webhook = models.ForeignKey(
        Webhook, models.CASCADE, null=True, blank=True, related_name="deliveries", verbose_name=_("webhook")
    )
    #: The recipient of an e-mail.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="+", verbose_name=_("user")
    )
    state = models.CharField(_("state"), max_length=16, choices=State.choices, default=State.WAITING)
    tries = models.PositiveIntegerField(_("tries"), default=0)
    #: When it is tried next, or when the present try counts as lost; null once it is over.
    due_at = models.DateTimeField(_("next try"), null=True, blank=True, default=timezone.now)
    status_code = models.PositiveIntegerField(_("status code"), null=True, blank=True)
    response = models.TextField(_("response"), blank=True)
    #: Why the last try failed, as message data.
    error_data = models.JSONField(_("error data"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "id"]
        indexes = [
            models.Index(fields=["due_at"], condition=models.Q(state="waiting"), name="delivery_due"),
            models.Index(fields=["webhook", "-created_at"], name="delivery_of_webhook"),
        ]
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")

    def __str__(self) -> str:
        return str(self.pk)


class Alarm(models.Model):
    """A condition that holds now and was announced once, such as a disk that is almost full."""

    name = models.SlugField(_("name"), max_length=64, unique=True)
    raised_at = models.DateTimeField(_("raised"), default=timezone.now)

    class Meta:
        ordering = ["name"]
        verbose_name = _("alarm")
        verbose_name_plural = _("alarms")

    def __str__(self) -> str:
        return self.name
