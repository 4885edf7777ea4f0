"""Which queued run is next. The database is the queue."""

from datetime import datetime, timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.models import TrainingRun
from trainingapp.models.run import Status, TransitionError

CANDIDATES = 8
#: The longest wait before a retry.
LONGEST_WAIT_S = 600.0


def claim_next(host: str, worker: str) -> TrainingRun | None:
    """Claim the first queued run that this host can take, by priority and then age; None when there is none.

    The claim is a compare-and-set: who loses it to another worker looks again. What fits is a free slot, which the
    caller holds; free devices are to be compared here as soon as runs are given one each.
    """
    while candidates := list(_queue()[:CANDIDATES]):
        for run in candidates:
            if _claim(run, host, worker):
                return run
    return None


def is_waiting() -> bool:
    """Whether any run is queued."""
    return _queue().exists()


def _queue() -> QuerySet[TrainingRun]:
    ripe = Q(not_before=None) | ~Q(not_before__range=_retry_wait())
    return TrainingRun.objects.filter(ripe, status=Status.QUEUED).order_by("-priority", "queued_at", "id")


def _retry_wait() -> tuple[datetime, datetime]:
    """Within: a run still waits before a retry. No wait is longer, so what lies beyond is of a clock that was set."""
    now = timezone.now()
    return now, now + timedelta(seconds=LONGEST_WAIT_S)


def _claim(run: TrainingRun, host: str, worker: str) -> bool:
    attempt = run.attempt + 1
    message = _("Attempt %(attempt)d starts on %(host)s.") % {"attempt": attempt, "host": host}
    try:
        run.transition(
            Status.RUNNING,
            message=message,
            attempt=attempt,
            worker=worker,
            host=host,
            pid=None,
            phase="starting",
            started_at=run.started_at or timezone.now(),
        )
    except (TransitionError, TrainingRun.DoesNotExist):
        return False
    return True
