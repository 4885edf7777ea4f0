"""Runs that make no progress."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from trainingapp.models import TrainingRun
from trainingapp.models.run import Status
from trainingapp.operations.doctor import repairs
from trainingapp.operations.doctor.finding import Finding, ok
from trainingapp.operations.doctor.health import living_hosts
from trainingapp.operations.doctor.shares import orphaned_shares

#: Minutes after which a request that was not carried out is reported.
LONG_MINUTES = 10


def stuck_runs() -> Iterator[Finding]:
    """Running without a heartbeat, queued without a worker, or not ending although that was requested."""
    found = [*_running_without_progress(), *orphaned_shares()]
    waiting = TrainingRun.objects.filter(status=Status.QUEUED).count()
    if waiting and not living_hosts():
        message = ngettext(
            "%(count)d run is queued, and no worker is running.",
            "%(count)d runs are queued, and no worker is running.",
            waiting,
        ) % {"count": waiting}
        found.append(Finding("runs", "error", message, _("Start one: manage.py studio, or manage.py run_huey.")))
    yield from found or [ok("runs", _("No run is stuck."))]


def _running_without_progress() -> Iterator[Finding]:
    requested_before = timezone.now() - timedelta(minutes=LONG_MINUTES)
    for run in TrainingRun.objects.filter(status=Status.RUNNING):
        values = {"id": run.pk, "name": run.name, "minutes": LONG_MINUTES}
        if run.is_silent:
            message = _("Run %(id)d “%(name)s” is stored as running, but its worker sends no heartbeat.") % values
            meaning = _("Its worker or its machine is gone. Another worker takes it over automatically within seconds.")
            fix = _("Recover it: store what its trainer still wrote, and queue it again.")
            yield Finding("runs", "error", message, meaning, fix, partial(repairs.recover, run))
        elif run.requested_action and run.requested_at and run.requested_at < requested_before:
            message = _("Run %(id)d “%(name)s” did not end within %(minutes)d minutes of the request.") % values
            meaning = _(
                "Its trainer is in a very long step, or hangs. It is terminated automatically after STOP_GRACE_S."
            )
            fix = _("Force it to stop; it can be resumed from its newest checkpoint.")
            yield Finding("runs", "warning", message, meaning, fix, partial(repairs.force_stop, run))
