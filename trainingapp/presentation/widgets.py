"""Rendering of the plain widgets of forms: selects and inputs.

Django renders each of them by a template that includes another one for the attributes, and one for each option: half of
the time of a page with a form of some 70 fields. These functions give the same texts, which a test compares.
"""

from collections.abc import Callable, Mapping
from typing import Any

from django.forms.renderers import DjangoTemplates
from django.http import HttpRequest
from django.utils.formats import localize
from django.utils.html import conditional_escape
from django.utils.safestring import SafeData, SafeString, mark_safe

Widget = Mapping[str, Any]

_FOLDER = "django/forms/widgets/"
_OPTION = f"{_FOLDER}select_option.html"
#: Templates that consist of input.html alone.
_INPUTS = ("checkbox", "color", "date", "datetime", "email", "file", "hidden", "input", "number", "password")
_MORE_INPUTS = ("search", "tel", "text", "time", "url")


class PlainWidgets(DjangoTemplates):
    """Django's own renderer, but for the plain widgets."""

    def render(self, template_name: str, context: dict[str, Any], request: HttpRequest | None = None) -> SafeString:
        """The text of a widget. One that has options of another template is left to Django."""
        plain = _PLAIN.get(template_name)
        text = plain(context["widget"]) if plain is not None else None
        return mark_safe(super().render(template_name, context, request) if text is None else text)  # noqa: S308 - each value was escaped


def _input(widget: Widget) -> str:
    value = widget.get("value")
    given = "" if value is None else f' value="{_text(value)}"'
    return f'<input type="{_shown(widget["type"])}" name="{_shown(widget["name"])}"{given}{_attributes(widget)}>'


def _select(widget: Widget) -> str | None:
    parts = [f'<select name="{_shown(widget["name"])}"{_attributes(widget)}>']
    for group, options, _index in widget["optgroups"]:
        if group:
            parts.append(f'\n  <optgroup label="{_shown(group)}">')
        for option in options:
            if option["template_name"] != _OPTION:
                return None
            label = _shown(option["label"])
            parts.append(f'\n  <option value="{_text(option["value"])}"{_attributes(option)}>{label}</option>\n')
        if group:
            parts.append("\n  </optgroup>")
    return "".join([*parts, "\n</select>"])


def _attributes(widget: Widget) -> str:
    return "".join(
        f" {_shown(name)}" if value is True else f' {_shown(name)}="{_text(value)}"'
        for name, value in widget["attrs"].items()
        if value is not False
    )


def _text(value: object) -> str:
    """As the filter `stringformat:"s"` gives it: not localized."""
    return conditional_escape(value if isinstance(value, SafeData) else str(value))


def _shown(value: Any) -> str:
    """As a variable of a template is shown."""
    return conditional_escape(localize(value))


_PLAIN: dict[str, Callable[[Widget], str | None]] = {
    **{f"{_FOLDER}{name}.html": _input for name in (*_INPUTS, *_MORE_INPUTS)},
    f"{_FOLDER}select.html": _select,
}
