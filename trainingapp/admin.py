"""The stock admin, for every model. A run's status is changed by its verbs alone, here as everywhere."""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from trainingapp import lifecycle
from trainingapp.models import Checkpoint, Dataset, FailureRule, JournalEntry, RunEvent, TrainingRun
from trainingapp.supervisor.failures import BY_CLASS, PATTERNS

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


class ReadOnlyAdmin(ModelAdmin):
    """Rows that only the studio writes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class VerbAdmin(ModelAdmin):
    """Deletes by the lifecycle's verb, which takes the files along; never by the row alone."""

    #: What `delete_verb` may be asked of.
    delete_verb: Callable[[Any], Any]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def _each(admin_: ModelAdmin, request: HttpRequest, rows: Iterable[Any], verb: Callable[[Any], Any], done: str) -> None:
    """Do the verb with each row, with a message for each."""
    for row in rows:
        try:
            verb(row)
        except lifecycle.VerbError as error:
            admin_.message_user(request, str(error), messages.ERROR)
        else:
            admin_.message_user(request, done % {"name": row}, messages.SUCCESS)


def _link(row: Any, text: str | None = None) -> SafeString:
    return format_html('<a href="{}">{}</a>', row.get_absolute_url(), text or row)


@admin.register(TrainingRun)
class TrainingRunAdmin(VerbAdmin):
    list_display = (
        "name",
        "status",
        "wanted",
        "dataset",
        "owner",
        "priority",
        "attempt",
        "epoch",
        "host",
        "created_at",
    )
    list_filter = ("status", "recipe", "wanted", "owner", "dataset")
    search_fields = ("name", "dataset__name", "owner__username", "error_message")
    list_select_related = ("dataset", "owner")
    date_hierarchy = "created_at"
    actions = ("start", "pause", "resume", "stop", "force_stop", "delete_with_files")
    #: The only fields that a form may change; both are no part of what the machine believes.
    editable = ("name", "priority")

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        names = [field.name for field in TrainingRun._meta.concrete_fields if field.name not in self.editable]
        return [*names, "page", "events_link", "checkpoints_link"]

    def save_model(self, request: HttpRequest, obj: TrainingRun, form: Any, change: bool) -> None:
        lifecycle.update_run(obj, name=form.cleaned_data["name"], priority=form.cleaned_data["priority"])

    @admin.display(description=gettext_lazy("page"))
    def page(self, run: TrainingRun) -> SafeString:
        return _link(run)

    @admin.display(description=gettext_lazy("events"))
    def events_link(self, run: TrainingRun) -> SafeString:
        address = reverse("admin:trainingapp_runevent_changelist")
        return format_html('<a href="{}?run__id__exact={}">{}</a>', address, quote(run.pk), run.event_seq)

    @admin.display(description=gettext_lazy("checkpoints"))
    def checkpoints_link(self, run: TrainingRun) -> SafeString:
        address = reverse("admin:trainingapp_checkpoint_changelist")
        return format_html('<a href="{}?run__id__exact={}">{}</a>', address, quote(run.pk), run.checkpoints.count())

    @admin.action(description=gettext_lazy("Start"), permissions=["change"])
    def start(self, request: HttpRequest, runs: QuerySet[TrainingRun]) -> None:
        by = request.user.get_username()
        _each(self, request, runs, lambda run: lifecycle.start_run(run, by=by), _("“%(name)s” was queued."))

    @admin.action(description=gettext_lazy("Pause"), permissions=["change"])
    def pause(self, request: HttpRequest, runs: QuerySet[TrainingRun]) -> None:
        by = request.user.get_username()
        _each(self, request, runs, lambda run: lifecycle.pause_run(run, by=by), _("“%(name)s” was asked to pause."))

    @admin.action(description=gettext_lazy("Resume"), permissions=["change"])
    def resume(self, request: HttpRequest, runs: QuerySet[TrainingRun]) -> None:
        by = request.user.get_username()
        _each(self, request, runs, lambda run: lifecycle.resume_run(run, by=by), _("“%(name)s” was queued."))

    @admin.action(description=gettext_lazy("Stop"), permissions=["change"])
    def stop(self, request: HttpRequest, runs: QuerySet[TrainingRun]) -> None:
        by = request.user.get_username()
        _each(self, request, runs, lambda run: lifecycle.stop_run(run, by=by), _("“%(name)s” was asked to stop."))

    @admin.action(description=gettext_lazy("Force to stop"), permissions=["change"])
    def force_stop(self, request: HttpRequest, runs: QuerySet[TrainingRun]) -> None:
        by = request.user.get_username()
        _each(self, request, runs, lambda run: lifecycle.force_stop_run(run, by=by), _("“%(name)s” is being ended."))

    @admin.action(description=gettext_lazy("Delete with all files"), permissions=["change"])
    def delete_with_files(self, request: HttpRequest, runs: QuerySet[TrainingRun]) -> None:
        _each(self, request, runs, lifecycle.delete_run, _("“%(name)s” was deleted."))


@admin.register(Dataset)
class DatasetAdmin(VerbAdmin):
    list_display = ("name", "status", "shown_recipes", "format", "owner", "class_count", "shown_size", "created_at")
    list_filter = ("status", "format", "source_is_upload", "owner")
    search_fields = ("name", "source", "fingerprint")
    list_select_related = ("owner",)
    actions = ("delete_with_files",)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Actions need it; a dataset itself never changes, so every field is read-only."""
        return super().has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return [*(field.name for field in Dataset._meta.concrete_fields), "page"]

    @admin.display(description=gettext_lazy("page"))
    def page(self, dataset: Dataset) -> SafeString:
        return _link(dataset)

    @admin.display(description=gettext_lazy("recipes"))
    def shown_recipes(self, dataset: Dataset) -> str:
        return ", ".join(dataset.recipes)

    @admin.display(description=gettext_lazy("classes"))
    def class_count(self, dataset: Dataset) -> int:
        return len(dataset.classes)

    @admin.display(description=gettext_lazy("size"), ordering="size_bytes")
    def shown_size(self, dataset: Dataset) -> str:
        return filesizeformat(dataset.size_bytes)

    @admin.action(description=gettext_lazy("Delete with all files"), permissions=["change"])
    def delete_with_files(self, request: HttpRequest, datasets: QuerySet[Dataset]) -> None:
        _each(self, request, datasets, lifecycle.delete_dataset, _("“%(name)s” was deleted."))


@admin.register(RunEvent)
class RunEventAdmin(ReadOnlyAdmin):
    list_display = ("run", "seq", "attempt", "time", "type", "level", "epoch", "step", "superseded", "shown_data")
    list_filter = ("type", "level", "superseded", ("run", admin.RelatedOnlyFieldListFilter))
    search_fields = ("run__name", "data")
    list_select_related = ("run",)
    ordering = ("-run", "-seq")
    show_full_result_count = False

    @admin.display(description=gettext_lazy("data"))
    def shown_data(self, event: RunEvent) -> str:
        text = str(event.data)
        return text if len(text) <= 160 else text[:157] + "..."


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnlyAdmin):
    list_display = ("run", "file", "epoch", "step", "reason", "shown_size", "is_best", "is_last", "created_at")
    list_filter = ("reason", "is_best", "is_last", ("run", admin.RelatedOnlyFieldListFilter))
    search_fields = ("run__name", "file", "sha256")
    list_select_related = ("run",)

    @admin.display(description=gettext_lazy("size"), ordering="size_bytes")
    def shown_size(self, checkpoint: Checkpoint) -> str:
        return filesizeformat(checkpoint.size_bytes)


class FailureRuleForm(forms.ModelForm):  # type: ignore[type-arg]
    """Refuses a pattern that cannot be searched with."""

    def clean_pattern(self) -> str:
        pattern = str(self.cleaned_data["pattern"])
        try:
            is_everywhere = re.compile(pattern).search("")
        except re.error as error:
            raise forms.ValidationError(_("This is no regular expression: %(error)s") % {"error": error}) from None
        if is_everywhere:
            raise forms.ValidationError(_("This pattern is found in an empty line: it would explain every failure."))
        return pattern


@admin.register(FailureRule)
class FailureRuleAdmin(ModelAdmin):
    """Rules of one's own, tried before the built-in ones, which the page lists below."""

    form = FailureRuleForm
    list_display = ("name", "pattern", "error_class", "action", "max_retries", "wait_s", "order", "is_enabled")
    list_filter = ("action", "is_enabled", "error_class")
    search_fields = ("name", "pattern", "advice")
    change_list_template = "admin/failure_rules.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list, with the built-in rules beside it."""
        patterns: dict[str, list[str]] = {}
        for pattern, name in PATTERNS:
            patterns.setdefault(name, []).append(pattern)
        built_in = [
            {"rule": rule, "action": FailureRule.Action(rule.action).label, "patterns": patterns.get(name, [])}
            for name, rule in BY_CLASS.items()
        ]
        return super().changelist_view(request, {"built_in": built_in, **(extra_context or {})})


@admin.register(JournalEntry)
class JournalEntryAdmin(ReadOnlyAdmin):
    list_display = ("run_name", "attempt", "found_at", "found_by", "action", "message")
    list_filter = ("action", "found_by")
    search_fields = ("run_name", "found_by", "message")
    list_select_related = ("run",)
