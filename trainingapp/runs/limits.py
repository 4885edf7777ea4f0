"""The limits of a run: their ranges, and how they fall back to those of the studio."""

import math
from enum import Enum
from typing import Final, TypedDict

from django.conf import settings
from django.utils.translation import gettext as _

from trainingapp.contract.limits import MAX_LIMIT_HOURS, MAX_RECOVERIES
from trainingapp.models import TrainingRun
from trainingapp.models.verbs import VerbError


class _Studio(Enum):
    LIMIT = "studio"


#: Given to `update_run` for a limit of a run: the studio's limit applies again.
STUDIO_LIMIT: Final = _Studio.LIMIT
Hours = float | _Studio | None
Count = int | _Studio | None


class Limits(TypedDict, total=False):
    """The limits of a run as verbs take them."""

    soft_limit_h: Hours
    hard_limit_h: Hours
    max_recoveries: Count


class LimitColumns(TypedDict, total=False):
    """The limits of a run as its row holds them. None means the studio's limit; 0 hours for no limit."""

    soft_limit_h: float | None
    hard_limit_h: float | None
    max_recoveries: int | None


def changed_limits(run: TrainingRun, soft_limit_h: Hours, hard_limit_h: Hours, max_recoveries: Count) -> LimitColumns:
    """The columns to write. A limit that is None is not changed. Raises VerbError, which names the wrong limit."""
    changes: LimitColumns = {}
    if soft_limit_h is not None:
        changes["soft_limit_h"] = None if soft_limit_h is STUDIO_LIMIT else _checked_hours("soft_limit_h", soft_limit_h)
    if hard_limit_h is not None:
        changes["hard_limit_h"] = None if hard_limit_h is STUDIO_LIMIT else _checked_hours("hard_limit_h", hard_limit_h)
    if max_recoveries is not None:
        changes["max_recoveries"] = None if max_recoveries is STUDIO_LIMIT else _checked_count(max_recoveries)
    soft_h = changes.get("soft_limit_h", run.soft_limit_h)
    hard_h = changes.get("hard_limit_h", run.hard_limit_h)
    soft_h = settings.SOFT_TIME_LIMIT_HOURS if soft_h is None else soft_h
    hard_h = settings.HARD_TIME_LIMIT_HOURS if hard_h is None else hard_h
    # Only where one of them changes: the studio's limits may have changed since the run's were set.
    if changes.keys() & {"soft_limit_h", "hard_limit_h"} and 0 < hard_h < soft_h:
        message = _("soft_limit_h (%(soft)g) must not be above hard_limit_h (%(hard)g).")
        raise VerbError(message % {"soft": soft_h, "hard": hard_h})
    return changes


def _checked_hours(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise VerbError(_("%(name)s must be a number of hours.") % {"name": name})
    if not 0 <= value <= MAX_LIMIT_HOURS:
        message = _("%(name)s must be between 0 (no limit) and %(max)d hours.")
        raise VerbError(message % {"name": name, "max": MAX_LIMIT_HOURS})
    return float(value)


def _checked_count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_RECOVERIES:
        raise VerbError(_("max_recoveries must be a whole number from 0 to %(max)d.") % {"max": MAX_RECOVERIES})
    return value
