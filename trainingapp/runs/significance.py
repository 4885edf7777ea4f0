"""Whether a difference between runs means something: repeats with other seeds, and intervals over validation images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import mean, stdev
from typing import Literal

import numpy as np
from django.core.cache import cache
from django.utils.translation import gettext as _

from trainingapp.contract.config import config_fields
from trainingapp.contract.evaluation import image_results_path
from trainingapp.contract.image_results import MOST_VALUES, ImageResultsError, StoredResults, read_image_results
from trainingapp.contract.number_text import number_text
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import Job, TrainingRun
from trainingapp.presentation.labels import metric_label
from trainingapp.presentation.numbers import metric as metric_text
from trainingapp.runs.comparison import ComparedRun, Comparison, MetricColumn
from trainingapp.runs.evaluations import Evaluated, EvaluationError, metric_of, of_epoch, read, validations_of
from trainingapp.runs.resampling import RESAMPLES, Interval, WeightedMetric, differences, weighted_metric

#: Numbers that one page may touch to compute intervals, up to 40 ns each; with more, draws are left out.
MOST_WORK = 100_000_000
LEAST_RESAMPLES = 200
CACHED_S = 24 * 3600
#: Reported and recomputed values may differ so much: the trainer sums in other orders.
TOLERANCE = 1e-3


class NoInterval(ValueError):
    """There is no interval; the message is the reason."""


class TooLong(NoInterval):
    """The intervals take longer than a page may, and no job has computed them yet."""


@dataclass(frozen=True)
class ImagesOfRun:
    """The results of all images of one validation of a run, with the names of its classes."""

    run: TrainingRun
    epoch: int
    stored: StoredResults
    classes: list[str]


@dataclass(frozen=True)
class IntervalRow:
    """A run against the baseline: the interval and what it says, or why there is none."""

    item: ComparedRun
    interval: Interval | None
    verdict: Literal["better", "worse", "same"]
    text: str


@dataclass(frozen=True)
class RepeatedMetric:
    """Mean and sample standard deviation of a metric over repeats, as texts."""

    label: str
    mean: str
    deviation: str


@dataclass(frozen=True)
class Repeats:
    """Runs of one configuration with other seeds; at least two."""

    items: list[ComparedRun]
    metrics: list[RepeatedMetric]


@dataclass(frozen=True)
class Significance:
    """What a page says about the differences of a comparison.

    `problem`: why no run has an interval; with `is_too_long`, a job can compute them. `key` names the intervals and
    changes with the runs and their validations.
    """

    metric: str
    rows: list[IntervalRow]
    repeats: list[Repeats]
    problem: str = ""
    is_too_long: bool = False
    key: str = ""

    @property
    def interval(self) -> Interval | None:
        """Any of the intervals: images and resamples are the same for all."""
        return next((row.interval for row in self.rows if row.interval), None)


def significance(comparison: Comparison, on_draw: Callable[[int], None] | None = None) -> Significance:
    """The intervals of the baseline's model-selection metric, and the repeats.

    No more than MOST_WORK is done, for a page; intervals that take longer are those that a job has computed, if one
    has. With `on_draw`, which is called with the number of draws so far, RESAMPLES are drawn however long they take.
    """
    name = str(comparison.base.run.config.get("best_metric", ""))
    repeats = repeated(comparison)
    others = [item for item in comparison.shown if not item.is_base]
    try:
        base = _measured(comparison.base, name, None)
    except NoInterval as error:
        text = _("No intervals: the baseline has no results to compare with. %(reason)s")
        return Significance(str(metric_label(name)), [], repeats, text % {"reason": error})
    measured: dict[int, _Measured] = {}
    problems: dict[int, str] = {}
    for item in others:
        try:
            measured[item.run.pk] = _measured(item, name, base)
        except NoInterval as error:
            problems[item.run.pk] = str(error)
    key = ":".join(["intervals", name, base.key, *(one.key for one in measured.values())])
    try:
        intervals = dict(zip(measured, _intervals(key, [base, *measured.values()], on_draw), strict=True))
    except TooLong as error:
        return Significance(str(metric_label(name)), [], repeats, str(error), is_too_long=True, key=key)
    rows = [_row(item, comparison.base, name, intervals.get(item.run.pk), problems) for item in others]
    return Significance(str(metric_label(name)), rows, repeats, key=key)


def _row(
    item: ComparedRun, base: ComparedRun, name: str, interval: Interval | None, problems: dict[int, str]
) -> IntervalRow:
    if interval is None:
        return IntervalRow(item, None, "same", problems[item.run.pk])
    # From here on more is better: a loss changes its sign.
    sign = 1 if metric_of(name).higher_is_better else -1
    low, high = sorted((sign * interval.low, sign * interval.high))
    gain = sign * interval.difference
    facts = {"name": item.run.name, "base": base.run.name}
    if not interval.is_clear:
        text = _("%(name)s: no clear difference from %(base)s (%(difference)s, 95 %% interval %(low)s to %(high)s).")
        facts |= {"difference": _amount(gain, name, signed=True)}
    elif gain > 0:
        text = _("%(name)s is better than %(base)s by %(difference)s, 95 %% interval %(low)s to %(high)s.")
        facts |= {"difference": _amount(gain, name)}
    else:
        text = _("%(name)s is worse than %(base)s by %(difference)s, 95 %% interval %(low)s to %(high)s.")
        low, high = -high, -low
        facts |= {"difference": _amount(-gain, name)}
    facts |= {"low": _number(low, name), "high": _number(high, name)}
    verdict: Literal["better", "worse", "same"] = "same"
    if interval.is_clear:
        verdict = "better" if gain > 0 else "worse"
    return IntervalRow(item, interval, verdict, text % facts)


def _number(value: float, name: str) -> str:
    return f"{value * 100:.1f}" if metric_of(name).is_share else number_text(value, digits=3)


def _amount(value: float, name: str, *, signed: bool = False) -> str:
    text = ("+" if signed and value >= 0 else "") + _number(value, name)
    return _("%(number)s percentage points") % {"number": text} if metric_of(name).is_share else text


@dataclass(frozen=True)
class _Measured:
    """A metric of the images of a validation. `key` changes with the validation."""

    images: ImagesOfRun
    metric: WeightedMetric
    key: str


def _measured(item: ComparedRun, name: str, base: _Measured | None) -> _Measured:
    """Raises NoInterval."""
    if item.validation is None:
        raise NoInterval(_("The run has no validation yet."))
    images = images_of(item.run, item.validation)
    if base is not None:
        require_same_images(base.images, images)
    weighted = weighted_metric(images.stored.results, name, len(images.classes))
    if weighted is None:
        text = _("An interval of %(metric)s cannot be computed from the results of single images.")
        raise NoInterval(text % {"metric": metric_label(name)})
    count = images.stored.results.count
    if count < 2:
        raise NoInterval(_("The validation split has fewer than two images."))
    reported = item.validation.values.get(name)
    value = weighted.value(np.ones(count, dtype=np.int64))
    if reported is None or abs(value - reported) > TOLERANCE * max(1.0, abs(reported)):
        text = _("The results of single images do not give the reported %(metric)s.")
        raise NoInterval(text % {"metric": metric_label(name)})
    path = image_results_path(item.run.folder, images.epoch)
    return _Measured(images, weighted, f"{item.run.pk}-{images.epoch}-{path.stat().st_mtime_ns:x}")


def _intervals(key: str, measured: Sequence[_Measured], on_draw: Callable[[int], None] | None) -> list[Interval]:
    """Raises TooLong."""
    metrics, count = [one.metric for one in measured], measured[0].images.stored.results.count
    if len(measured) < 2:
        return []
    if on_draw:
        return differences(metrics, count, on_draw=on_draw)
    resamples = min(RESAMPLES, MOST_WORK // sum(metric.work + count for metric in metrics))
    if resamples < LEAST_RESAMPLES:
        return _computed_by_a_job(key)
    found: list[Interval] | None = cache.get(f"{key}:{resamples}")
    if found is None:
        found = differences(metrics, count, resamples=resamples)
        cache.set(f"{key}:{resamples}", found, CACHED_S)
    return found


def _computed_by_a_job(key: str) -> list[Interval]:
    job = Job.objects.filter(kind=Job.Kind.INTERVALS, state=Job.State.DONE, result__key=key).first()
    if job is None:
        text = _(
            "The validations have too many results for a page. A job computes the intervals without a limit of time; "
            "so does “manage.py compare_runs --intervals”."
        )
        raise TooLong(text)
    return [Interval(**row) for row in job.result["intervals"]]


def images_of(run: TrainingRun, validation: Evaluated) -> ImagesOfRun:
    """The results of all images of a validation of the run. Raises NoInterval with the reason where there are none."""
    path = image_results_path(run.folder, validation.epoch)
    try:
        stored, classes = _stored(path, path.stat().st_mtime_ns), read(run, validation.epoch).classes
    except FileNotFoundError:
        text = _(
            "The validation of epoch %(epoch)s stored no results of single images. Runs that an earlier version "
            "validated have none, nor have validations of more than %(most)s values."
        )
        raise NoInterval(text % {"epoch": validation.epoch, "most": f"{MOST_VALUES:,}"}) from None
    except (ImageResultsError, OSError):
        text = _("The file of the results of single images of epoch %(epoch)s is corrupted.")
        raise NoInterval(text % {"epoch": validation.epoch}) from None
    except EvaluationError as error:
        raise NoInterval(str(error)) from None
    if stored.step != validation.step:
        text = _("The results of single images of epoch %(epoch)s belong to another validation.")
        raise NoInterval(text % {"epoch": validation.epoch})
    return ImagesOfRun(run, validation.epoch, stored, classes)


def images_of_epoch(run: TrainingRun, epoch: int | None) -> ImagesOfRun:
    """The results of all images of an epoch, by default of the best one, or of the newest. Raises NoInterval."""
    validation = validations_of([run], best=True).get(run.pk) if epoch is None else of_epoch(run, epoch)
    if validation is None:
        raise NoInterval(_("The run has no validation yet.") if epoch is None else _("This epoch has no evaluation."))
    return images_of(run, validation)


@lru_cache(maxsize=4)
def _stored(path: Path, mtime_ns: int) -> StoredResults:
    """A few are kept for the next page of images: each may take 60 MB."""
    return read_image_results(path)


def epochs_with_images(run: TrainingRun) -> list[int]:
    """The epochs with a file of the results of single images, in order."""
    names = (path.stem.removeprefix("epoch_") for path in image_results_path(run.folder, 0).parent.glob("epoch_*.npz"))
    return sorted(int(name) for name in names if name.isdecimal())


def require_same_images(one: ImagesOfRun, other: ImagesOfRun) -> None:
    """Raises NoInterval unless both validations have the same images, classes and ground truth."""
    first, second = one.stored.results, other.stored.results
    if one.stored.paths != other.stored.paths or first.count != second.count:
        if _fold_of(one.run) != _fold_of(other.run):
            raise NoInterval(_("The run validates on another fold of the dataset than the baseline."))
        raise NoInterval(_("The validation images are not those of the baseline."))
    if one.classes != other.classes or first.kind != second.kind:
        raise NoInterval(_("The classes are not those of the baseline."))
    truths = [name for name in first.arrays if name.startswith("truth")]
    if not all(np.array_equal(first.arrays[name], second.arrays[name]) for name in truths):
        raise NoInterval(_("The ground truth of the validation images is not that of the baseline."))


def _fold_of(run: TrainingRun) -> tuple[object, object]:
    return run.config.get("folds", 0), run.config.get("fold", 0)


def repeated(comparison: Comparison) -> list[Repeats]:
    """The groups of at least two runs that differ in nothing that changes the result but the seed."""
    if comparison.task not in TASKS:
        return []
    groups: dict[tuple[object, ...], list[ComparedRun]] = {}
    for item in comparison.shown:
        groups.setdefault(_config_key(item.run), []).append(item)
    found = []
    for items in groups.values():
        seeds = {item.run.config.get("seed") for item in items}
        if len(seeds) == len(items) > 1:
            metrics = [_repeated_metric(column, items) for column in comparison.columns]
            found.append(Repeats(items, [one for one in metrics if one]))
    return found


def _config_key(run: TrainingRun) -> tuple[object, ...]:
    fields = config_fields(run.task).values()
    values = [
        (field.name, str(run.config.get(field.name, field.default)))
        for field in fields
        if field.setting.changes_result and field.name != "seed" and field.setting.has_effect(run.config)
    ]
    return (run.dataset_id, run.forked_checkpoint, *values)


def _repeated_metric(column: MetricColumn, items: Sequence[ComparedRun]) -> RepeatedMetric | None:
    values = [
        item.validation.values[column.name]
        for item in items
        if item.validation and column.name in item.validation.values
    ]
    if len(values) < 2:
        return None
    deviation = stdev(values)
    text = f"{deviation * 100:.1f}" if column.is_share else number_text(deviation, digits=3)
    return RepeatedMetric(column.label, metric_text(mean(values), column.name), text)


def markdown_of(found: Significance) -> str:
    """The intervals as a list in Markdown, in the active language."""
    lines = ["## " + _("Differences over the validation images"), ""]
    texts = [row.text if row.interval else f"{row.item.run.name}: {row.text}" for row in found.rows]
    lines += [f"- {text}" for text in ([found.problem] if found.problem else texts)]
    return "\n".join(lines) + "\n"
