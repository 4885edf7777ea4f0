"""What another number of epochs means for a run: the learning rate before and after, and the time."""

from dataclasses import dataclass, replace
from itertools import pairwise

from django.utils.translation import gettext as _

from trainingapp.contract.config import parse_config
from trainingapp.contract.schedule_preview import USUAL_STEPS, Extension, Point, extension
from trainingapp.models import TrainingRun
from trainingapp.runs.evaluation_curves import HISTORY, Plot, plot
from trainingapp.runs.evaluations import CurveLines, Series
from trainingapp.scheduling.forecast import Span, duration, hardware_of_run, read_history, wait_if_queued

ROWS = 12


@dataclass(frozen=True)
class Row:
    """The learning rate at an epoch; None beyond the end, and before the place that was reached."""

    epoch: float
    before: float | None
    after: float | None


@dataclass(frozen=True)
class EpochsPreview:
    """`left_before` and `left_after` are ranges of the remaining seconds of training, None where unknown."""

    epochs: int
    planned: int
    done_epochs: float
    plot: Plot
    rows: list[Row]
    rate_before: float
    rate_after: float
    left_before: Span | None
    left_after: Span | None
    wait: Span | None

    @property
    def is_change(self) -> bool:
        return self.epochs != self.planned

    @property
    def jumps(self) -> bool:
        """Whether the rate changes at once and not only later."""
        return self.is_change and abs(self.rate_after - self.rate_before) > 0.01 * max(
            self.rate_before, self.rate_after
        )


def preview(run: TrainingRun, epochs: int) -> EpochsPreview:
    """The effect of `epochs` total epochs on the run."""
    steps = round(run.total_steps / run.total_epochs) if run.total_steps and run.total_epochs else USUAL_STEPS
    done = run.step / steps if run.total_steps else 0.0
    found = extension(parse_config(run.config), epochs, done_epochs=done, steps_per_epoch=max(1, steps))
    planned = int(run.config["epochs"])
    last = max(epochs, planned)
    count = min(ROWS, last)
    shown = dict.fromkeys(round(last * number / count) for number in range(count + 1))  # evenly, with both ends
    per_epoch = _seconds_per_epoch(run, done)
    wait = None if run.status == run.Status.RUNNING else wait_if_queued(run)
    return EpochsPreview(
        epochs=epochs,
        planned=planned,
        done_epochs=done,
        plot=replace(plot(_curve(found)), y=""),  # the title contains it
        rows=[Row(epoch, rate_at(found.before, epoch), rate_at(found.after, epoch)) for epoch in shown],
        rate_before=found.rate_before,
        rate_after=found.rate_after,
        left_before=_left(per_epoch, planned - done),
        left_after=_left(per_epoch, epochs - done),
        wait=wait if wait is not None and wait.is_known else None,
    )


def _curve(found: Extension) -> CurveLines:
    top = max((rate for _epoch, rate in [*found.before, *found.after]), default=1.0)
    series = [
        Series(label=_("As planned"), points=found.before),
        Series(label=_("With new total"), points=found.after),
        Series(label=_("Now"), points=[(found.at_epoch, 0.0), (found.at_epoch, top)]),
    ]
    return CurveLines(name=f"{HISTORY}lr", title=_("Learning rate"), x=_("Epoch"), y=_("Learning rate"), series=series)


def rate_at(points: list[Point], epoch: float) -> float | None:
    """The rate at an epoch, between two points in proportion; a step beyond the end counts as the end."""
    if not points or not points[0][0] <= epoch <= points[-1][0] + 1 / 2:
        return None
    for (first, low), (second, high) in pairwise(points):
        if first <= epoch <= second:
            return low + (high - low) * (epoch - first) / (second - first)
    return points[-1][1]


def _seconds_per_epoch(run: TrainingRun, done: float) -> Span | None:
    """As the run has shown, else as runs like it have."""
    if run.elapsed_s and done:
        return Span(run.elapsed_s / done, run.elapsed_s / done)
    whole, basis = duration(run, run.dataset, read_history(), hardware_of_run(run))
    left = run.total_epochs * (1 - run.progress)
    return Span(whole.low / left, whole.high / left) if basis and left else None


def _left(per_epoch: Span | None, epochs: float) -> Span | None:
    if per_epoch is None:
        return None
    return Span(per_epoch.low * max(0.0, epochs), per_epoch.high * max(0.0, epochs))
