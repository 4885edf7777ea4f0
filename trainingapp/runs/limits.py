"""What a run may be told about its own limits."""

import math
from enum import Enum
from typing import Any, Final

from django.conf import settings
from django.utils.translation import gettext as _

from trainingapp.contract.limits import MAX_LIMIT_HOURS, MAX_RECOVERIES
from trainingapp.models import TrainingRun
from trainingapp.models.verbs import VerbError


class _Studio(Enum):
    LIMIT = "studio"


#: Given to `update_run` for a limit of a run: it takes the studio's again.
STUDIO_LIMIT: Final = _Studio.LIMIT
Hours = float | _Studio | None
Count = int | _Studio | None


def changed_limits(run: TrainingRun, soft_limit_h: Hours, hard_limit_h: Hours, max_recoveries: Count) -> dict[str, Any]:
    """The columns to write; what is None stays as it is. Raises VerbError, which names the limit that is wrong."""
    changes: dict[str, Any] = {}
    for name, value in (("soft_limit_h", soft_limit_h), ("hard_limit_h", hard_limit_h)):
        if value is not None:
            changes[name] = None if value is STUDIO_LIMIT else _checked_hours(name, value)
    if max_recoveries is not None:
        changes["max_recoveries"] = None if max_recoveries is STUDIO_LIMIT else _checked_count(max_recoveries)
    _check_order(
        _effective(changes.get("soft_limit_h", run.soft_limit_h), settings.SOFT_TIME_LIMIT_HOURS),
        _effective(changes.get("hard_limit_h", run.hard_limit_h), settings.HARD_TIME_LIMIT_HOURS),
        is_new=bool(changes.keys() & {"soft_limit_h", "hard_limit_h"}),
    )
    return changes


def _checked_hours(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise VerbError(_("%(name)s must be a number of hours.") % {"name": name})
    if not 0 <= value <= MAX_LIMIT_HOURS:
        message = _("%(name)s must lie between 0 (no limit) and %(max)d hours.")
        raise VerbError(message % {"name": name, "max": MAX_LIMIT_HOURS})
    return float(value)


def _checked_count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_RECOVERIES:
        raise VerbError(_("max_recoveries must be a whole number from 0 to %(max)d.") % {"max": MAX_RECOVERIES})
    return int(value)


def _effective(own: float | None, studio: float) -> float:
    return studio if own is None else own


def _check_order(soft_h: float, hard_h: float, *, is_new: bool) -> None:
    """Only what is being changed is refused: limits of the studio may have changed since."""
    if is_new and soft_h and hard_h and soft_h > hard_h:
        message = _("soft_limit_h (%(soft)g) must not be above hard_limit_h (%(hard)g).")
        raise VerbError(message % {"soft": soft_h, "hard": hard_h})
