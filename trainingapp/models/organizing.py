"""How people keep order among many runs: tags, saved views, and columns that lists sort and filter by."""

import math
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.limits import NAME_LENGTH, TAG_LENGTH, VIEW_QUERY_LENGTH


class Tag(models.Model):
    """A word that marks runs, for the whole installation. Two names that differ in their case are one tag."""

    name = models.CharField(_("name"), max_length=TAG_LENGTH)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(Lower("name"), name="tag_name")]
        verbose_name = _("tag")
        verbose_name_plural = _("tags")

    def __str__(self) -> str:
        return self.name


class SavedView(models.Model):
    """A list of runs that a user has saved: the query string of its page, under a name."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="views", verbose_name=_("user"))
    name = models.CharField(_("name"), max_length=NAME_LENGTH)
    query = models.CharField(_("query"), max_length=VIEW_QUERY_LENGTH, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="view_name_per_user")]
        verbose_name = _("saved view")
        verbose_name_plural = _("saved views")

    def __str__(self) -> str:
        return self.name


class Copied(models.Field[Any, Any]):
    """A column that repeats one value of a JSON column of its row, so that an index can sort by it.

    It follows from the JSON column at each save, so that no writer has to set it. `source` and `key` say from where;
    migrations know the plain field only.
    """

    def __init__(self, *args: Any, source: str = "", key: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.source, self.key = source, key

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = self.usable(getattr(model_instance, self.source).get(self.key))
        setattr(model_instance, self.attname, value)
        return value

    def usable(self, value: object) -> object:
        """The value as the column stores it; null for what is no finite number."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return value if is_number else None

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        name, _path, arguments, options = super().deconstruct()
        return name, f"django.db.models.{type(self).__name__.removeprefix('Copied')}", arguments, options


class CopiedFloatField(Copied, models.FloatField[float | None, float | None]):
    pass


class CopiedIntegerField(Copied, models.IntegerField[int | None, int | None]):
    pass


class CopiedCharField(Copied, models.CharField[str, str]):
    def usable(self, value: object) -> object:
        return str(value or "")[: self.max_length]
