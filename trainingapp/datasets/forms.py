"""The forms of the dataset pages: a source to import, and how to import it."""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from trainingapp.accounts.permissions import is_administrator
from trainingapp.accounts.users import AnyUser
from trainingapp.contract.limits import MAX_SEED, NAME_LENGTH, PATH_LENGTH
from trainingapp.datasets import verbs as dataset_verbs
from trainingapp.datasets.options import ClassChoice, ImportOptions
from trainingapp.models import Dataset


def megabytes(size_bytes: int) -> int:
    return math.ceil(size_bytes / 1024**2)


class ImportForm(forms.Form):
    """A dataset to import: from an uploaded zip, or from a folder on the server."""

    name = forms.CharField(
        label=_("Name"),
        max_length=NAME_LENGTH,
        widget=forms.TextInput({"class": "form-control", "autocomplete": "off"}),
    )
    archive = forms.FileField(
        label=_("Zip file"),
        required=False,
        help_text=_("Images with their annotations, in any of the formats below; which one is found out by itself."),
        widget=forms.FileInput({"class": "form-control", "accept": ".zip,application/zip"}),
    )
    folder = forms.CharField(
        label=_("Folder on the server"),
        required=False,
        max_length=PATH_LENGTH,
        help_text=_("Its full path. The images are copied; the folder stays as it is."),
        widget=forms.TextInput({"class": "form-control font-monospace", "placeholder": "/srv/images/birds"}),
    )

    def __init__(self, *args: Any, user: AnyUser, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        if not self.may_use_folders:
            del self.fields["folder"]

    @property
    def may_use_folders(self) -> bool:
        """Nobody without administration reads the server's folders, unless settings name some."""
        return bool(settings.IMPORT_DIRS) or is_administrator(self.user)

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"].strip()
        if Dataset.objects.filter(name=name).exists():
            raise forms.ValidationError(_("There is a dataset of this name already."))
        return name

    def clean_archive(self) -> Any:
        archive = self.cleaned_data["archive"]
        if archive and archive.size > settings.MAX_UPLOAD_BYTES:
            limit = megabytes(settings.MAX_UPLOAD_BYTES)
            raise forms.ValidationError(_("The file is larger than the %(limit)s MB allowed here.") % {"limit": limit})
        return archive

    def clean_folder(self) -> Path | None:
        if not self.cleaned_data["folder"]:
            return None
        folder = Path(self.cleaned_data["folder"])
        if not folder.is_absolute():
            raise forms.ValidationError(_("Enter the full path, from / on."))
        folder = folder.resolve()
        if not dataset_verbs.may_import_from(self.user, folder):
            raise forms.ValidationError(_("This folder is not one that datasets may be imported from."))
        if not folder.is_dir():
            raise forms.ValidationError(_("There is no such folder on the server."))
        return folder

    def clean(self) -> dict[str, Any]:
        archive, folder = self.cleaned_data.get("archive"), self.cleaned_data.get("folder")
        if not {"archive", "folder"} & set(self.errors):
            if archive and folder:
                self.add_error("folder", _("Give a zip file or a folder, not both."))
            elif not archive and not folder:
                either = _("Choose a zip file, or name a folder on the server.")
                self.add_error("archive", either if "folder" in self.fields else _("Choose a zip file to upload."))
        return self.cleaned_data


#: Classes up to which the page offers to rename, merge, leave out and reorder them; beyond, all are taken as found.
MOST_EDITABLE_CLASSES = 2000
_MOST_ORDER_DIGITS = 6


@dataclass
class ClassRow:
    """A class of the source and what the person wants of it; `order` is what was typed."""

    index: int
    source: str
    images: int
    objects: int
    name: str
    keep: bool
    order: str
    name_error: str = ""
    order_error: str = ""
    merged: list[str] = field(default_factory=list)

    @property
    def place(self) -> tuple[float, int]:
        """What rows are sorted by: the number typed, and where two are the same their order in the source."""
        return (int(self.order) if _is_order(self.order) else math.inf, self.index)


def _is_order(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MOST_ORDER_DIGITS


class ConfirmForm(forms.Form):
    """How to import what the inspection found. After is_valid(), `options` says it.

    `proposal` is that of the dataset. A class has three fields, class-N-name, class-N-keep and class-N-order, N being
    its place in the proposal; `rows` holds them with what is wrong with each.
    """

    split = forms.ChoiceField(
        label=_("Training and validation"),
        choices=[("given", _("As the source gives them")), ("stratified", _("Drawn anew, with every class in both"))],
        widget=forms.RadioSelect({"class": "form-check-input"}),
    )
    val_percent = forms.IntegerField(
        label=_("Share for validation"),
        min_value=1,
        max_value=90,
        initial=20,
        required=False,
        widget=forms.NumberInput({"class": "form-control"}),
    )
    seed = forms.IntegerField(
        label=_("Seed"),
        min_value=0,
        max_value=MAX_SEED,
        initial=0,
        required=False,
        help_text=_("The same seed draws the same images."),
        widget=forms.NumberInput({"class": "form-control"}),
    )
    on_error = forms.ChoiceField(
        label=_("When something is wrong"),
        choices=[
            ("stop", _("Stop, import nothing, and name everything that is wrong")),
            ("leave_out", _("Leave out the images and objects that are wrong, and name them")),
        ],
        widget=forms.RadioSelect({"class": "form-check-input"}),
    )
    options: ImportOptions

    def __init__(self, *args: Any, proposal: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.has_splits = bool(proposal.get("has_splits"))
        found = proposal.get("classes", [])
        self.class_count = len(found)
        self.editable = self.class_count <= MOST_EDITABLE_CLASSES
        self.rows = [self._row(index, item) for index, item in enumerate(found)] if self.editable else []
        self.rows.sort(key=lambda row: row.place)
        self._note_merges()
        self.has_errors = any(item["level"] == "error" for item in proposal.get("report", []))
        if not self.has_errors:  # else stopping would refuse the import at once: the person says what to do
            self.initial.setdefault("on_error", "stop")
        self.initial.setdefault("split", "given" if self.has_splits else "stratified")
        if not self.has_splits:
            self.fields["split"].widget = forms.HiddenInput()

    def _row(self, index: int, found: dict[str, Any]) -> ClassRow:
        name, keep, order = found["name"], True, str(index + 1)
        if self.is_bound:
            name = " ".join(self.data.get(f"class-{index}-name", "").split())
            keep = f"class-{index}-keep" in self.data
            order = self.data.get(f"class-{index}-order", "").strip()
        return ClassRow(index, found["name"], found.get("images", 0), found.get("objects", 0), name, keep, order)

    def _note_merges(self) -> None:
        by_name: defaultdict[str, list[ClassRow]] = defaultdict(list)
        for row in self.rows:
            if row.keep and row.name:
                by_name[row.name].append(row)
        for row in self.rows:
            row.merged = [other.source for other in by_name[row.name] if other is not row] if row.keep else []

    @property
    def kept(self) -> int:
        """Classes that the dataset would have."""
        return len({row.name for row in self.rows if row.keep}) if self.editable else self.class_count

    def clean_split(self) -> str:
        split: str = self.cleaned_data["split"]
        if split == "given" and not self.has_splits:
            raise forms.ValidationError(_("The source gives no images for validation."))
        return split

    def clean(self) -> dict[str, Any]:
        values = self.cleaned_data
        if values.get("split") == "stratified":
            for name in ("val_percent", "seed"):
                if name not in self.errors and values.get(name) is None:
                    self.add_error(name, _("This is needed."))
        elif "split" in values:  # fields that do not count cannot be wrong
            for name in ("val_percent", "seed"):
                self.errors.pop(name, None)
                values[name] = self.fields[name].initial
        self._check_rows()
        if not self.errors:
            self.options = ImportOptions(
                classes=self._choices(),
                split=values["split"],
                val_share=values["val_percent"] / 100,
                seed=values["seed"],
                on_error=values["on_error"],
            )
        return values

    def _check_rows(self) -> None:
        for row in self.rows if self.editable else ():
            if row.keep and not row.name:
                row.name_error = gettext("A name is needed, or leave the class out.")
            elif row.keep and len(row.name) > NAME_LENGTH:
                row.name_error = gettext("A name has at most %(count)d characters.") % {"count": NAME_LENGTH}
            if not _is_order(row.order):
                row.order_error = gettext("Enter a whole number.")
        wrong = [row.source for row in self.rows if row.name_error or row.order_error]
        if wrong:
            names = ", ".join(wrong[:5]) + (", …" if len(wrong) > 5 else "")
            self.add_error(None, gettext("These classes need another look: %(names)s.") % {"names": names})
        elif self.editable and not self.kept:
            self.add_error(None, gettext("Keep at least one class."))

    def _choices(self) -> list[ClassChoice]:
        """The classes as wanted; none when nothing was changed."""
        if all(row.keep and row.name == row.source for row in self.rows) and self._in_order():
            return []
        sources: dict[str, list[str]] = {}
        for row in self.rows:
            if row.keep:
                sources.setdefault(row.name, []).append(row.source)
        return [ClassChoice(name=name, sources=merged) for name, merged in sources.items()]

    def _in_order(self) -> bool:
        return [row.index for row in self.rows] == list(range(len(self.rows)))
