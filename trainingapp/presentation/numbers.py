"""How the interface writes metrics, shares and other numbers."""

from django.utils.formats import number_format
from django.utils.translation import gettext, ngettext

from trainingapp.contract.number_text import number_text
from trainingapp.contract.tasks.registry import METRICS
from trainingapp.presentation.choices import choice_label

#: Shown in place of a value that does not exist.
NO_VALUE = "–"


def metric(value: float | None, name: str = "") -> str:
    """The value of the metric `name`: a share in per cent, another number with at most four significant digits."""
    if value is None:
        return NO_VALUE
    return percent(value) if name in METRICS and METRICS[name].is_share else number_text(value)


def percent(share: float | None) -> str:
    """0.4567 -> 45.7 %"""
    return NO_VALUE if share is None else f"{share * 100:.1f} %"


def whole_percent(share: float | None) -> int:
    """0.4567 -> 45. Rounds down, so that 100 means complete."""
    return int((share or 0) * 100)


def small_share(share: float) -> str:
    """A relative difference with two significant digits: 0.00012 -> 0.012 %"""
    return f"{number_text(share * 100, digits=2)} %"


def heat(share: float) -> int:
    """A share between 0 and 1 as the number of a colour, heat-0 to heat-10; only an exact zero is 0."""
    return max(1, round(share * 10)) if share > 0 else 0


def unlocalized(number: float) -> str:
    """A number for machines: no thousands separator, a dot as the decimal separator."""
    return f"{number:.4f}" if isinstance(number, float) else str(number)


def grouped(number: int) -> str:
    """15348219 -> 15,348,219, with the separator of the active language."""
    return number_format(number, force_grouping=True)


def times(count: int) -> str:
    return ngettext("%(count)d time", "%(count)d times", count) % {"count": count}


def setting_value(value: object, name: str = "") -> object:
    """The value of the configuration field `name` as it is shown; a whole number stays one, for the template."""
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if value is None or value == "":
        return NO_VALUE
    label = choice_label(name, value)
    return number_text(label, digits=6) if isinstance(label, float) else label
