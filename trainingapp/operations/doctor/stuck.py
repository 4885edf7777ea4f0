"""Runs that do not move."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.models import TrainingRun
from trainingapp.models.run import Status
from trainingapp.operations.doctor.finding import Finding, ok
from trainingapp.operations.doctor.health import living_hosts
from trainingapp.runs import verbs as run_verbs
from trainingapp.supervision import recover_run

#: Minutes that a wish may take before somebody should look.
LONG_MINUTES = 10


def stuck_runs() -> Iterator[Finding]:
    """Running without a heartbeat, waiting without a worker, ending for long."""
    found = [*_silent(), *_waiting(), *_ending()]
    yield from found or [ok("runs", _("No run is stuck."))]


def _silent() -> Iterator[Finding]:
    for run in TrainingRun.objects.filter(status=Status.RUNNING):
        if run.is_silent:
            message = _("Run %(id)d “%(name)s” is running by its row, but its worker is silent.")
            meaning = _("Its worker or its machine is gone. A living worker takes it over by itself within seconds.")
            fix = _("Take it over: store what its trainer still wrote, and queue it again.")
            yield Finding("runs", "error", _named(message, run), meaning, fix, partial(_take_over, run))


def _take_over(run: TrainingRun) -> str:
    recover_run(run)
    run.refresh_from_db()
    return _named(_("Run %(id)d “%(name)s” is now %(status)s."), run)


def _waiting() -> Iterator[Finding]:
    waiting = TrainingRun.objects.filter(status=Status.QUEUED).count()
    if waiting and not living_hosts():
        message = _("%(count)d runs wait, and no worker has been heard of.") % {"count": waiting}
        yield Finding("runs", "error", message, _("Start one: manage.py studio, or manage.py run_huey."))


def _ending() -> Iterator[Finding]:
    asked_before = timezone.now() - timedelta(minutes=LONG_MINUTES)
    for run in TrainingRun.objects.filter(status=Status.RUNNING, requested_at__lt=asked_before).exclude(
        requested_action=""
    ):
        if not run.is_silent:
            message = _named(_("Run %(id)d “%(name)s” was asked to end long ago and still runs."), run)
            meaning = _("Its trainer is in a very long step, or hangs. STOP_GRACE_S says when it is ended by itself.")
            fix = _("Stop it by force; it can be resumed from its newest checkpoint.")
            yield Finding("runs", "warning", message, meaning, fix, partial(_force, run))


def _force(run: TrainingRun) -> str:
    run_verbs.force_stop_run(run, by="doctor")
    return _named(_("Run %(id)d “%(name)s” is being ended."), run)


def _named(message: str, run: TrainingRun) -> str:
    return message % {"id": run.pk, "name": run.name, "status": Status(run.status).label}
