"""API tokens, the audit trail, and the responses kept for repeated requests."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.limits import NAME_LENGTH, SEARCH_LENGTH, USER_NAME_LENGTH


class ApiToken(models.Model):
    """A personal token for the API. Only its hash is stored; the token itself is shown once."""

    class Scope(models.TextChoices):
        READ = "read", _("read")
        CONTROL = "control", _("create, change and control")
        DELETE = "delete", _("delete")

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tokens", verbose_name=_("user"))
    name = models.CharField(_("name"), max_length=NAME_LENGTH)
    #: The first characters, to distinguish tokens.
    prefix = models.CharField(_("begins with"), max_length=16)
    #: SHA-256 of the token, which has 256 random bits: nothing to be guessed, so no slow hash is needed.
    digest = models.CharField(_("hash"), max_length=64, unique=True)
    scopes = models.JSONField(_("scopes"), default=list)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)
    last_used_from = models.GenericIPAddressField(_("last used from"), null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def scope_labels(self) -> list[str]:
        """The labels of its scopes."""
        return [str(self.Scope(scope).label) for scope in self.scopes]

    @property
    def is_usable(self) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())


class IdempotencyKey(models.Model):
    """The response to a POST with an Idempotency-Key, for its repetition; or a form that was submitted."""

    KEPT = timedelta(hours=24)

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", verbose_name=_("user"))
    key = models.CharField(_("key"), max_length=200)
    method = models.CharField(_("method"), max_length=8)
    path = models.CharField(_("path"), max_length=500)
    #: SHA-256 of the body: the same key with another body is refused.
    body_digest = models.CharField(_("hash of the body"), max_length=64)
    #: Null while the first request is in progress.
    status_code = models.PositiveIntegerField(_("status code"), null=True, blank=True)
    body = models.JSONField(_("answer"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="idempotency_key")]
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")

    def __str__(self) -> str:
        return self.key


class AuditEntry(models.Model):
    """One action: user, verb, object, source and address. Rows are only ever added."""

    class Source(models.TextChoices):
        WEB = "page", _("web")
        ADMIN = "admin", _("admin")
        API = "api", _("API")
        COMMAND = "command", _("command")
        SYSTEM = "system", _("system")

    time = models.DateTimeField(_("time"), default=timezone.now, db_index=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("user")
    )
    #: Stays when the user is deleted.
    username = models.CharField(_("user name"), max_length=USER_NAME_LENGTH, blank=True)
    verb = models.CharField(_("what"), max_length=40)
    #: run, dataset, weights, checkpoint, token, user ...
    kind = models.CharField(_("object type"), max_length=24, blank=True)
    object_id = models.CharField(_("number"), max_length=64, blank=True)
    object_name = models.CharField(_("name"), max_length=SEARCH_LENGTH, blank=True)
    source = models.CharField(_("source"), max_length=16, choices=Source.choices)
    address = models.GenericIPAddressField(_("from"), null=True, blank=True)
    details = models.JSONField(_("details"), default=dict, blank=True)

    class Meta:
        ordering = ["-time", "-id"]
        indexes = [
            models.Index(fields=["kind", "object_id"], name="audit_of_object"),
            models.Index(fields=["-time", "-id"], name="audit_newest"),
        ]
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit trail")

    def __str__(self) -> str:
        return f"{self.username} {self.verb} {self.kind} {self.object_id}"
