"""Runs on several hosts: what is stored of the hosts of their attempts."""

from collections.abc import Iterator
from functools import partial

from django.db.models import F, Q
from django.utils.translation import gettext as _

from trainingapp.models import RunShare
from trainingapp.models.run import Status
from trainingapp.operations.doctor import repairs
from trainingapp.operations.doctor.finding import Finding


def orphaned_shares() -> Iterator[Finding]:
    """Shares that are stored as open although their attempt is over: a restored backup may have some."""
    in_progress = Q(run__status=Status.RUNNING, run__attempt=F("attempt"))
    for share in RunShare.objects.filter(ended_at=None).exclude(in_progress).select_related("run"):
        values = {"id": share.run_id, "name": share.run.name, "host": share.host, "attempt": share.attempt}
        message = _("The share of run %(id)d “%(name)s” on %(host)s is stored as open; attempt %(attempt)d is over.")
        meaning = _("A worker ends the processes of such a share by itself. Only the row was left.")
        fix = _("Store that it has ended.")
        yield Finding("runs", "warning", message % values, meaning, fix, partial(repairs.end_share, share.pk))
