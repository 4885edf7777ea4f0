"""The checkpoints of a run: what stays, what goes, and what that frees."""

from collections.abc import Mapping

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_POST

from trainingapp.accounts.permissions import Verb, can
from trainingapp.contract.limits import MAX_EPOCHS, MAX_KEPT_CHECKPOINTS, MAX_KEPT_DAYS, MAX_KEPT_GB
from trainingapp.contract.retention import Policy
from trainingapp.models import Checkpoint, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs
from trainingapp.views.access import controlled_run, visible_run
from trainingapp.views.run_control import context_of
from trainingapp.views.run_tabs import render_tab, wants_part

#: What was done, by the verb in the address.
DONE = {
    "pin": gettext_lazy("%(file)s is pinned."),
    "unpin": gettext_lazy("%(file)s is no longer pinned."),
    "verify": gettext_lazy("%(file)s is valid: all hashes match."),
}


class PolicyForm(forms.Form):
    """What of a run's checkpoints stays."""

    last = forms.IntegerField(label=gettext_lazy("Newest"), min_value=0, max_value=MAX_KEPT_CHECKPOINTS)
    best = forms.IntegerField(label=gettext_lazy("Best"), min_value=1, max_value=MAX_KEPT_CHECKPOINTS)
    every_epochs = forms.IntegerField(label=gettext_lazy("Every N epochs"), min_value=0, max_value=MAX_EPOCHS)
    days = forms.FloatField(label=gettext_lazy("Maximum age (days)"), min_value=0, max_value=MAX_KEPT_DAYS)
    gb = forms.FloatField(label=gettext_lazy("Maximum total size (GB)"), min_value=0, max_value=MAX_KEPT_GB)

    def __init__(self, data: Mapping[str, object], policy: Policy) -> None:
        given = {name: value for name, value in data.items() if name in self.base_fields}
        kept = {name: int(value) if value == int(value) else value for name, value in vars(policy).items()}
        super().__init__({**kept, **given})
        for field in self.fields.values():
            field.widget.attrs["class"] = "form-control"

    def policy(self) -> Policy:
        return Policy(**self.cleaned_data)


@require_http_methods(["GET", "HEAD", "POST"])
def run_checkpoints(request: HttpRequest, pk: int) -> HttpResponse:
    """All checkpoints, and what a policy would delete; POST deletes that, or the ones that were ticked."""
    if request.method == "POST":
        return _change(request, controlled_run(request, pk, Verb.DELETE))
    run = visible_run(request, pk)
    form = PolicyForm(request.GET, run_verbs.checkpoint_policy(run))
    context = {"form": form, "deletes": can(request.user, Verb.DELETE, run), **_preview(run, form)}
    context["is_preview"] = bool(request.GET.keys() & form.fields.keys())
    if wants_part(request, "clean-up"):
        return render(request, "runs/_clean_up.html", context_of(request, run) | context)
    return render_tab(request, run, "checkpoints", context)


def _preview(run: TrainingRun, form: PolicyForm) -> dict[str, object]:
    """What the policy of the form would do, or why it is unknown."""
    rows = list(run.checkpoints.all())
    if not form.is_valid():
        return {"rows": rows, "problem": ""}
    try:
        plan = run_verbs.plan_clean_up(run, form.policy())
    except VerbError as error:
        return {"rows": rows, "problem": str(error)}
    for row in rows:
        row.reasons = plan.choice.kept.get(row.file, [])  # type: ignore[attr-defined]
        row.goes = row.file in plan.choice.removed  # type: ignore[attr-defined]
    return {"rows": rows, "plan": plan, "going": ",".join(plan.choice.removed)}


def _change(request: HttpRequest, run: TrainingRun) -> HttpResponse:
    """Ask first, with the exact files and bytes; what was confirmed is what is deleted."""
    files = [name for name in request.POST.get("files", "").split(",") if name] or request.POST.getlist("file")
    if not files:
        messages.info(request, _("No checkpoints were selected; nothing was deleted."))
        return redirect("run_checkpoints", run.pk)
    try:
        if "confirmed" not in request.POST:
            removal = run_verbs.checkpoints_deletion(run, files)
            context = {"run": run, "files": files, "joined": ",".join(files), "removal": removal, "section": "runs"}
            return render(request, "runs/checkpoints_delete.html", context)
        removal = run_verbs.delete_checkpoints(run, files, by=request.user.get_username())
    except VerbError as error:
        messages.error(request, str(error))
        return redirect("run_checkpoints", run.pk)
    text = ngettext(
        "%(count)d checkpoint deleted, %(size)s freed.",
        "%(count)d checkpoints deleted, %(size)s freed.",
        len(files),
    )
    messages.success(request, text % {"count": len(files), "size": filesizeformat(removal.freed_bytes)})
    return redirect("run_checkpoints", run.pk)


@require_POST
def checkpoint_control(request: HttpRequest, pk: int, file: str, verb: str) -> HttpResponse:
    """Pin or unpin a checkpoint, or compare it with its hashes."""
    run = controlled_run(request, pk)
    checkpoint = get_object_or_404(Checkpoint.objects.select_related("run"), run=run, file=file)
    try:
        if verb == "verify":
            if wrong := run_verbs.verify_checkpoint(checkpoint):
                raise VerbError(f"{checkpoint.file} {wrong}.")
        else:
            run_verbs.pin_checkpoint(checkpoint, is_pinned=verb == "pin")
        messages.success(request, DONE[verb] % {"file": checkpoint.file})
    except VerbError as error:
        messages.error(request, str(error))
    return redirect("run_checkpoints", run.pk)
