"""The forms of the dataset pages: a source to import, and how to import it."""

import math
from pathlib import Path
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.utils.translation import gettext_lazy as _

from trainingapp import lifecycle
from trainingapp.models import Dataset


def megabytes(size_bytes: int) -> int:
    return math.ceil(size_bytes / 1024**2)


class ImportForm(forms.Form):
    """A dataset to import: from an uploaded zip, or from a folder on the server."""

    name = forms.CharField(
        label=_("Name"), max_length=120, widget=forms.TextInput({"class": "form-control", "autocomplete": "off"})
    )
    archive = forms.FileField(
        label=_("Zip file"),
        required=False,
        help_text=_("A folder per class, with pictures in each; or train and val folders that hold these."),
        widget=forms.FileInput({"class": "form-control", "accept": ".zip,application/zip"}),
    )
    folder = forms.CharField(
        label=_("Folder on the server"),
        required=False,
        max_length=1024,
        help_text=_("Its full path. The pictures are copied; the folder stays as it is."),
        widget=forms.TextInput({"class": "form-control font-monospace", "placeholder": "/srv/pictures/birds"}),
    )

    def __init__(self, *args: Any, user: AbstractBaseUser | AnonymousUser, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        if not self.may_use_folders:
            del self.fields["folder"]

    @property
    def may_use_folders(self) -> bool:
        """Nobody without administration reads the server's folders, unless settings name some."""
        return bool(settings.IMPORT_DIRS) or getattr(self.user, "is_staff", False)

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
        if not lifecycle.may_import_from(self.user, folder):
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
                self.add_error("archive", _("Choose a zip file to upload."))
        return self.cleaned_data
