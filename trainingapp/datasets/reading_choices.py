"""The reading choices of a source in the web interface: labels, the form of the review and the values used."""

from collections.abc import Iterable, Mapping
from typing import TypedDict

from django import forms
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from pydantic import ValidationError

from trainingapp.datasets.importing.reading_record import ReadingRecord, StoredOffer
from trainingapp.datasets.options import AUTO, ReadingField, ReadingOptions
from trainingapp.presentation.labels import format_label
from trainingapp.presentation.messages import rendered_data

Label = str | Promise

FIELDS: dict[ReadingField, Label] = {
    "format": _("Format"),
    "name_encoding": _("Encoding of the names in the archive"),
    "text_encoding": _("Encoding of the annotation files"),
    "splits": _("Splits"),
    "class_from": _("Class of an image"),
    "label_mode": _("Labels"),
    "mask_values": _("Values of the masks"),
    "void_value": _("Value 255 in masks"),
    "first_pixel": _("First pixel of the coordinates"),
    "depth": _("Images of more than 8 bits"),
    "bands": _("Channels for red, green and blue"),
}
VALUES: dict[tuple[ReadingField, str], Label] = {
    ("splits", "lists"): _("from the annotation files and lists"),
    ("splits", "folders"): _("from the names of the folders"),
    ("splits", "none"): _("drawn again"),
    ("class_from", "folder"): _("from the folder"),
    ("class_from", "file_name"): _("from the file name"),
    ("label_mode", "single"): _("one per image"),
    ("label_mode", "multi"): _("several per image"),
    ("mask_values", "threshold"): _("one class: every bright pixel"),
    ("mask_values", "values"): _("a class for each value"),
    ("void_value", "void"): _("unknown: ignored in training"),
    ("void_value", "class"): _("a class"),
    ("first_pixel", "zero"): _("0: as most programs count"),
    ("first_pixel", "one"): _("1: as Pascal VOC counts"),
    ("depth", "true_range"): _("scaled by the range of their values"),
    ("depth", "type_range"): _("scaled by the range of their type"),
}
UNUSED = ""
"""Stored as the used value where nothing could be used."""


def value_label(field: ReadingField, value: str) -> str:
    if value == "auto":
        return gettext("automatic")
    return str(format_label(value) if field == "format" else VALUES.get((field, value), value))


class ReadingFact(TypedDict):
    """A choice as shown on the dataset page; `reason` is empty if the user chose the value."""

    label: str
    value: str
    reason: str


class UnreadFact(TypedDict):
    """A group of files that were not read. `more` is the number of files that are not listed."""

    suffix: str
    reason: str
    count: int
    first: list[str]
    more: int


class ReadingView(TypedDict):
    """How a source was read, as _reading.html shows it."""

    split_origin: str
    facts: list[ReadingFact]
    unread: list[UnreadFact]


def reading_view(record: ReadingRecord) -> ReadingView:
    """The record rendered in the active language."""
    return {
        "split_origin": rendered_data(record["split_origin"] or {}),
        "facts": [
            {
                "label": str(FIELDS[offer["field"]]),
                "value": value_label(offer["field"], offer["used"]),
                "reason": rendered_data(offer["reason"] or {}) if offer["field"] != "splits" else "",
            }
            for offer in record["offers"]
            if offer["used"] != UNUSED and offer["field"] in FIELDS
        ],
        "unread": [
            {
                "suffix": group["suffix"],
                "reason": rendered_data(group["reason"]),
                "count": group["count"],
                "first": group["first"],
                "more": group["count"] - len(group["first"]),
            }
            for group in record["unread"]
        ],
    }


class ReadingForm(forms.Form):
    """The open choices of a source, as fields named reading-FIELD. After is_valid(), they are in `reading`.

    A field that is not sent keeps its value in `current`.
    """

    reading: ReadingOptions

    def __init__(
        self, data: Mapping[str, str] | None = None, *, offers: Iterable[StoredOffer], current: ReadingOptions
    ) -> None:
        self.current = current
        super().__init__(data, prefix="reading")
        for offer in offers:
            if offer["field"] in FIELDS:
                self.fields[offer["field"]] = self._field(offer)

    def add_prefix(self, field_name: str) -> str:
        return f"reading-{field_name}"

    def _field(self, offer: StoredOffer) -> forms.Field:
        name = offer["field"]
        reason = rendered_data(offer["reason"] or {})
        if name == "bands":
            bands = self.current.bands
            how = gettext("Three numbers, counted from 0, such as 3,2,1. Empty: automatic.")
            return forms.CharField(
                label=str(FIELDS[name]),
                required=False,
                initial=",".join(map(str, bands)) if bands else "",
                help_text=f"{reason} {how}".strip(),
                widget=forms.TextInput({"class": "form-control", "placeholder": offer["used"], "autocomplete": "off"}),
            )
        chosen = getattr(self.current, name)
        used = value_label(name, offer["used"]) if chosen == "auto" and offer["used"] not in (UNUSED, "auto") else ""
        automatic = gettext("Automatic (%(value)s)") % {"value": used} if used else gettext("Automatic")
        values = [value for value in dict.fromkeys([*offer["choices"], chosen]) if value != "auto"]
        return forms.ChoiceField(
            label=str(FIELDS[name]),
            required=False,
            initial=chosen,
            choices=[("auto", automatic), *((value, value_label(name, value)) for value in values)],
            help_text=reason,
            widget=forms.Select({"class": "form-select"}),
        )

    def clean(self) -> dict[str, object]:
        values = self.current.model_dump()
        for name in self.fields:
            if name not in self.errors and self.add_prefix(name) in self.data:
                sent = self.cleaned_data[name].strip()
                values[name] = self._bands(sent) if name == "bands" else sent or "auto"
        if not self.errors:
            self.reading = ReadingOptions.model_validate(values)
        return self.cleaned_data

    def _bands(self, text: str) -> tuple[int, ...] | None:
        if not text:
            return None
        parts = text.replace(" ", "").split(",")
        try:
            return ReadingOptions.model_validate({"bands": [int(part) for part in parts]}).bands
        except (ValueError, ValidationError):
            self.add_error("bands", gettext("Enter three channel numbers separated by commas, such as 3,2,1."))
            return None


def current_reading(options: Mapping[str, object]) -> ReadingOptions:
    """The reading choices among stored import options; options of older versions have none."""
    stored = options.get("reading")
    return ReadingOptions.model_validate(stored) if stored else AUTO
