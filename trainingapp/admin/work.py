"""Jobs, and the rules for failures."""

import re
from typing import TYPE_CHECKING

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from trainingapp.admin.base import RecordedAdmin, StudioAdmin, verb_action
from trainingapp.jobs import verbs as job_verbs
from trainingapp.models import FailureRule, Job
from trainingapp.presentation.badges import status_badge
from trainingapp.supervision.failures import BY_CLASS, PATTERNS

if TYPE_CHECKING:
    RuleModelForm = forms.ModelForm[FailureRule]
else:
    RuleModelForm = forms.ModelForm

#: State of a job -> the badge that looks like it.
BADGES = {"waiting": "queued", "working": "running", "done": "completed", "failed": "failed", "cancelled": "stopped"}


@admin.register(Job)
class JobAdmin(StudioAdmin):
    list_display = ("id", "kind", "shown_state", "owner", "done", "total", "tries", "worker", "created_at")
    list_filter = ("kind", "state", "owner")
    search_fields = ("id", "owner__username", "message", "worker")
    list_select_related = ("owner",)
    date_hierarchy = "created_at"
    actions = (
        verb_action(
            "cancel",
            _("Cancel"),
            _("These jobs are cancelled. Jobs that have ended are not changed."),
            _("“%(name)s” was cancelled."),
            lambda job, *, user: job_verbs.cancel_job(job),
        ),
    )

    @admin.display(description=_("state"), ordering="state")
    def shown_state(self, job: Job) -> SafeString:
        return status_badge(BADGES[job.state])


class RuleForm(RuleModelForm):
    """Checks the pattern: one that cannot be compiled would break the classification of every failure."""

    class Meta:
        model = FailureRule
        fields = "__all__"

    def clean_pattern(self) -> str:
        pattern: str = self.cleaned_data["pattern"]
        try:
            is_everywhere = re.compile(pattern).search("")
        except re.error as error:
            raise forms.ValidationError(_("This is not a regular expression: %(error)s.") % {"error": error}) from None
        if is_everywhere:
            raise forms.ValidationError(_("This pattern matches an empty line, so it would match every failure."))
        return pattern


@admin.register(FailureRule)
class FailureRuleAdmin(RecordedAdmin):
    form = RuleForm  # type: ignore[assignment]  # ModelForm is invariant in its model
    list_display = ("name", "order", "is_enabled", "error_class", "action", "max_retries", "wait_s", "pattern")
    list_filter = ("is_enabled", "action", "error_class")
    search_fields = ("name", "pattern", "error_class", "advice")
    change_list_template = "admin/failure_rules.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
        """The administrators' rules, which are tried first, and the built-in ones below."""
        patterns: dict[str, list[str]] = {}
        for pattern, name in PATTERNS:
            patterns.setdefault(name, []).append(pattern)
        built_in = [
            {"rule": rule, "action": FailureRule.Action(rule.action).label, "patterns": patterns.get(name, [])}
            for name, rule in BY_CLASS.items()
        ]
        return super().changelist_view(request, {"built_in": built_in, **(extra_context or {})})
