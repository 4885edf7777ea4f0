"""Sweeps and their trials. They are controlled on their pages."""

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from trainingapp.admin.base import ReadOnlyAdmin
from trainingapp.models import Sweep, Trial
from trainingapp.presentation.badges import status_badge


@admin.register(Sweep)
class SweepAdmin(ReadOnlyAdmin):
    list_display = ("name", "page", "shown_status", "sampler", "pruner", "max_trials", "dataset", "owner", "created_at")
    list_filter = ("status", "sampler", "task", "owner")
    search_fields = ("name", "dataset__name", "owner__username")
    list_select_related = ("dataset", "owner")
    date_hierarchy = "created_at"

    @admin.display(description=_("page"))
    def page(self, sweep: Sweep) -> SafeString:
        return format_html('<a href="{}">#{}</a>', sweep.get_absolute_url(), sweep.pk)

    @admin.display(description=_("status"), ordering="status")
    def shown_status(self, sweep: Sweep) -> SafeString:
        return status_badge(sweep.status)


@admin.register(Trial)
class TrialAdmin(ReadOnlyAdmin):
    list_display = ("sweep", "number", "state", "origin", "value", "run", "created_at")
    list_filter = ("state", "origin")
    search_fields = ("sweep__name", "run__name")
    list_select_related = ("sweep", "run")
