"""Forms that change a run or create one from another."""

from dataclasses import dataclass

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from trainingapp.accounts.users import AnyUser
from trainingapp.contract.config import config_fields, kept_by_continuing
from trainingapp.contract.limits import MAX_PRIORITY, NAME_LENGTH
from trainingapp.models import Checkpoint, Dataset, TrainingRun
from trainingapp.presentation.choices import choice_label, label_text
from trainingapp.runs.forks import least_epochs, too_few_epochs
from trainingapp.runs.forms import LIMITS, Given, LimitsForm, RunForm, mark_errors
from trainingapp.runs.verbs import ForkMode


class EpochsForm(forms.Form):
    """The total number of epochs of a run."""

    epochs = forms.IntegerField(label=_("Total epochs"), widget=forms.NumberInput({"class": "form-control"}))

    def __init__(self, run: TrainingRun, data: Given = None) -> None:
        super().__init__(data, initial={"epochs": run.config["epochs"]})
        field, bounds = self.fields["epochs"], config_fields(run.task)["epochs"]
        field.widget.attrs |= {"min": max(bounds.minimum or 1, run.epoch), "max": bounds.maximum}
        mark_errors(self)

    def refuse(self, message: str) -> None:
        """Show the reason beside the number."""
        self.add_error("epochs", message.removeprefix("epochs: "))
        mark_errors(self)


@dataclass(frozen=True)
class Difference:
    """A field that another user has changed: the value in the database, and the one of the form."""

    label: str
    stored: str | float | None
    own: str | float | None


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
        help_text=_("Runs with a higher priority start first."),
        widget=forms.NumberInput({"class": "form-control"}),
    )
    version = forms.IntegerField(min_value=0, widget=forms.HiddenInput())
    field_order = ("name", "priority", *LIMITS)

    def __init__(self, run: TrainingRun, data: Given = None) -> None:
        names = ("name", "priority", "version", *LIMITS)
        super().__init__(data, initial={name: getattr(run, name) for name in names})
        mark_errors(self)

    def differing(self, run: TrainingRun) -> list[Difference]:
        """Fields whose stored value is no longer what this form holds."""
        names = ("name", "priority", *LIMITS)
        rows = [(self.fields[name].label, getattr(run, name), self.cleaned_data.get(name)) for name in names]
        return [Difference(str(label), stored, own) for label, stored, own in rows if stored != own]


class ForkForm(RunForm):
    """A run that starts from a checkpoint of another one."""

    tells_pretrained = False

    checkpoint = forms.ModelChoiceField(
        label=_("Checkpoint"),
        queryset=Checkpoint.objects.none(),
        to_field_name="file",
        empty_label=None,
        widget=forms.Select({"class": "form-select"}),
    )
    mode = forms.ChoiceField(
        label=_("Start with"),
        choices=[
            ("continue", _("Full state: continue from its step, with optimizer and schedule")),
            ("weights", _("Weights only: a new run from epoch 1")),
        ],
        widget=forms.RadioSelect({"class": "form-check-input"}),
        initial="continue",
    )

    def __init__(
        self, run: TrainingRun, data: Given = None, *, user: AnyUser | None = None, initial: Given = None
    ) -> None:
        self.run = run
        super().__init__(data, task=run.task, user=user, initial=initial)

    def _chosen_dataset(self) -> Dataset:
        return self.run.dataset

    def _prepare(self) -> None:
        valid = self.run.checkpoints.filter(damage="").order_by("-step", "-id")
        self.fields["checkpoint"].queryset = valid  # type: ignore[attr-defined]
        self.fields["checkpoint"].label_from_instance = _checkpoint_label  # type: ignore[attr-defined]
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

    def clean(self) -> dict[str, object]:
        values = super().clean()
        if values.get("mode") == "continue" and hasattr(self, "config"):
            wanted = self.config.model_dump(mode="json")
            for name in self._kept():
                stored = self.run.config.get(name, self.config_fields[name].default)
                if wanted[name] != stored:
                    text = gettext("Must be %(value)s to continue from the step. Or copy the weights only.")
                    self.add_error(name, text % {"value": choice_label(name, stored)})
            checkpoint = values.get("checkpoint")
            if isinstance(checkpoint, Checkpoint) and self.config.epochs < least_epochs(checkpoint):
                self.add_error("epochs", too_few_epochs(checkpoint))
        return values


def _checkpoint_label(checkpoint: Checkpoint) -> str:
    text = gettext("%(file)s: epoch %(epoch)d, step %(step)d")
    shown = text % {"file": checkpoint.file, "epoch": checkpoint.epoch, "step": checkpoint.step}
    return f"{shown} ★" if checkpoint.is_best else shown
