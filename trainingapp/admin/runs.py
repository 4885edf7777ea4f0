"""Runs and their parts. The status of a run is changed by the run verbs only, here as everywhere."""

from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.auth.models import User
from django.db.models import Max, Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from trainingapp.accounts.permissions import Verb, refusal
from trainingapp.admin.base import (
    Action,
    ActionEntry,
    Form,
    ReadOnlyAdmin,
    RecordedAdmin,
    admin_link,
    files_and_bytes,
    list_link,
    page_link,
    verb_action,
)
from trainingapp.admin.filters import BeforeFilter, BoundedPaginator, RunFilter, known_values
from trainingapp.admin.searching import FoundOnceAdmin, runs_with
from trainingapp.contract.config import parse_config
from trainingapp.contract.events import LEVELS
from trainingapp.models import (
    Checkpoint,
    Forecast,
    JournalEntry,
    RunEvent,
    RunValue,
    SavedView,
    SeriesChunk,
    Tag,
    TrainingRun,
)
from trainingapp.models.run import LARGE_COLUMNS, LARGE_COLUMNS_OF_DATASET
from trainingapp.models.text import stored_number
from trainingapp.models.verbs import VerbError, require_task
from trainingapp.presentation.badges import status_badge
from trainingapp.presentation.event_text import journal_text
from trainingapp.presentation.labels import SAVE_REASONS, STATUSES
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.verb_record import Parameter, RunVerb
from trainingapp.runs.verb_registry import RUN_VERBS

SHOWN_DATA = 160
SPLITS = ("train", "val")


class ForkForm(forms.Form):
    """What a fork takes from the checkpoint."""

    mode = forms.ChoiceField(
        label=_("Start with"),
        choices=[
            ("continue", _("The whole state: continue from its step, with optimizer and schedule")),
            ("weights", _("The weights only: a new run from epoch 1")),
        ],
    )


def run_action(verb: RunVerb) -> "Action[TrainingRun]":
    """The admin's action of a run verb."""

    def perform(run: TrainingRun, *, user: User, **values: object) -> object:
        if not verb.is_permitted(user, run):
            raise VerbError(refusal(verb.permission))
        return verb.perform(run, user=user, **values)

    # Optional parameters of a new run keep their defaults: a copy, for example, gets the default name.
    asked = [each for each in verb.parameters if each.is_required or not verb.makes_run]
    return verb_action(
        verb.admin_action,
        verb.admin_label or verb.label,
        verb.confirmation,
        verb.done,
        perform,
        describes=_run_with_files if verb.permission == Verb.DELETE else _described,
        form_class=type("ParametersForm", (forms.Form,), {each.name: _field_of(each) for each in asked}),
        is_final=verb.permission == Verb.DELETE,
    )


def _field_of(parameter: Parameter) -> forms.Field:
    if parameter.kind == "number":
        return forms.IntegerField(label=parameter.label, min_value=parameter.least, max_value=parameter.most)
    is_required = parameter.is_required and parameter.least > 0
    return forms.CharField(label=parameter.label, max_length=parameter.most, required=is_required)


def _described(run: TrainingRun) -> str:
    """Distinguishes it from another run of the same name."""
    return " · ".join([f"#{run.pk}", str(run.owner or "–"), str(STATUSES[run.shown_status][1])])


def _run_with_files(run: TrainingRun) -> str:
    return f"{_described(run)} · {files_and_bytes(run_verbs.deletion_size(run))}"


def _freed_bytes(checkpoint: Checkpoint) -> str:
    """What deleting this checkpoint alone would free: shared tensors are freed with the last one that needs them."""
    try:
        freed = run_verbs.checkpoints_deletion(checkpoint.run, [checkpoint.file]).freed_bytes
    except VerbError as error:
        return str(error)
    return gettext("%(name)s · frees %(size)s") % {"name": checkpoint.run.name, "size": filesizeformat(freed)}


def _fork(checkpoint: Checkpoint, *, user: User, mode: run_verbs.ForkMode) -> TrainingRun:
    require_task(checkpoint.run.task)
    config = parse_config(checkpoint.run.config)
    return run_verbs.fork_run(checkpoint.run, checkpoint, owner=user, config=config, mode=mode)


def _verify(checkpoint: Checkpoint, *, user: User) -> None:
    if damage := run_verbs.verify_checkpoint(checkpoint):
        raise VerbError(f"{checkpoint}: {damage}")


def _delete(checkpoint: Checkpoint, *, user: User) -> None:
    run_verbs.delete_checkpoints(checkpoint.run, [checkpoint.file], by=user.get_username())


def _pin(checkpoint: Checkpoint, *, user: User) -> None:
    run_verbs.pin_checkpoint(checkpoint)


def _unpin(checkpoint: Checkpoint, *, user: User) -> None:
    run_verbs.pin_checkpoint(checkpoint, is_pinned=False)


#: The question of the admin before each action on checkpoints.
_ASK = _("The action is applied to each of these checkpoints. Checkpoints for which it is not possible are listed.")


@admin.register(TrainingRun)
class TrainingRunAdmin(FoundOnceAdmin):
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
    list_filter = (
        ("archived_at", admin.EmptyFieldListFilter),
        "status",
        "task",
        "requested_action",
        "visibility",
        "team",
        "owner",
        "dataset",
    )
    search_fields = ("name", "dataset__name", "owner__username", "error_message", "host")
    list_select_related = ("dataset", "owner")
    deferred_in_list = ("config", *LARGE_COLUMNS, *LARGE_COLUMNS_OF_DATASET)
    date_hierarchy = "created_at"
    readonly_fields = ("page", "dataset_link", "events_link", "series_link", "checkpoints_link", "journal_link")
    editable = ("name", "priority")

    def word_condition(self, word: str) -> Q:
        return runs_with(word)

    def get_actions(self, request: HttpRequest) -> dict[str, ActionEntry]:
        """The run verbs that have an action in the admin."""
        actions = super().get_actions(request)
        for name, verb in RUN_VERBS.admin_actions().items() if IS_POPUP_VAR not in request.GET else ():
            label = str(verb.admin_label or verb.label)
            actions[name] = (run_action(verb), name, label)  # type: ignore[assignment]  # the stubs want a str returned
        return actions

    def save_model(self, request: HttpRequest, obj: Model, form: Form, change: bool) -> None:
        assert isinstance(obj, TrainingRun)
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
        return list_link(RunEvent, run.events.count(), run__id__exact=run.pk)

    @admin.display(description=_("metrics"))
    def series_link(self, run: TrainingRun) -> SafeString:
        return list_link(SeriesChunk, run.series.count(), run__id__exact=run.pk)

    @admin.display(description=_("checkpoints"))
    def checkpoints_link(self, run: TrainingRun) -> SafeString:
        return list_link(Checkpoint, run.checkpoints.count(), run__id__exact=run.pk)

    @admin.display(description=_("downtime journal"))
    def journal_link(self, run: TrainingRun) -> SafeString:
        return list_link(JournalEntry, run.journal.count(), run__id__exact=run.pk)


OfARun = RunEvent | RunValue | SeriesChunk | Checkpoint | JournalEntry | Forecast


class OfARunAdmin(ReadOnlyAdmin):
    """Rows that belong to a run."""

    list_select_related = ("run",)
    readonly_fields = ("run_link",)

    deferred_in_list = ("run__config", *(f"run__{name}" for name in LARGE_COLUMNS))

    @admin.display(description=_("run"), ordering="run__name")
    def run_link(self, row: OfARun) -> SafeString | str:
        return admin_link(row.run)


class NewestRowsAdmin(FoundOnceAdmin, OfARunAdmin):
    """A list of millions of rows. Without a run or a date, the newest are listed: filters and search would read all.

    What is counted is bounded too, and the order is always that of an index.
    """

    newest = 50_000
    #: The order of the rows of one run.
    order_of_run: tuple[str, ...] = ()
    paginator = BoundedPaginator
    show_full_result_count = False
    change_list_template = "admin/newest.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        rows = super().get_queryset(request)
        if not self.is_newest(request):
            return rows
        last = self.model._default_manager.aggregate(last=Max("pk"))["last"] or 0
        return rows.filter(pk__gt=last - self.newest)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        if request.GET.get(RunFilter.parameter_name):
            return self.order_of_run
        return (f"-{self.date_hierarchy}", "-pk") if self.has_dates(request) else ("-pk",)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
        newest = self.newest if self.is_newest(request) else 0
        return super().changelist_view(request, {**(extra_context or {}), "newest": newest})

    def is_newest(self, request: HttpRequest) -> bool:
        has_run = bool(request.GET.get(RunFilter.parameter_name))
        return self.is_list(request) and not has_run and not self.has_dates(request)

    def has_dates(self, request: HttpRequest) -> bool:
        """Whether the list is that of a year, a month or a day."""
        return bool(self.date_hierarchy) and any(name.startswith(f"{self.date_hierarchy}__") for name in request.GET)


@admin.register(RunEvent)
class RunEventAdmin(NewestRowsAdmin):
    list_display = ("seq", "run_link", "attempt", "time", "type", "level", "epoch", "step", "superseded", "shown_data")
    list_filter = ("type", known_values("level", _("level"), LEVELS), "superseded", RunFilter, BeforeFilter)
    search_fields = ("run__name", "data")
    order_of_run = ("-seq",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        """Of a run, the newest events below ?before=: a log may have millions of lines."""
        rows = super().get_queryset(request)
        run, before = (stored_number(request.GET.get(each.parameter_name, "")) for each in (RunFilter, BeforeFilter))
        if not self.is_list(request) or run is None:
            return rows
        numbers = RunEvent.objects.filter(run_id=run).order_by("-seq").values_list("seq", flat=True)
        if before is not None:
            numbers = numbers.filter(seq__lt=before)
        oldest = list(numbers[self.newest - 1 : self.newest])
        return rows.filter(seq__gte=oldest[0]) if oldest else rows

    @admin.display(description=_("data"))
    def shown_data(self, event: RunEvent) -> str:
        text = str(event.data)
        return text if len(text) <= SHOWN_DATA else f"{text[: SHOWN_DATA - 3]}..."


@admin.register(SeriesChunk)
class SeriesChunkAdmin(NewestRowsAdmin):
    """Chunks of metrics: what is known of the points, not the points themselves."""

    list_display = ("first_seq", "run_link", "attempt", "split", "count", "shown_metrics", "last_time", "superseded")
    list_filter = (known_values("split", _("split"), SPLITS), "superseded", RunFilter)
    search_fields = ("run__name",)
    #: Each has up to some 100 kB, of which a count reads a part.
    newest = 5000
    order_of_run = ("-first_seq",)
    exclude = ("preview", "data")
    deferred_in_list = (*OfARunAdmin.deferred_in_list, "preview", "data")

    @admin.display(description=_("metrics"))
    def shown_metrics(self, chunk: SeriesChunk) -> str:
        return ", ".join(chunk.summary)


@admin.register(RunValue)
class RunValueAdmin(NewestRowsAdmin):
    """What lists of runs sort and filter by."""

    list_display = ("name", "run_link", "number", "text")
    list_filter = (RunFilter,)
    search_fields = ("run__name", "name")
    order_of_run = ("name",)


@admin.register(Checkpoint)
class CheckpointAdmin(NewestRowsAdmin):
    order_of_run = ("-step", "-id")
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
    list_filter = (
        known_values("reason", _("reason"), SAVE_REASONS),
        "is_best",
        "is_last",
        "is_pinned",
        RunFilter,
    )
    search_fields = ("run__name", "file", "sha256")
    date_hierarchy = "created_at"
    actions = (
        verb_action("keep", _("Pin"), _ASK, _("“%(name)s” is pinned."), _pin),
        verb_action("release", _("Unpin"), _ASK, _("“%(name)s” is left to the retention policy."), _unpin),
        verb_action("verify", _("Verify hashes"), _ASK, _("“%(name)s” is valid."), _verify),
        verb_action("fork", _("Fork"), _ASK, _("A run was created from “%(name)s”."), _fork, form_class=ForkForm),
        verb_action(
            "remove", _("Delete"), _ASK, _("“%(name)s” was deleted."), _delete, describes=_freed_bytes, is_final=True
        ),
    )

    @admin.display(description=_("size"), ordering="size_bytes")
    def shown_size(self, checkpoint: Checkpoint) -> str:
        return filesizeformat(checkpoint.size_bytes)


@admin.register(JournalEntry)
class JournalEntryAdmin(OfARunAdmin):
    list_display = ("found_at", "run_name", "run_link", "attempt", "found_by", "action", "shown_message", "done_at")
    list_filter = ("action", "found_at")
    search_fields = ("run_name", "found_by", "message", "run__name")
    date_hierarchy = "found_at"

    @admin.display(description=_("message"), ordering="message")
    def shown_message(self, entry: JournalEntry) -> str:
        return journal_text(entry)


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


@admin.register(Tag)
class TagAdmin(RecordedAdmin):
    list_display = ("name", "runs_link")
    list_filter = ("runs__task",)
    search_fields = ("name",)

    @admin.display(description=_("runs"))
    def runs_link(self, tag: Tag) -> SafeString:
        """A link to the list of the studio."""
        return format_html('<a href="{}?{}">{}</a>', reverse("run_list"), urlencode({"tag": tag.name}), _("Show runs"))


@admin.register(SavedView)
class SavedViewAdmin(ReadOnlyAdmin):
    list_display = ("name", "user", "query")
    list_filter = ("user",)
    search_fields = ("name", "query", "user__username")
    list_select_related = ("user",)
