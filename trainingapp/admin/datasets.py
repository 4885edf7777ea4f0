"""Datasets with their images, and the models."""

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
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
from trainingapp.datasets import verbs as dataset_verbs
from trainingapp.datasets.previews import image_page
from trainingapp.datasets.reading_choices import reading_view
from trainingapp.datasets.report import item_text
from trainingapp.models import Dataset, TrainingRun, Weights, WeightsAlias
from trainingapp.presentation.badges import status_badge
from trainingapp.presentation.labels import format_label

IMAGES_SHOWN = 12
FINDINGS_SHOWN = 50
THUMBNAIL_PIXELS = 160


@admin.register(Dataset)
class DatasetAdmin(StudioAdmin):
    list_display = (
        "name",
        "thumbnail",
        "shown_status",
        "shown_tasks",
        "shown_format",
        "owner",
        "visibility",
        "class_count",
        "shown_size",
        "created_at",
    )
    list_filter = ("status", "format", "visibility", "team", "source_is_upload", "owner")
    search_fields = ("name", "source", "fingerprint", "owner__username")
    list_select_related = ("owner",)
    date_hierarchy = "created_at"
    readonly_fields = ("page", "findings", "shown_reading", "thumbnails", "runs_link")
    actions = (
        verb_action(
            "delete_with_files",
            _("Delete with all files"),
            _("These datasets are deleted permanently, with all their images. Datasets that runs use are kept."),
            _("“%(name)s” was deleted."),
            lambda dataset, *, user: dataset_verbs.delete_dataset(dataset),
            describes=lambda dataset: files_and_bytes(dataset_verbs.dataset_deletion_size(dataset)),
            is_final=True,
        ),
    )

    @admin.display(description=_("page"))
    def page(self, dataset: Dataset) -> SafeString | str:
        return page_link(dataset)

    @admin.display(description=_("status"), ordering="status")
    def shown_status(self, dataset: Dataset) -> SafeString:
        return status_badge(dataset.status)

    @admin.display(description=_("image"))
    def thumbnail(self, dataset: Dataset) -> SafeString | str:
        return _thumbnails(dataset, 1)

    @admin.display(description=_("images"))
    def thumbnails(self, dataset: Dataset) -> SafeString | str:
        return _thumbnails(dataset, IMAGES_SHOWN)

    @admin.display(description=_("findings"))
    def findings(self, dataset: Dataset) -> SafeString | str:
        texts = [(item["level"], item_text(item)) for item in dataset.report[:FINDINGS_SHOWN]]
        return format_html_join("", "<p>{}: {}</p>", texts) or "–"

    @admin.display(description=_("reading of the source"))
    def shown_reading(self, dataset: Dataset) -> SafeString | str:
        """Where the splits come from, the choices that were made, and the files that were not read."""
        if not dataset.reading:
            return "–"
        view = reading_view(dataset.reading)
        lines = [("", view["split_origin"])] if view["split_origin"] else []
        lines += [(f"{fact['label']}: ", f"{fact['value']} {fact['reason']}".strip()) for fact in view["facts"]]
        lines += [(f"{group['suffix']} × {group['count']}: ", group["reason"]) for group in view["unread"]]
        return format_html_join("", "<p>{}{}</p>", lines) or "–"

    @admin.display(description=_("runs"))
    def runs_link(self, dataset: Dataset) -> SafeString:
        return list_link(TrainingRun, dataset.runs.count(), dataset__id__exact=dataset.pk)

    @admin.display(description=_("tasks"))
    def shown_tasks(self, dataset: Dataset) -> str:
        return ", ".join(dataset.tasks) or "–"

    @admin.display(description=_("format"), ordering="format")
    def shown_format(self, dataset: Dataset) -> str:
        return str(format_label(dataset.format)) if dataset.format else "–"

    @admin.display(description=_("classes"))
    def class_count(self, dataset: Dataset) -> int:
        return len(dataset.classes)

    @admin.display(description=_("size"), ordering="size_bytes")
    def shown_size(self, dataset: Dataset) -> str:
        return filesizeformat(dataset.size_bytes)


def _thumbnails(dataset: Dataset, count: int) -> SafeString | str:
    """The first images of a ready dataset; a dash where there are none to show."""
    if dataset.status != Dataset.Status.READY:
        return "–"
    try:
        images = image_page(dataset, split=None, label=None, offset=0, limit=count).images
    except FileNotFoundError:  # the row exists, its folder does not; the doctor reports it
        return str(_("Its files are missing."))
    cells = [
        (reverse("dataset_image", args=[dataset.pk, sample.path]), THUMBNAIL_PIXELS, sample.path) for sample in images
    ]
    shown = format_html_join("", '<img class="thumbnail" src="{}?size={}" alt="{}" loading="lazy">', cells)
    return format_html('<span class="thumbnails">{}</span>', shown)


@admin.register(Weights)
class WeightsAdmin(ReadOnlyAdmin):
    list_display = (
        "name",
        "version",
        "shown_aliases",
        "task",
        "architecture",
        "owner",
        "visibility",
        "source",
        "run_link",
        "shown_size",
        "created_at",
    )
    list_filter = ("task", "source", "visibility", "team", "owner")
    search_fields = ("name", "note", "architecture", "run_name", "dataset_name", "sha256", "owner__username")
    list_select_related = ("owner", "run")
    date_hierarchy = "created_at"
    readonly_fields = ("page", "shown_aliases", "run_link", "dataset_link", "parent_link", "children_link")
    view_on_site = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        return super().get_queryset(request).prefetch_related("aliases")

    @admin.display(description=_("aliases"))
    def shown_aliases(self, weights: Weights) -> str:
        return ", ".join(each.alias for each in weights.aliases.all()) or "–"

    @admin.display(description=_("page"))
    def page(self, weights: Weights) -> SafeString | str:
        return page_link(weights)

    @admin.display(description=_("run"), ordering="run_name")
    def run_link(self, weights: Weights) -> SafeString | str:
        return admin_link(weights.run) if weights.run else weights.run_name or "–"

    @admin.display(description=_("dataset"))
    def dataset_link(self, weights: Weights) -> SafeString | str:
        return admin_link(weights.dataset) if weights.dataset else weights.dataset_name or "–"

    @admin.display(description=_("started from"))
    def parent_link(self, weights: Weights) -> SafeString | str:
        return admin_link(weights.parent)

    @admin.display(description=_("later versions from it"))
    def children_link(self, weights: Weights) -> SafeString:
        return list_link(Weights, weights.children.count(), parent__id__exact=weights.pk)

    @admin.display(description=_("size"), ordering="size_bytes")
    def shown_size(self, weights: Weights) -> str:
        return filesizeformat(weights.size_bytes)


@admin.register(WeightsAlias)
class WeightsAliasAdmin(ReadOnlyAdmin):
    list_display = ("name", "alias", "weights_link", "moved_at")
    list_filter = ("alias",)
    search_fields = ("name", "alias")
    list_select_related = ("weights",)
    readonly_fields = ("weights_link",)
    date_hierarchy = "moved_at"

    @admin.display(description=_("version"), ordering="weights__version")
    def weights_link(self, alias: WeightsAlias) -> SafeString | str:
        return admin_link(alias.weights)
