"""Lists and pairs in one line, with the punctuation of the language of the page."""

from collections.abc import Iterable

from django.utils.translation import gettext, pgettext

from trainingapp.presentation.text import Text


def listed(parts: Iterable[Text]) -> str:
    """One after the other: "a, b", in Chinese "a，b"."""
    return pgettext("between the parts of a list", ", ").join(map(str, parts))


def labelled(label: Text, value: object) -> str:
    """A value behind its label: "Epochs: 5", in Chinese "训练轮数：5"."""
    return gettext("%(label)s: %(value)s") % {"label": label, "value": value}
