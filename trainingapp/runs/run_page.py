"""The data of a run's page, for its first rendering and for its stream."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

import numpy as np
from django.contrib.auth.models import AnonymousUser
from django.template.loader import render_to_string
from django.utils.translation import gettext
from pydantic import JsonValue

from trainingapp.accounts.permissions import Verb, can
from trainingapp.accounts.users import AnyUser
from trainingapp.contract.series import Frame, thinned_indices
from trainingapp.contract.system_series import SYSTEM
from trainingapp.contract.tasks.registry import METRICS
from trainingapp.models import Checkpoint, Forecast, JournalEntry, RunEvent, TrainingRun
from trainingapp.models.run import Status
from trainingapp.runs.charts import Chart, Mark, charts_of, marks_of, resumed_label, system_charts
from trainingapp.runs.evaluations import newest_batch
from trainingapp.runs.pause_cost import PauseCost, pause_cost_of
from trainingapp.runs.ranks import Rank, ranks_of
from trainingapp.runs.run_hint import RunHint, hint_of
from trainingapp.runs.series import number, read_series
from trainingapp.runs.verb_record import Placement, RunVerb
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.scheduling.forecast import newest_forecast
from trainingapp.scheduling.scheduler import named_to, why_waiting

#: Types of events that are lines of the log; metrics are points of the charts.
LOG_TYPES = (RunEvent.Type.LOG, RunEvent.Type.STATUS, RunEvent.Type.CHECKPOINT)
#: Newest lines that a page shows at first, and lines that each request for older ones adds.
LOG_LINES = 500
#: Points of one series that a chart gets; longer series are thinned out.
CHART_POINTS = 2000
#: Newest chunks that are searched for what a run has measured.
CHUNKS_SEARCHED = 20

#: The parts of the page's frame, which are replaced as a whole, by the name of their partial: quick ones change with
#: the status and with requests, those of the progress with every step, the others only with a new event. A tab is not
#: among them: the page fetches the one that is open.
QUICK_PARTS = ("header", "pause_cost", "progress")
PROGRESS_PARTS = frozenset({"pause_cost", "progress"})
PARTS = (*QUICK_PARTS, "failure")
#: What an event of each type changes; lines of the log and training points change nothing but the progress.
PARTS_OF_EVENTS: dict[str, frozenset[str]] = {
    RunEvent.Type.STATUS: frozenset(PARTS),
    RunEvent.Type.CHECKPOINT: frozenset({"header"}),
}


#: States in which the page shows what a pause costs, or when the run could continue.
WITH_PAUSE_COST = frozenset({Status.RUNNING, Status.PAUSED})


class Point(TypedDict):
    """A metrics event as the charts take it."""

    seq: int
    step: int | None
    epoch: int | None
    split: str
    #: Unix seconds.
    time: float
    values: dict[str, JsonValue]


@dataclass(frozen=True)
class ShownMetric:
    """A metric for people; a share is shown in per cent."""

    label: str
    is_share: bool
    value: float


class PartContext(TypedDict):
    """What the template of each part gets."""

    run: TrainingRun
    controls: bool
    page: "RunPage"


def part_context(
    run: TrainingRun, *, controls: bool, may: Collection[str] = (), reader: AnyUser | None = None
) -> PartContext:
    """The context of the parts; a queryset is read only by the parts that use it.

    `controls` says whether the reader may control the run, `may` what else (see `further_rights`): they decide which
    buttons are shown. Other runs are named only where the `reader` may see them.
    """
    return {"run": run, "controls": controls, "page": RunPage(run, controls, frozenset(may), reader or AnonymousUser())}


def further_rights(user: AnyUser, run: TrainingRun) -> frozenset[str]:
    """What the user may do with the run besides controlling it."""
    about_it = [verb.value for verb in (Verb.CHANGE, Verb.SHARE, Verb.DELETE) if can(user, verb, run)]
    return frozenset([*about_it, *([Verb.CREATE.value] if can(user, Verb.CREATE) else [])])


def render_parts(
    run: TrainingRun, names: Iterable[str], *, controls: bool, may: Collection[str] = (), reader: AnyUser | None = None
) -> dict[str, str]:
    """HTML of the named parts, in the active language."""
    context = part_context(run, controls=controls, may=may, reader=reader)
    return {name: render_to_string(f"runs/_{name}.html", context) for name in names}


def parts_changed_by(events: Iterable[RunEvent]) -> set[str]:
    """The parts that the events may have changed."""
    changed: set[str] = set()
    for event in events:
        changed |= PARTS_OF_EVENTS.get(event.type, frozenset())
    return changed


def render_log_lines(events: list[RunEvent]) -> str:
    return render_to_string("runs/_log_lines.html", {"events": events})


def log_events(run: TrainingRun, *, before: int) -> list[RunEvent]:
    """The newest LOG_LINES lines of the log below number `before`, oldest first.

    Read type by type, each in the order of its index: one query for all types would sort the whole log.
    """
    rows = run.events.filter(seq__lt=before).order_by("-seq")
    newest = [row for type_ in LOG_TYPES for row in rows.filter(type=type_)[:LOG_LINES]]
    return sorted(newest, key=lambda row: row.seq)[-LOG_LINES:]


@dataclass(frozen=True)
class OfferedVerb:
    """A verb that the page offers for its run, and where the button or the entry leads."""

    verb: RunVerb
    url: str


class RunPage:
    """Facts about a run that need queries; each is read when a template uses it."""

    def __init__(self, run: TrainingRun, controls: bool, may: frozenset[str], reader: AnyUser) -> None:
        self.run = run
        self.reader = reader
        self.controls = controls
        self.may = may

    @cached_property
    def checkpoints(self) -> list[Checkpoint]:
        return list(self.run.checkpoints.all())

    @property
    def best_checkpoint(self) -> Checkpoint | None:
        return next((checkpoint for checkpoint in self.checkpoints if checkpoint.is_best), None)

    @cached_property
    def tags(self) -> list[str]:
        """The tags of the run, sorted."""
        return list(self.run.tags.values_list("name", flat=True))

    def may_rename(self) -> bool:
        return self._may(RUN_VERBS["edit"])

    def primary(self) -> str:
        """The name of the verb that the page suggests; "save" for saving the best checkpoint as a model."""
        if self.run.status == Status.COMPLETED:
            return "save" if self.controls and self.best_checkpoint else ""
        suggested = {"pending": "start", "queued": "pause", "running": "pause"}
        return suggested.get(self.run.status, "resume")

    def images_per_s(self) -> int | None:
        """Speed of the newest training steps."""
        speed = self.run.metrics.get("train/images_per_s")
        return round(speed) if speed else None

    def best_metrics(self) -> list[ShownMetric]:
        """The metrics of the best checkpoint; those of a task that is not installed are not known."""
        found = self.best_checkpoint.metrics.items() if self.best_checkpoint else ()
        return [
            ShownMetric(gettext(METRICS[name].label), METRICS[name].is_share, value)
            for name, value in found
            if name in METRICS
        ]

    def main_charts(self) -> list[Chart]:
        """The loss and the metrics."""
        return [chart for chart in self.charts() if chart["name"] in ("loss", "quality")]

    def charts(self) -> list[Chart]:
        return charts_of(self.run.task, self.run.config)

    def marks(self) -> list[Mark]:
        """What happened to the run, as marks of the charts."""
        return marks_of(self.run)

    def resumed(self) -> str:
        """The mark of an attempt that begins later: the page puts its number in place of the 0."""
        return resumed_label(0)

    def buttons(self) -> list[OfferedVerb]:
        """The verbs that are possible and that the reader may use, as buttons."""
        return self._offered("button")

    def menu(self) -> list[OfferedVerb]:
        """The verbs that are possible and that the reader may use, as entries of the menu."""
        return self._offered("menu")

    def _offered(self, placement: Placement) -> list[OfferedVerb]:
        verbs = [verb for verb in RUN_VERBS if verb.placement == placement and self._may(verb)]
        return [OfferedVerb(verb, verb.url(self.run)) for verb in verbs if verb.is_possible(self.run)]

    def _may(self, verb: RunVerb) -> bool:
        return self.controls if verb.permission == Verb.CONTROL else verb.permission in self.may

    @cached_property
    def can_be_forked(self) -> bool:
        """Whether the reader may create runs, and the run has a valid checkpoint to start from."""
        fork = RUN_VERBS["fork"]
        return self._may(fork) and fork.is_possible(self.run)

    def pause_cost(self) -> PauseCost | None:
        """What pausing would cost; None where there is nothing to pause or to resume."""
        return pause_cost_of(self.run) if self.run.status in WITH_PAUSE_COST else None

    def found(self) -> JournalEntry | None:
        """The newest time that the run was found without its worker."""
        return self.run.journal.first()

    def failure_level(self) -> str:
        """The level of the notice about the newest failure: a run that is retried gives a warning only."""
        return "error" if self.run.status == Status.FAILED else "warning"

    def hint(self) -> RunHint | None:
        """What explains the status below the title."""
        return hint_of(self.run, self.why_waiting() if self.run.is_queued else "", controls=self.controls)

    def why_waiting(self) -> str:
        """What a queued run waits for."""
        return why_waiting(self.run, named_to(self.reader))

    def forecast(self) -> Forecast | None:
        """The newest forecast of the start and the end of a queued run."""
        is_shown = self.run.shown_status == Status.QUEUED and not self.run.waits_until
        return newest_forecast(self.run) if is_shown else None

    def ranks(self) -> list[Rank]:
        """The processes that train the run together; none on one device."""
        return ranks_of(self.run)

    def batch(self) -> RunEvent | None:
        """The event of the newest image of a training batch."""
        return newest_batch(self.run)


def charts_of_machine(run: TrainingRun) -> list[Chart]:
    """What the run has measured of its machine; none where it has measured nothing."""
    summaries = run.series.filter(split=SYSTEM).order_by("-first_seq").values_list("summary", flat=True)
    # Several chunks: a run may have moved from a CPU to a GPU.
    return system_charts({name for summary in summaries[:CHUNKS_SEARCHED] for name in summary})


def metric_point(event: RunEvent) -> Point:
    return {
        "seq": event.seq,
        "step": event.step,
        "epoch": event.epoch,
        "split": event.data.get("split", "train"),
        "time": event.time.timestamp(),
        "values": event.data.get("values", {}),
    }


def chart_points(run: TrainingRun, *, after: int = 0, split: str = "") -> list[Point]:
    """The metrics above number `after` without superseded ones, or the points of `split`, thinned for a chart.

    Each split has CHART_POINTS at most, among them the lowest and the highest loss of each interval, or, where there is
    no loss, of every column: no spike is lost.
    """
    found = []
    for series in read_series(run, after=after, split=split, is_for_chart=True):
        frame = series.frame
        if len(frame) > CHART_POINTS:
            known = [frame.columns["loss"]] if "loss" in frame.columns else list(frame.columns.values())
            columns = [np.nan_to_num(column) for column in known]
            frame = frame.take(thinned_indices(len(frame), columns, CHART_POINTS // (2 * max(1, len(columns))) - 1))
        found += [_point(series.split, frame, index) for index in range(len(frame))]
    return sorted(found, key=lambda point: point["seq"])


def _point(split: str, frame: Frame, index: int) -> Point:
    return {
        "seq": int(frame.seq[index]),
        "step": number(int(frame.step[index])),
        "epoch": number(int(frame.epoch[index])),
        "split": split,
        "time": int(frame.time_us[index]) / 1e6,
        "values": frame.values_at(index),
    }
