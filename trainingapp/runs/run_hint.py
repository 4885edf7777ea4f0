"""The one line below the title of a run that explains its status."""

from dataclasses import dataclass

from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from trainingapp.models import TrainingRun
from trainingapp.models.run import RequestedAction
from trainingapp.presentation.times import duration


@dataclass(frozen=True)
class RunHint:
    """A text, as a notice of `level` or plain where that is empty, with an optional link."""

    text: str
    level: str = ""
    url: str = ""
    link: str = ""


def hint_of(run: TrainingRun, why_waiting: str, *, controls: bool) -> RunHint | None:
    """The hint for the status of the run: what is unusual first; None where the status needs no explanation."""
    status = run.shown_status
    if run.is_archived:
        return RunHint(_("This run is archived. Restore it to start it or to resume it."))
    if status == "silent":
        return RunHint(_silence(run), "warning")
    if run.waits_until:
        time = date_format(timezone.localtime(run.waits_until), "H:i:s")
        return RunHint(_("Automatic retry at %(time)s.") % {"time": time})
    if status == "queued":
        return RunHint(why_waiting, url=f"{reverse('queue')}#queued-{run.pk}", link=_("Show queue"))
    if status == "stopping" and run.requested_action == RequestedAction.KILL:
        return RunHint(
            _("The trainer is being killed. Steps since the newest checkpoint are repeated when the run is resumed.")
        )
    if run.is_quiet:
        text = _("The trainer is running but has not reported for %(quiet)s.") % {"quiet": duration(run.quiet_s)}
        return RunHint(text, "warning")
    if run.is_unanswered:
        text = _("The trainer has not responded yet; it finishes the current step first. You can force it to stop.")
        url = reverse("run_force_stop", args=[run.pk]) if controls else ""
        return RunHint(text, url=url, link=_("Force stop"))
    if status in ("pausing", "stopping"):
        return RunHint(_("Saving a checkpoint at the next step, then releasing the device."))
    return None


def _silence(run: TrainingRun) -> str:
    if run.heartbeat_at is None:
        return _("No contact with the worker. The run resumes automatically as soon as a worker is available.")
    since = date_format(timezone.localtime(run.heartbeat_at), "DATETIME_FORMAT")
    return _(
        "No contact with the worker since %(since)s. "
        "The run resumes automatically from its newest checkpoint as soon as a worker is available."
    ) % {"since": since}
