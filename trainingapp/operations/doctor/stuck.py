"""Runs that make no progress."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from trainingapp.models import TrainingRun
from trainingapp.models.run import Status
from trainingapp.operations.doctor.finding import Finding, ok
from trainingapp.operations.doctor.health import living_hosts
from trainingapp.runs import verbs as run_verbs
from trainingapp.supervision import recover_run

#: Minutes after which a request that was not carried out is reported.
LONG_MINUTES = 10


def stuck_runs() -> Iterator[Finding]:
    """Running without a heartbeat, queued without a worker, or not ending although that was requested."""
    found = [*_silent(), *_waiting(), *_ending()]
    yield from found or [ok("runs", _("No run is stuck."))]


def _silent() -> Iterator[Finding]:
    for run in TrainingRun.objects.filter(status=Status.RUNNING):
        if run.is_silent:
            message = _("Run %(id)d “%(name)s” is stored as running, but its worker sends no heartbeat.")
            meaning = _("Its worker or its machine is gone. Another worker takes it over automatically within seconds.")
            fix = _("Recover it: store what its trainer still wrote, and queue it again.")
            yield Finding("runs", "error", _named(message, run), meaning, fix, partial(_take_over, run))


def _take_over(run: TrainingRun) -> str:
    recover_run(run)
    run.refresh_from_db()
    return _named(_("Run %(id)d “%(name)s” is now %(status)s."), run)


def _waiting() -> Iterator[Finding]:
    waiting = TrainingRun.objects.filter(status=Status.QUEUED).count()
    if waiting and not living_hosts():
        message = ngettext(
            "%(count)d run is queued, and no worker is running.",
            "%(count)d runs are queued, and no worker is running.",
            waiting,
        ) % {"count": waiting}
        yield Finding("runs", "error", message, _("Start one: manage.py studio, or manage.py run_huey."))


def _ending() -> Iterator[Finding]:
    requested_before = timezone.now() - timedelta(minutes=LONG_MINUTES)
    for run in TrainingRun.objects.filter(status=Status.RUNNING, requested_at__lt=requested_before).exclude(
        requested_action=""
    ):
        if not run.is_silent:
            message = _named(
                _("Run %(id)d “%(name)s” did not end within %(minutes)d minutes of the request."),
                run,
            )
            meaning = _(
                "Its trainer is in a very long step, or hangs. It is terminated automatically after STOP_GRACE_S."
            )
            fix = _("Force it to stop; it can be resumed from its newest checkpoint.")
            yield Finding("runs", "warning", message, meaning, fix, partial(_force, run))


def _force(run: TrainingRun) -> str:
    run_verbs.force_stop_run(run, by="doctor")
    return _named(_("Run %(id)d “%(name)s” is being stopped."), run)


def _named(message: str, run: TrainingRun) -> str:
    return message % {"id": run.pk, "name": run.name, "status": Status(run.status).label, "minutes": LONG_MINUTES}
