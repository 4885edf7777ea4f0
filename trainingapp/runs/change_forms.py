"""The forms that change a run or make one from another."""

from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.config import config_fields, kept_by_continuing
from trainingapp.contract.limits import MAX_PRIORITY, NAME_LENGTH
from trainingapp.models import Checkpoint, Dataset, TrainingRun
from trainingapp.presentation.choices import choice_label, label_text
from trainingapp.runs.forms import LIMITS, LimitsForm, RunForm, mark_errors
from trainingapp.runs.verbs import ForkMode


class EpochsForm(forms.Form):
    """How many epochs a run has in all."""

    epochs = forms.IntegerField(label=_("Total epochs"), widget=forms.NumberInput({"class": "form-control"}))

    def __init__(self, run: TrainingRun, *args: Any, **kwargs: Any) -> None:
        kwargs["initial"] = {"epochs": run.config["epochs"]}
        super().__init__(*args, **kwargs)
        field, bounds = self.fields["epochs"], config_fields(run.task)["epochs"]
        field.widget.attrs |= {"min": max(bounds.minimum or 1, run.epoch), "max": bounds.maximum}
        mark_errors(self)

    def refuse(self, message: str) -> None:
        """Say beside the number why it can't be."""
        self.add_error("epochs", message.removeprefix("epochs: "))
        mark_errors(self)


class EditForm(LimitsForm):
    """Name, priority and limits of a run. `version` is that of the run as the form was filled from it."""

    name = forms.CharField(
        label=_("Name"),
        max_length=NAME_LENGTH,
        widget=forms.TextInput({"class": "form-control", "autocomplete": "off"}),
    )
    priority = forms.IntegerField(
        label=_("Priority"),
        min_value=-MAX_PRIORITY,
        max_value=MAX_PRIORITY,
        help_text=_("Higher runs start first when there is a queue."),
        widget=forms.NumberInput({"class": "form-control"}),
    )
    version = forms.IntegerField(min_value=0, widget=forms.HiddenInput())
    field_order = ("name", "priority", *LIMITS)

    def __init__(self, run: TrainingRun, *args: Any, **kwargs: Any) -> None:
        names = ("name", "priority", "version", *LIMITS)
        kwargs["initial"] = {name: getattr(run, name) for name in names}
        super().__init__(*args, **kwargs)
        mark_errors(self)

    def differing(self, run: TrainingRun) -> list[dict[str, Any]]:
        """What is stored now and is not what this form holds: label and both values."""
        names = ("name", "priority", *LIMITS)
        rows = [(self.fields[name].label, getattr(run, name), self.cleaned_data.get(name)) for name in names]
        return [{"label": label, "stored": stored, "own": own} for label, stored, own in rows if stored != own]


class ForkForm(RunForm):
    """A run that begins with a checkpoint of another one."""

    checkpoint = forms.ModelChoiceField(
        label=_("Checkpoint"),
        queryset=Checkpoint.objects.none(),
        to_field_name="file",
        empty_label=None,
        widget=forms.Select({"class": "form-select"}),
    )
    mode = forms.ChoiceField(
        label=_("Begin with"),
        choices=[
            ("continue", _("Everything: go on from its step, with optimizer and schedule")),
            ("weights", _("The weights alone: a new run from epoch 1")),
        ],
        widget=forms.RadioSelect({"class": "form-check-input"}),
        initial="continue",
    )

    def __init__(self, run: TrainingRun, *args: Any, **kwargs: Any) -> None:
        self.run = run
        super().__init__(*args, task=run.task, **kwargs)

    def _prepare(self) -> None:
        sound = self.run.checkpoints.filter(damage="").order_by("-step", "-id")
        self.fields["checkpoint"].queryset = sound  # type: ignore[attr-defined]
        self.fields["checkpoint"].label_from_instance = _told  # type: ignore[attr-defined]
        dataset = self.fields["dataset"]
        dataset.queryset = Dataset.objects.filter(pk=self.run.dataset_id)  # type: ignore[attr-defined]
        dataset.disabled, self.initial["dataset"] = True, self.run.dataset_id
        del self.fields["start_from"], self.config_fields["start_from"]

    @property
    def fork_mode(self) -> ForkMode:
        return "weights" if self.cleaned_data["mode"] == "weights" else "continue"

    def kept_labels(self) -> list[str]:
        """Labels of the fields that must keep their value to continue from a step."""
        return [label_text(self.config_fields[name].setting.label) for name in self._kept()]

    def _kept(self) -> list[str]:
        """Those that the form offers: the task cannot be changed in it."""
        return [name for name in kept_by_continuing(self.run.task) if name in self.config_fields]

    def clean(self) -> dict[str, Any]:
        values = super().clean()
        if values.get("mode") == "continue" and hasattr(self, "config"):
            wanted = self.config.model_dump(mode="json")
            for name in self._kept():
                if wanted[name] != self.run.config[name]:
                    text = gettext("Must be %(value)s to continue from the step. Or copy the weights only.")
                    self.add_error(name, text % {"value": choice_label(name, self.run.config[name])})
            self._check_length(values)
        return values

    def _check_length(self, values: dict[str, Any]) -> None:
        checkpoint = values.get("checkpoint")
        if checkpoint is not None and self.config.epochs < checkpoint.epoch:
            text = gettext("The checkpoint is of epoch %(epoch)d; give the run at least as many.")
            self.add_error("epochs", text % {"epoch": checkpoint.epoch})


def _told(checkpoint: Checkpoint) -> str:
    text = gettext("%(file)s: epoch %(epoch)d, step %(step)d")
    shown = text % {"file": checkpoint.file, "epoch": checkpoint.epoch, "step": checkpoint.step}
    return f"{shown} ★" if checkpoint.is_best else shown
