"""The owner of an object, and who else may see it."""

from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.limits import NAME_LENGTH


class Team(models.Model):
    """People who share runs, datasets and weights."""

    name = models.CharField(_("name"), max_length=NAME_LENGTH, unique=True)
    members: "models.ManyToManyField[Any, Any]" = models.ManyToManyField(
        settings.AUTH_USER_MODEL, related_name="teams", blank=True, verbose_name=_("members")
    )

    class Meta:
        ordering = ["name"]
        verbose_name = _("team")
        verbose_name_plural = _("teams")

    def __str__(self) -> str:
        return self.name


class Visibility(models.TextChoices):
    """Who sees an object besides its owner and administrators; see permissions.py for what each may do."""

    EVERYBODY = "everybody", _("everyone who can sign in")
    TEAM = "team", _("a team")
    PRIVATE = "private", _("private")


class Shared(models.Model):
    """An object that belongs to a user and may be shared."""

    visibility = models.CharField(
        _("shared with"), max_length=16, choices=Visibility.choices, default=Visibility.EVERYBODY
    )
    team = models.ForeignKey(Team, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("team"))

    class Meta:
        abstract = True
