"""Aliases of models: production or candidate stands for one version of a name, and moves from one to another."""

import re
from collections.abc import Collection

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.accounts.permissions import Verb, can, refusal
from trainingapp.accounts.users import AnyUser
from trainingapp.contract.limits import ALIAS_LENGTH
from trainingapp.models import Weights, WeightsAlias
from trainingapp.models.verbs import FieldError, VerbError, refresh_locked

#: Offered where an alias is typed; any other name is possible.
USUAL = ("candidate", "production")
#: Not only digits, and not v2: those name versions.
_SHAPE = re.compile(r"(?!v?[0-9]+$)[a-z0-9][a-z0-9._-]*")


class AliasRefusedError(VerbError):
    """The alias belongs to a version that the user may not change."""


def checked_alias(text: str) -> str:
    """The alias as it is stored, in lower case. Raises FieldError."""
    alias = text.strip().lower()
    if len(alias) > ALIAS_LENGTH:
        message = _("The alias has more than %(count)d characters.")
        raise FieldError("alias", message % {"count": ALIAS_LENGTH})
    if not _SHAPE.fullmatch(alias):
        message = _("An alias consists of letters, digits, dots, hyphens and underscores, and is not a version number.")
        raise FieldError("alias", message)
    return alias


def set_alias(weights: Weights, alias: str, *, by: AnyUser | None = None) -> Weights:
    """Have the alias stand for this version; another version of the name loses it in the same transaction.

    `by` must be allowed to change that other version too; None is the shell. Raises VerbError for a version without a
    file, AliasRefusedError, and FieldError for a text that is no alias.
    """
    alias = checked_alias(alias)
    with transaction.atomic():
        refresh_locked(weights)
        if not weights.is_ready:
            raise VerbError(_("“%(name)s” is %(state)s.") % {"name": weights, "state": weights.get_state_display()})
        rows = WeightsAlias.objects.select_for_update(of=("self",))
        row, is_new = rows.get_or_create(name=weights.name, alias=alias, defaults={"weights": weights})
        if row.weights_id == weights.pk and not is_new:
            return weights
        details = {"alias": alias}
        if not is_new:
            _require_change(row.weights, by)
            details["from"] = f"v{row.weights.version}"
            row.weights = weights
            row.save()
        audit.record("alias", weights, details=details)
    return weights


def remove_alias(weights: Weights, alias: str) -> Weights:
    """Take the alias from this version. Raises VerbError where it does not have it."""
    with transaction.atomic():
        refresh_locked(weights)
        removed, _rows = weights.aliases.filter(alias=alias.strip().lower()).delete()
        if not removed:
            raise VerbError(_("“%(name)s” does not have the alias “%(alias)s”.") % {"name": weights, "alias": alias})
        audit.record("unalias", weights, details={"alias": alias.strip().lower()})
    return weights


def _require_change(weights: Weights, by: AnyUser | None) -> None:
    if by is not None and not can(by, Verb.CHANGE, weights):
        raise AliasRefusedError(
            _("The alias belongs to another version. %(reason)s") % {"reason": refusal(Verb.CHANGE)}
        )


def take_along(weights: Weights) -> None:
    """Give the aliases of the version its new name, in the caller's transaction.

    Raises VerbError where another version of that name has one of them.
    """
    held = list(weights.aliases.values_list("alias", flat=True))
    taken = WeightsAlias.objects.filter(name=weights.name, alias__in=held).exclude(weights=weights).first()
    if taken is not None:
        message = _("“%(name)s” already has the alias “%(alias)s”. Remove it from one of the two versions.")
        raise VerbError(message % {"name": weights.name, "alias": taken.alias})
    weights.aliases.update(name=weights.name)


def by_alias(rows: QuerySet[Weights], name: str, alias: str) -> Weights | None:
    """The version of `name` that the alias stands for, if it is among `rows`."""
    return rows.filter(aliases__name=name, aliases__alias=alias.strip().lower()).first()


def aliases_of(weights_ids: Collection[int]) -> dict[int, list[str]]:
    """The aliases of each version that has any, in one query."""
    found: dict[int, list[str]] = {}
    for pk, alias in WeightsAlias.objects.filter(weights__in=weights_ids).values_list("weights_id", "alias"):
        found.setdefault(pk, []).append(alias)
    return found
