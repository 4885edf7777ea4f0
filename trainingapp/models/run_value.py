"""The values of runs that lists sort and filter by, one in each row, so that an index has them in order."""

import math
from collections.abc import Iterable, Iterator, Mapping

from django.db import models
from django.utils.translation import gettext_lazy as _

from trainingapp.models.text import storable

NAME_LENGTH, TEXT_LENGTH = 64, 120
#: The JSON columns of a run whose values are repeated here.
SOURCES = ("config", "metrics")
#: Rows that one statement reads or writes.
BATCH = 500


class RunValue(models.Model):
    """One value of a run's configuration, or the newest value of one of its metrics.

    It repeats what the JSON columns of the run have: those can be read for one run, but neither sorted nor searched by
    index. A number or a switch is in `number`, anything else in `text`. `TrainingRun.save` keeps the rows in step.
    """

    #: Without an index of its own: the constraint begins with it.
    run = models.ForeignKey("TrainingRun", models.CASCADE, related_name="values", db_index=False, verbose_name=_("run"))
    #: Of a field (weight_decay) or of a metric with its split (val/top1).
    name = models.CharField(_("name"), max_length=NAME_LENGTH)
    number = models.FloatField(_("number"), null=True)
    text = models.CharField(_("text"), max_length=TEXT_LENGTH, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="value_of_run")]
        indexes = [models.Index(fields=["name", "number", "run", "text"], name="value_by_number")]
        verbose_name = _("value of a run")
        verbose_name_plural = _("values of runs")

    def __str__(self) -> str:
        return f"{self.run_id} {self.name}"


def store_values(runs: Iterable[models.Model], sources: Iterable[str] = SOURCES) -> None:
    """Make the rows of the runs agree with these of their JSON columns; rows that agree already are not written.

    `runs` are TrainingRun, whose module imports this one. The caller holds a transaction.
    """
    runs, sources = list(runs), tuple(sources)
    wanted = {
        (run.pk, name): value for run in runs for source in sources for name, value in _values(getattr(run, source))
    }
    found = RunValue.objects.filter(run__in=[run.pk for run in runs])
    if len(sources) == 1:
        is_metric = models.Q(name__contains="/")
        found = found.filter(is_metric if sources == ("metrics",) else ~is_metric)
    rows = found.values_list("pk", "run_id", "name", "number", "text")
    stored = {(run, name): (pk, (number, text)) for pk, run, name, number, text in rows}
    if gone := [pk for key, (pk, _value) in stored.items() if key not in wanted]:
        RunValue.objects.filter(pk__in=gone).delete()
    changed = [
        RunValue(run_id=run, name=name, number=value[0], text=value[1])
        for (run, name), value in wanted.items()
        if (run, name) not in stored or stored[run, name][1] != value
    ]
    if changed:
        RunValue.objects.bulk_create(
            changed,
            batch_size=BATCH,
            update_conflicts=True,
            unique_fields=["run", "name"],
            update_fields=["number", "text"],
        )


def _values(given: Mapping[str, object]) -> Iterator[tuple[str, tuple[float | None, str]]]:
    """The number and the text of each value by its name. Of the metrics of training, lists have the loss alone."""
    for name, value in given.items():
        if len(name) > NAME_LENGTH or (name.startswith("train/") and name != "train/loss"):
            continue
        if isinstance(value, int | float) and math.isfinite(value):  # a switch too: 0 or 1
            yield name, (float(value), "")
        elif isinstance(value, str):
            yield name, (None, storable(value)[:TEXT_LENGTH])
