"""Forms of the dataset pages: the source of an import and its options."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from trainingapp.accounts.permissions import is_administrator
from trainingapp.accounts.users import AnyUser
from trainingapp.contract.limits import MAX_SEED, NAME_LENGTH, PATH_LENGTH
from trainingapp.datasets.import_rights import may_import_from
from trainingapp.datasets.importing.inspection import ClassCounts, Proposal
from trainingapp.datasets.options import AUTO, ClassChoice, ImportOptions, ReadingOptions
from trainingapp.datasets.reading_choices import ReadingForm
from trainingapp.models import Dataset


def megabytes(size_bytes: int) -> int:
    return math.ceil(size_bytes / 1024**2)


#: File types that the browser offers for upload. Browsers match only the last part of a suffix such as .tar.gz.
ACCEPTED = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", "application/zip", "application/x-tar")


class ImportForm(forms.Form):
    """The source of a dataset: an uploaded archive or a folder on the server."""

    name = forms.CharField(
        label=_("Name"),
        max_length=NAME_LENGTH,
        widget=forms.TextInput({"class": "form-control", "autocomplete": "off"}),
    )
    archive = forms.FileField(
        label=_("Archive"),
        required=False,
        help_text=_(
            "A zip or a tar (also .tar.gz, .tar.bz2 and .tar.xz) of images with their annotations in one of the "
            "formats below. The format is detected automatically."
        ),
        widget=forms.FileInput({"class": "form-control", "accept": ",".join(ACCEPTED)}),
    )
    folder = forms.CharField(
        label=_("Folder on the server"),
        required=False,
        max_length=PATH_LENGTH,
        help_text=_("The full path. The images are copied; the folder is not changed."),
        widget=forms.TextInput({"class": "form-control font-monospace", "placeholder": "/srv/images/birds"}),
    )

    def __init__(
        self,
        data: QueryDict | None = None,
        files: MultiValueDict[str, UploadedFile] | None = None,
        *,
        user: AnyUser,
    ) -> None:
        super().__init__(data, files)
        self.user = user
        if not self.may_use_folders:
            del self.fields["folder"]

    @property
    def may_use_folders(self) -> bool:
        """Whether the user may import from server folders: administrators always, others only if IMPORT_DIRS is set."""
        return bool(settings.IMPORT_DIRS) or is_administrator(self.user)

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"].strip()
        if Dataset.objects.filter(name=name).exists():
            raise forms.ValidationError(_("A dataset with this name already exists."))
        return name

    def clean_archive(self) -> UploadedFile | None:
        archive: UploadedFile | None = self.cleaned_data["archive"]
        if archive and (archive.size or 0) > settings.MAX_UPLOAD_BYTES:
            limit = megabytes(settings.MAX_UPLOAD_BYTES)
            raise forms.ValidationError(_("The file is larger than the limit of %(limit)s MB.") % {"limit": limit})
        return archive

    def clean_folder(self) -> Path | None:
        if not self.cleaned_data["folder"]:
            return None
        folder = Path(self.cleaned_data["folder"])
        if not folder.is_absolute():
            raise forms.ValidationError(_("Enter the full path, starting with /."))
        folder = folder.resolve()
        if not may_import_from(self.user, folder):
            raise forms.ValidationError(_("Datasets may not be imported from this folder."))
        if not folder.is_dir():
            raise forms.ValidationError(_("The folder does not exist on the server."))
        return folder

    def clean(self) -> dict[str, object]:
        archive, folder = self.cleaned_data.get("archive"), self.cleaned_data.get("folder")
        if not {"archive", "folder"} & set(self.errors):
            if archive and folder:
                self.add_error("folder", _("Provide either an archive or a folder, not both."))
            elif not archive and not folder:
                either = _("Choose an archive, or enter a folder on the server.")
                self.add_error("archive", either if "folder" in self.fields else _("Choose an archive to upload."))
        return self.cleaned_data


#: Largest number of classes that the page can rename, merge, exclude and reorder; more are imported unchanged.
MOST_EDITABLE_CLASSES = 2000
_MOST_ORDER_DIGITS = 6


@dataclass
class ClassRow:
    """A class of the source and its form entries; `order` is the text as entered."""

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
        """Sort key: the number entered, then the order in the source."""
        return (int(self.order) if _is_order(self.order) else math.inf, self.index)


def _is_order(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MOST_ORDER_DIGITS


class ConfirmForm(forms.Form):
    """Options for importing a proposal. After is_valid(), they are in `options`.

    A class has three fields, class-N-name, class-N-keep and class-N-order, where N is its index in the proposal; `rows`
    holds them with their errors.
    """

    split = forms.ChoiceField(
        label=_("Training and validation"),
        choices=[
            ("given", _("As given by the source")),
            ("stratified", _("New stratified split, with every class in both")),
        ],
        widget=forms.RadioSelect({"class": "form-check-input"}),
    )
    val_percent = forms.IntegerField(
        label=_("Validation share"),
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
        help_text=_("The same seed selects the same images."),
        widget=forms.NumberInput({"class": "form-control"}),
    )
    on_error = forms.ChoiceField(
        label=_("On errors"),
        choices=[
            ("stop", _("Stop, import nothing, and list all errors")),
            ("leave_out", _("Skip invalid images and objects, and list them")),
        ],
        widget=forms.RadioSelect({"class": "form-check-input"}),
    )
    options: ImportOptions

    def __init__(
        self,
        data: Mapping[str, str] | None = None,
        *,
        proposal: Proposal,
        reading: ReadingForm | None = None,
        entered: ImportOptions | None = None,
    ) -> None:
        """`entered` holds the options of an earlier review of the same source; they are the initial values."""
        super().__init__(data)
        self.reading_form = reading
        self.entered = entered or ImportOptions()
        self._places = {
            source: (place, choice.name)
            for place, choice in enumerate(self.entered.classes, start=1)
            for source in choice.sources
        }
        self.has_splits = bool(proposal.get("has_splits"))
        found = proposal.get("classes", [])
        self.class_count = len(found)
        self.editable = self.class_count <= MOST_EDITABLE_CLASSES
        self.rows = [self._row(index, item) for index, item in enumerate(found)] if self.editable else []
        self.rows.sort(key=lambda row: row.place)
        self._note_merges()
        self.has_errors = any(item["level"] == "error" for item in proposal.get("report", []))
        if entered:
            percent = round(100 * entered.val_share)
            self.initial.update({"split": entered.split, "val_percent": percent, "seed": entered.seed})
        # If there are errors, "stop" would refuse the import immediately: the user has to choose.
        if not self.has_errors or self.entered.on_error == "leave_out":
            self.initial["on_error"] = self.entered.on_error
        if not self.has_splits or not entered:
            self.initial["split"] = "given" if self.has_splits else "stratified"
        if not self.has_splits:
            self.fields["split"].widget = forms.HiddenInput()

    def _row(self, index: int, found: ClassCounts) -> ClassRow:
        name, keep, order = found["name"], True, str(index + 1)
        if self._places:
            place, name = self._places.get(name, (len(self._places) + index + 1, name))
            keep, order = found["name"] in self._places, str(place)
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
        """Number of classes of the dataset."""
        return len({row.name for row in self.rows if row.keep}) if self.editable else self.class_count

    def clean_split(self) -> str:
        split: str = self.cleaned_data["split"]
        if split == "given" and not self.has_splits:
            raise forms.ValidationError(_("The source has no validation images."))
        return split

    def clean(self) -> dict[str, object]:
        values = self.cleaned_data
        if values.get("split") == "stratified":
            for name in ("val_percent", "seed"):
                if name not in self.errors and values.get(name) is None:
                    self.add_error(name, _("This field is required."))
        elif "split" in values:  # these fields have no effect, so their errors are ignored
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
                reading=self.reading_form.current if self.reading_form else AUTO,
            )
        return values

    def draft(self, reading: ReadingOptions) -> ImportOptions:
        """The options entered so far, with new reading choices. Invalid entries keep their previous values."""
        self.full_clean()
        values = {
            name: self.cleaned_data[name] for name in ("split", "seed", "on_error") if self.cleaned_data.get(name)
        }
        if percent := self.cleaned_data.get("val_percent"):
            values["val_share"] = percent / 100
        usable = not any(row.name_error or row.order_error for row in self.rows)
        classes = self._choices() if self.editable and usable else self.entered.classes
        return self.entered.model_copy(update={**values, "classes": classes, "reading": reading})

    def _check_rows(self) -> None:
        for row in self.rows if self.editable else ():
            if row.keep and not row.name:
                row.name_error = gettext("Enter a name, or exclude the class.")
            elif row.keep and len(row.name) > NAME_LENGTH:
                row.name_error = gettext("A name has at most %(count)d characters.") % {"count": NAME_LENGTH}
            if not _is_order(row.order):
                row.order_error = gettext("Enter a whole number.")
        wrong = [row.source for row in self.rows if row.name_error or row.order_error]
        if wrong:
            names = ", ".join(wrong[:5]) + (", …" if len(wrong) > 5 else "")
            self.add_error(None, gettext("Correct these classes: %(names)s.") % {"names": names})
        elif self.editable and not self.kept:
            self.add_error(None, gettext("Keep at least one class."))

    def _choices(self) -> list[ClassChoice]:
        """The selected classes; empty if nothing was changed."""
        in_order = [row.index for row in self.rows] == list(range(len(self.rows)))
        if in_order and all(row.keep and row.name == row.source for row in self.rows):
            return []
        sources: dict[str, list[str]] = {}
        for row in self.rows:
            if row.keep:
                sources.setdefault(row.name, []).append(row.source)
        return [ClassChoice(name=name, sources=merged) for name, merged in sources.items()]
