"""The forms of stored models."""

from typing import get_args

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.dataset_index import LabelMode
from trainingapp.contract.export_options import ExportOptions, finds_boxes, opsets
from trainingapp.contract.limits import (
    ARCHITECTURE_LENGTH,
    LICENCE_LENGTH,
    MAX_IMAGE_SIZE,
    NAME_LENGTH,
    NOTE_LENGTH,
    PATH_LENGTH,
)
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import Dataset
from trainingapp.presentation.choices import choice_label

NORMALISATION_LABELS = [
    ("imagenet", _("ImageNet")),
    ("centred", _("From −1 to 1")),
    ("clip", "CLIP"),
    ("plain", _("From 0 to 1")),
]
FORMAT_LABELS = [
    ("onnx", _("ONNX with a prediction script")),
    ("openvino", _("OpenVINO with a prediction script")),
    ("pt2", _("torch.export (.pt2)")),
    ("safetensors", _("safetensors")),
    ("pt", _("PyTorch state dict (.pt)")),
]
BATCH_LABELS = [("fixed", _("One image")), ("dynamic", _("Dynamic"))]
SIZE_LABELS = [("fixed", _("Image size of the model")), ("dynamic", _("Dynamic height and width"))]
SPLIT_LABELS = [("val", _("Validation")), ("train", _("Training")), ("all", _("All images"))]


def task_choices() -> list[tuple[str, str]]:
    """Evaluated for each form, in the reader's language."""
    return [(task, str(choice_label("task", task))) for task in TASKS]


def label_mode_choices() -> list[tuple[str, str]]:
    """Evaluated for each form, in the reader's language."""
    return [(mode, str(choice_label("label_mode", mode))) for mode in get_args(LabelMode)]


def _text(**attributes: str) -> forms.TextInput:
    return forms.TextInput({"class": "form-control", "autocomplete": "off", **attributes})


class MarkedForm(forms.Form):
    """A form that marks its invalid fields for Bootstrap and for screen readers."""

    def mark(self) -> None:
        for name in self.errors:
            if name in self.fields:
                attributes = self.fields[name].widget.attrs
                attributes |= {"aria-invalid": "true", "class": f"{attributes.get('class', '')} is-invalid"}


class AboutForm(MarkedForm):
    """Name, note and licence of a model."""

    name = forms.CharField(
        label=_("Name"),
        max_length=NAME_LENGTH,
        help_text=_("A model with the same name becomes its next version."),
        widget=_text(),
    )
    note = forms.CharField(
        label=_("Note"),
        required=False,
        max_length=NOTE_LENGTH,
        widget=forms.Textarea({"class": "form-control", "rows": 3}),
    )
    licence = forms.CharField(
        label=_("License"),
        required=False,
        max_length=LICENCE_LENGTH,
        help_text=_("License of the weights, such as CC BY 4.0."),
        widget=_text(),
    )


class SaveForm(AboutForm):
    """Saves a checkpoint of a run."""

    file = forms.ChoiceField(label=_("Checkpoint"), widget=forms.Select({"class": "form-select"}))

    field_order = ["file", "name", "note", "licence"]

    def __init__(
        self, data: QueryDict | None = None, *, checkpoints: list[tuple[str, str]], initial: dict[str, object]
    ) -> None:
        super().__init__(data, initial=initial)
        self.fields["file"].choices = checkpoints  # type: ignore[attr-defined]


class UploadForm(AboutForm):
    """Uploads a file of weights, with the network that it is for."""

    file = forms.FileField(
        label=_("File"),
        help_text=_(
            "A safetensors file (.safetensors), or a state dict or checkpoint that torch.save wrote (.pt, .pth, .ckpt, "
            ".pth.tar, .bin)."
        ),
        widget=forms.FileInput({"class": "form-control", "accept": ".safetensors,.pt,.pth,.ckpt,.bin,.tar"}),
    )
    task = forms.ChoiceField(label=_("Task"), choices=task_choices, widget=forms.Select({"class": "form-select"}))
    architecture = forms.CharField(
        label=_("Architecture"),
        max_length=ARCHITECTURE_LENGTH,
        help_text=_("Name as in the run form, such as resnet18."),
        widget=_text(list="architectures"),
    )
    image_size = forms.IntegerField(
        label=_("Image size"),
        min_value=32,
        max_value=MAX_IMAGE_SIZE,
        initial=224,
        help_text=_("Side of the square that images are scaled to; a multiple of 32."),
        widget=forms.NumberInput({"class": "form-control", "step": 32}),
    )
    normalisation = forms.ChoiceField(
        label=_("Normalization"),
        choices=NORMALISATION_LABELS,
        help_text=_("Pixel normalization used in training."),
        widget=forms.Select({"class": "form-select"}),
    )
    label_mode = forms.ChoiceField(
        label=_("Labels per image"),
        choices=label_mode_choices,
        required=False,
        help_text=_("Several: a sigmoid for each class, with the threshold 0.5. For classification only."),
        widget=forms.Select({"class": "form-select"}),
    )
    classes = forms.CharField(
        label=_("Classes"),
        help_text=_("One per line, in the order of the outputs, without the background."),
        widget=forms.Textarea({"class": "form-control font-monospace", "rows": 6}),
    )

    field_order = ["file", "name", "task", "architecture", "image_size", "normalisation", "label_mode", "classes"]

    @property
    def max_bytes(self) -> int:
        """The limit that the script of the page checks before an upload."""
        return int(settings.MAX_UPLOAD_BYTES)

    def clean_file(self) -> UploadedFile:
        file: UploadedFile = self.cleaned_data["file"]
        if (file.size or 0) > settings.MAX_UPLOAD_BYTES:
            limit = settings.MAX_UPLOAD_BYTES // 1024**2
            raise forms.ValidationError(_("The file is larger than the limit of %(limit)s MB.") % {"limit": limit})
        return file

    def clean_image_size(self) -> int:
        size: int = self.cleaned_data["image_size"]
        if size % 32:
            raise forms.ValidationError(_("Must be a multiple of %(multiple_of)s.") % {"multiple_of": 32})
        return size

    def clean_label_mode(self) -> str:
        return str(self.cleaned_data["label_mode"] or "single")

    def clean_classes(self) -> list[str]:
        names = [line.strip() for line in self.cleaned_data["classes"].splitlines() if line.strip()]
        if len(set(names)) != len(names):
            raise forms.ValidationError(_("Two classes have the same name."))
        return names

    def clean(self) -> dict[str, object]:
        task, name = self.cleaned_data.get("task"), self.cleaned_data.get("architecture")
        if task in TASKS and name and not is_known(task, name):
            known = ", ".join(list(TASKS[task].architectures)[:12])
            message = _("Unknown architecture for this task. Known are %(known)s and others.")
            self.add_error("architecture", message % {"known": known})
        classes = self.cleaned_data.get("classes")
        least = TASKS[task].least_classes if task in TASKS else 1
        if classes is not None and len(classes) < least:
            self.add_error("classes", _("Too few classes for this task (at least %(count)d).") % {"count": least})
        return self.cleaned_data


def is_known(task: str, name: str) -> bool:
    """Whether the task has a network of this name, among ours or those of its library."""
    return TASKS[task].has_architecture(name)


class ExportForm(MarkedForm):
    """The formats of an export, and the choices for ONNX and OpenVINO that the task of the model has."""

    formats = forms.MultipleChoiceField(
        label=_("Formats"),
        choices=FORMAT_LABELS,
        initial=[name for name, _label in FORMAT_LABELS],
        widget=forms.CheckboxSelectMultiple({"class": "form-check-input"}),
    )
    batch = forms.ChoiceField(
        label=_("Batch size"),
        choices=BATCH_LABELS,
        required=False,
        help_text=_("Number of images that the exported model takes at once. Not available for two-stage detectors."),
        widget=forms.Select({"class": "form-select"}),
    )
    size = forms.ChoiceField(
        label=_("Input size"),
        choices=SIZE_LABELS,
        required=False,
        help_text=_(
            "Dynamic: any multiple of 32. Not available for two-stage detectors and for transformers with fixed "
            "positions; these are skipped with the reason."
        ),
        widget=forms.Select({"class": "form-select"}),
    )
    opset = forms.TypedChoiceField(
        label=_("Opset"),
        required=False,
        coerce=int,
        empty_value=None,
        help_text=_("Version of the ONNX operators. Choose an older one for an older runtime."),
        widget=forms.Select({"class": "form-select"}),
    )
    half = forms.BooleanField(
        label=_("Weights in half precision"),
        required=False,
        help_text=_("Halves the file: weights are stored as float16. Inputs and outputs stay float32."),
        widget=forms.CheckboxInput({"class": "form-check-input"}),
    )
    nms = forms.BooleanField(
        label=_("Non-maximum suppression inside the model"),
        required=False,
        help_text=_(
            "The model returns final boxes, scores and labels, with its own confidence and NMS IoU thresholds. Takes "
            "one image at a time."
        ),
        widget=forms.CheckboxInput({"class": "form-check-input"}),
    )

    def __init__(self, data: QueryDict | None = None, *, task: str) -> None:
        super().__init__(data)
        numbers = [(str(number), str(number)) for number in opsets(task)]
        self.fields["opset"].choices = [("", _("Default of PyTorch")), *numbers]  # type: ignore[attr-defined]
        if not finds_boxes(task):
            del self.fields["nms"]

    def options(self) -> ExportOptions:
        """The choices of a valid form; those that were not sent have their defaults."""
        values = {name: value for name, value in self.cleaned_data.items() if name != "formats" and value}
        return ExportOptions(**values)


class ManyForm(MarkedForm):
    """Predicts a split of a dataset, or a folder of the server."""

    dataset = forms.ModelChoiceField(
        label=_("Dataset"),
        queryset=Dataset.objects.none(),
        required=False,
        empty_label=_("Choose a dataset"),
        widget=forms.Select({"class": "form-select"}),
    )
    split = forms.ChoiceField(
        label=_("Images"), choices=SPLIT_LABELS, required=False, widget=forms.Select({"class": "form-select"})
    )
    folder = forms.CharField(
        label=_("Or a folder on the server"),
        required=False,
        max_length=PATH_LENGTH,
        widget=_text(placeholder="/srv/images/birds"),
    )

    def __init__(
        self,
        data: QueryDict | None = None,
        *,
        datasets: QuerySet[Dataset],
        with_folders: bool,
        initial: dict[str, object],
    ) -> None:
        super().__init__(data, initial=initial)
        self.fields["dataset"].queryset = datasets  # type: ignore[attr-defined]
        if not with_folders:
            del self.fields["folder"]

    def clean(self) -> dict[str, object]:
        chosen = [name for name in ("dataset", "folder") if self.cleaned_data.get(name)]
        if len(chosen) != 1 and not self.errors:
            self.add_error(
                "dataset",
                _("Choose a dataset or a folder.")
                if not chosen
                else _("Choose either a dataset or a folder, not both."),
            )
        return self.cleaned_data
