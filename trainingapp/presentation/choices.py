"""Labels, units and choices of a run's configuration in the reader's language.

What is stored, sent and typed stays the plain value. The labels are those of the fields' metadata
(trainingapp.contract.setting); proper names of networks, optimizers and published methods have none.
"""

from django.utils.translation import gettext, npgettext, pgettext

from trainingapp.contract.config import known_label
from trainingapp.contract.setting import Label, Text, Unit


def label_text(label: Label) -> str:
    return pgettext(label.context, label.text) if isinstance(label, Text) else gettext(label)


def choice_label(field: str, value: object) -> object:
    """The label of a value of this field; the value itself where it has none."""
    label = known_label(field, value)
    return value if label is None else label_text(label)


def unit_text(unit: Unit | None, value: object = None) -> str:
    """The unit after `value`; in the plural where there is no value. Empty for a field without a unit."""
    if unit is None:
        return ""
    count = value if isinstance(value, int) else 1 if value == 1 else 2
    return npgettext(*unit.value, count)
