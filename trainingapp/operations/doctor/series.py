"""The stored metrics of runs: whether older ones wait to be converted, and whether their bytes are valid."""

from collections.abc import Iterator

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from trainingapp.contract.series import DamagedSeries, decode
from trainingapp.models import SeriesChunk
from trainingapp.operations.doctor.finding import Finding, ok
from trainingapp.runs.series_migration import conversion

#: Damaged chunks that are named; all are counted.
NAMED = 5


def series(*, full: bool = False) -> Iterator[Finding]:
    """Metrics that are not converted yet; with `full`, every chunk is read."""
    left = conversion().runs_left
    if left:
        message = ngettext(
            "The metrics of %(count)d run are still to be converted.",
            "The metrics of %(count)d runs are still to be converted.",
            left,
        ) % {"count": left}
        meaning = _("A worker does so in the background. To convert them now: manage.py series convert.")
        yield Finding("metrics", "ok", message, meaning)
    damaged = list(_damaged()) if full else []
    if damaged:
        names = ", ".join(damaged[:NAMED])
        message = ngettext(
            "%(count)d chunk of metrics is corrupted: %(names)s",
            "%(count)d chunks of metrics are corrupted: %(names)s",
            len(damaged),
        ) % {"count": len(damaged), "names": names}
        meaning = _("Charts show gaps there. The complete metrics are in events.jsonl of the run, and in backups.")
        yield Finding("metrics", "error", message, meaning)
    elif not left:
        yield ok("metrics", _("All metrics are stored as series."))


def _damaged() -> Iterator[str]:
    for chunk in SeriesChunk.objects.order_by("pk").defer("summary").iterator(chunk_size=50):
        try:
            is_valid = len(decode(chunk.data)) == chunk.count and (not chunk.preview or len(decode(chunk.preview)) > 0)
        except DamagedSeries:
            is_valid = False
        if not is_valid:
            yield str(chunk)
