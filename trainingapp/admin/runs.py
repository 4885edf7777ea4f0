"""Runs and what belongs to them. A run's status is changed by its verbs alone, here as everywhere."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from trainingapp.admin.base import (
    ReadOnlyAdmin,
    StudioAdmin,
    admin_link,
    files_and_bytes,
    list_link,
    page_link,
    verb_action,
)
from trainingapp.contract.config import parse_config
from trainingapp.models import Checkpoint, Forecast, JournalEntry, RunEvent, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.presentation.badges import status_badge
from trainingapp.presentation.labels import STATUSES
from trainingapp.runs import verbs as run_verbs

SHOWN_DATA = 160


class EpochsForm(forms.Form):
    """How long the runs are to be."""

    epochs = forms.IntegerField(label=_("Number of epochs"), min_value=1)


class BranchForm(forms.Form):
    """What a branch takes from the checkpoint."""

    mode = forms.ChoiceField(
        label=_("Begin with"),
        choices=[
            ("continue", _("Everything: go on from its step, with optimizer and schedule")),
            ("weights", _("The weights alone: a new run from epoch 1")),
        ],
    )


def _run_action(verb: str, label: Any, done: Any, function: Callable[..., TrainingRun], **more: Any) -> Any:
    question = _("This is asked of each of these runs; those of which it cannot be asked are named.")
    return verb_action(verb, label, question, done, function, tells=_which_run, **more)


def _which_run(run: TrainingRun) -> str:
    """What tells it from another of the same name."""
    return " · ".join([f"#{run.pk}", str(run.owner or "–"), str(STATUSES[run.shown_status][1])])


def _run_with_files(run: TrainingRun) -> str:
    return f"{_which_run(run)} · {files_and_bytes(run_verbs.deletion_size(run))}"


def _freed_bytes(checkpoint: Checkpoint) -> str:
    """What goes with this one alone: of several that share numbers, the last one frees them."""
    try:
        freed = run_verbs.checkpoints_deletion(checkpoint.run, [checkpoint.file]).freed_bytes
    except VerbError as error:
        return str(error)
    return gettext("%(name)s · frees %(size)s") % {"name": checkpoint.run.name, "size": filesizeformat(freed)}


def _checkpoint_action(verb: str, label: Any, done: Any, function: Callable[..., Any], **more: Any) -> Any:
    question = _("This is done to each of these checkpoints; those to which it cannot be done are named.")
    return verb_action(verb, label, question, done, function, **more)


def _fork(checkpoint: Checkpoint, *, mode: run_verbs.ForkMode, owner: Any) -> TrainingRun:
    config = parse_config(checkpoint.run.config)
    return run_verbs.fork_run(checkpoint.run, checkpoint, owner=owner, config=config, mode=mode)


def _verify(checkpoint: Checkpoint) -> None:
    if damage := run_verbs.verify_checkpoint(checkpoint):
        raise VerbError(f"{checkpoint}: {damage}")


def _delete(checkpoint: Checkpoint) -> None:
    run_verbs.delete_checkpoints(checkpoint.run, [checkpoint.file])


def _release(checkpoint: Checkpoint) -> Checkpoint:
    return run_verbs.pin_checkpoint(checkpoint, is_pinned=False)


@admin.register(TrainingRun)
class TrainingRunAdmin(StudioAdmin):
    list_display = (
        "name",
        "shown_status",
        "requested_action",
        "task",
        "dataset_link",
        "owner",
        "visibility",
        "priority",
        "attempt",
        "progress_text",
        "host",
        "created_at",
    )
    list_filter = ("status", "task", "requested_action", "visibility", "team", "owner", "dataset")
    search_fields = ("name", "dataset__name", "owner__username", "error_message", "host")
    list_select_related = ("dataset", "owner")
    date_hierarchy = "created_at"
    readonly_fields = ("page", "dataset_link", "events_link", "checkpoints_link", "journal_link")
    editable = ("name", "priority")
    actions = (
        _run_action("start", _("Start"), _("“%(name)s” was queued."), run_verbs.start_run),
        _run_action("pause", _("Pause"), _("“%(name)s” was asked to pause."), run_verbs.pause_run),
        _run_action("resume", _("Resume"), _("“%(name)s” was queued."), run_verbs.resume_run),
        _run_action("retry", _("Try again"), _("“%(name)s” was queued."), run_verbs.retry_run),
        _run_action("stop", _("Stop"), _("“%(name)s” was asked to stop."), run_verbs.stop_run),
        _run_action("force_stop", _("Force to stop"), _("“%(name)s” is being ended."), run_verbs.force_stop_run),
        _run_action("checkpoint", _("Save a checkpoint now"), _("“%(name)s” saves."), run_verbs.checkpoint_now),
        _run_action("evaluate", _("Evaluate now"), _("“%(name)s” validates."), run_verbs.evaluate_now),
        _run_action(
            "extend", _("Change the epochs"), _("“%(name)s” has its new length."), run_verbs.extend_run, asks=EpochsForm
        ),
        _run_action("clone", _("Clone"), _("“%(name)s” was cloned."), run_verbs.clone_run, makes_new=True),
        verb_action(
            "delete_with_files",
            _("Delete with all files"),
            _("These runs go with their logs, curves and checkpoints, for good."),
            _("“%(name)s” was deleted."),
            run_verbs.delete_run,
            tells=_run_with_files,
            is_final=True,
        ),
    )

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        run_verbs.update_run(obj, name=form.cleaned_data["name"], priority=form.cleaned_data["priority"])

    @admin.display(description=_("status"), ordering="status")
    def shown_status(self, run: TrainingRun) -> SafeString:
        return status_badge(run.shown_status)

    @admin.display(description=_("progress"))
    def progress_text(self, run: TrainingRun) -> str:
        return f"{run.epoch}/{run.total_epochs}"

    @admin.display(description=_("page"))
    def page(self, run: TrainingRun) -> SafeString | str:
        return page_link(run)

    @admin.display(description=_("dataset"), ordering="dataset__name")
    def dataset_link(self, run: TrainingRun) -> SafeString | str:
        return admin_link(run.dataset)

    @admin.display(description=_("events"))
    def events_link(self, run: TrainingRun) -> SafeString:
        return list_link(RunEvent, run.event_seq, run__id__exact=run.pk)

    @admin.display(description=_("checkpoints"))
    def checkpoints_link(self, run: TrainingRun) -> SafeString:
        return list_link(Checkpoint, run.checkpoints.count(), run__id__exact=run.pk)

    @admin.display(description=_("downtime journal"))
    def journal_link(self, run: TrainingRun) -> SafeString:
        return list_link(JournalEntry, run.journal.count(), run__id__exact=run.pk)


class OfARunAdmin(ReadOnlyAdmin):
    """Rows that belong to a run."""

    list_select_related = ("run",)
    readonly_fields = ("run_link",)

    @admin.display(description=_("run"), ordering="run__name")
    def run_link(self, row: Any) -> SafeString | str:
        return admin_link(row.run)


@admin.register(RunEvent)
class RunEventAdmin(OfARunAdmin):
    list_display = ("seq", "run_link", "attempt", "time", "type", "level", "epoch", "step", "superseded", "shown_data")
    list_filter = ("type", "level", "superseded", ("run", admin.RelatedOnlyFieldListFilter))
    search_fields = ("run__name", "data")
    ordering = ("-run", "-seq")
    show_full_result_count = False

    @admin.display(description=_("data"))
    def shown_data(self, event: RunEvent) -> str:
        text = str(event.data)
        return text if len(text) <= SHOWN_DATA else f"{text[: SHOWN_DATA - 3]}..."


@admin.register(Checkpoint)
class CheckpointAdmin(OfARunAdmin):
    list_display = (
        "file",
        "run_link",
        "epoch",
        "step",
        "reason",
        "shown_size",
        "is_best",
        "is_last",
        "is_pinned",
        "damage",
        "created_at",
    )
    list_filter = ("reason", "is_best", "is_last", "is_pinned", ("run", admin.RelatedOnlyFieldListFilter))
    search_fields = ("run__name", "file", "sha256")
    date_hierarchy = "created_at"
    actions = (
        _checkpoint_action("keep", _("Keep"), _("“%(name)s” stays, whatever the rules say."), run_verbs.pin_checkpoint),
        _checkpoint_action("release", _("Keep no longer"), _("“%(name)s” goes when the rules say so."), _release),
        _checkpoint_action("verify", _("Compare hashes"), _("“%(name)s” is sound."), _verify),
        _checkpoint_action(
            "fork", _("Fork"), _("A run was made from “%(name)s”."), _fork, asks=BranchForm, makes_new=True
        ),
        _checkpoint_action(
            "remove", _("Delete"), _("“%(name)s” was deleted."), _delete, tells=_freed_bytes, is_final=True
        ),
    )

    @admin.display(description=_("size"), ordering="size_bytes")
    def shown_size(self, checkpoint: Checkpoint) -> str:
        return filesizeformat(checkpoint.size_bytes)


@admin.register(JournalEntry)
class JournalEntryAdmin(OfARunAdmin):
    list_display = ("found_at", "run_name", "run_link", "attempt", "found_by", "action", "message", "done_at")
    list_filter = ("action", "found_at")
    search_fields = ("run_name", "found_by", "message", "run__name")
    date_hierarchy = "found_at"


@admin.register(Forecast)
class ForecastAdmin(OfARunAdmin):
    list_display = (
        "made_at",
        "run_link",
        "start_earliest",
        "start_latest",
        "started_at",
        "finish_earliest",
        "finish_latest",
        "finished_at",
        "basis",
    )
    list_filter = ("made_at",)
    search_fields = ("run__name",)
    date_hierarchy = "made_at"
