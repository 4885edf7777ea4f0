"""The plain widgets of forms are rendered as Django's own templates render them."""

from datetime import date
from typing import Any

import pytest
from django import forms
from django.forms.renderers import DjangoTemplates
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy, override

from trainingapp.presentation import widgets
from trainingapp.presentation.widgets import PlainWidgets

CHOICES = [
    ("", "---"),
    ("<a>", "less & more"),
    (3, 1234567),
    (None, gettext_lazy("Run")),
    ('Group "1"', [("x", mark_safe("<b>bold</b>")), (True, "yes"), ("y", 0.5)]),
]
WIDGETS: list[tuple[forms.Widget, Any]] = [
    (forms.TextInput({"class": 'a "b"', "required": True, "disabled": False, "data-number": 12345}), '<script>"'),
    (forms.TextInput(), None),
    (forms.NumberInput({"min": -1.5, "step": "any"}), 1234567.25),
    (forms.CheckboxInput({"aria-label": gettext_lazy("Select this object for an action - {0}")}), True),
    (forms.CheckboxInput(), "<value>"),
    (forms.HiddenInput(), 0),
    (forms.PasswordInput(render_value=True), mark_safe("&amp;")),
    (forms.DateInput(), date(2026, 1, 2)),
    (forms.URLInput(), "http://a/?b=1&c=2"),
    (forms.FileInput(), None),
    (forms.Select({"id": "id"}, CHOICES), "<a>"),
    (forms.Select(choices=CHOICES), None),
    (forms.SelectMultiple(choices=CHOICES), ["x", "3"]),
    (forms.NullBooleanSelect(), True),
    (forms.RadioSelect(choices=CHOICES), "x"),
    (forms.Textarea(), "<text>"),
    (forms.SplitDateTimeWidget(), None),
]


@pytest.mark.parametrize("language", ["en", "zh-hans"])
@pytest.mark.parametrize(("widget", "value"), WIDGETS)
def test_a_widget_is_rendered_as_by_its_template(widget: forms.Widget, value: Any, language: str) -> None:
    with override(language):
        shown = widget.render("na<me", value, {"id": "id_1"}, renderer=PlainWidgets())
        assert shown == widget.render("na<me", value, {"id": "id_1"}, renderer=DjangoTemplates())


def test_a_select_with_options_of_its_own_is_left_to_its_templates() -> None:
    class Marked(forms.Select):
        option_template_name = "django/forms/widgets/checkbox_option.html"

    widget = Marked(choices=CHOICES)
    shown = widget.render("name", "x", renderer=PlainWidgets())
    assert shown == widget.render("name", "x", renderer=DjangoTemplates())
    assert "<option" not in shown


def test_every_plain_template_exists() -> None:
    for name in widgets._PLAIN:
        assert DjangoTemplates().get_template(name)
