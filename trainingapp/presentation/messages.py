"""Messages in the reader's language."""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping

from django.utils.translation import get_language, gettext, ngettext

from trainingapp.contract import messages
from trainingapp.contract.messages import TEMPLATES, Message, filled, from_data, unknown_text
from trainingapp.presentation.numbers import grouped

# A page shows messages of every area, also of those whose code this process never runs: all must be defined here.
for _module in pkgutil.walk_packages(messages.__path__, f"{messages.__name__}."):
    importlib.import_module(_module.name)


def rendered(message: Message) -> str:
    """The text of the message in the active language; of a code that is unknown here, the code with its values."""
    template = TEMPLATES.get(message.code)
    if template is None:
        return unknown_text(message)
    count = message.params.get("count")
    if template.plural and isinstance(count, int):
        text = ngettext(template.text, template.plural, count)
    else:
        text = gettext(template.text)
    # Chinese has no space between sentences.
    between = "" if (get_language() or "").startswith("zh") else " "
    return filled(text, message.params, rendered, between, grouped)


def rendered_data(data: Mapping[str, object], *, fallback: str = "message") -> str:
    """The text of stored data: by its code where it has one that is known, else the English text that was stored.

    Rows of version 0.1 have the text alone; rows of a later version may have a code that is unknown here.
    """
    message = from_data(data)
    stored = str(data.get(fallback) or "")
    if message is None or (message.code not in TEMPLATES and stored):
        return stored
    return rendered(message)


def rendered_list(stored: Iterable[Mapping[str, object] | str]) -> list[str]:
    """The texts of a stored list of messages. Version 0.1 stored English texts alone; they are given as they are."""
    return [one if isinstance(one, str) else rendered_data(one) for one in stored]


def text_of(value: object) -> str:
    """The text of a message, of message data, or of an English text that version 0.1 stored, which stays as it is."""
    if isinstance(value, Message):
        return rendered(value)
    return rendered_data(value) if isinstance(value, Mapping) else str(value or "")
