"""When a queued run will start and finish, as a range, estimated from similar finished runs.

The queue is simulated twice with the scheduler's own rules: once with every run as fast as its history allows, once
with every run as slow. What cannot be estimated stays unknown: a run without any history has no finish, and a run that
waits for it has no start.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import NamedTuple, TypedDict

from django.db.models import Count, F, QuerySet
from django.utils import timezone

from trainingapp.models import Dataset, Device, DeviceHold, Forecast, TrainingRun
from trainingapp.models.run import Status
from trainingapp.scheduling.placement import (
    ClusterState,
    DeviceSlot,
    Request,
    Waiting,
    in_turn,
    queued_runs,
    read_cluster,
    read_queue,
)

#: Finished runs that estimates use, and queued runs that are forecast: later ones start too late for an estimate.
HISTORY = 300
FORECAST_RUNS = 200
#: What makes two runs similar, from the narrowest class to the widest, and the factor by which the range of measured
#: speeds is widened. Without the number of GPUs, they are taken to share the work evenly.
CLASSES: tuple[tuple[tuple[str, ...], float], ...] = (
    (("task", "model", "dataset", "image_size", "kind", "gpu", "amp", "devices"), 1.1),
    (("task", "model", "image_size", "kind", "gpu", "amp", "devices"), 1.25),
    (("task", "model", "kind", "gpu"), 1.6),
    (("task", "model", "kind"), 2.0),
    (("task", "kind"), 2.5),
)
#: Factor by which a running trainer's own estimate may be wrong, and the least error that is assumed, in seconds.
ETA_SPREAD = 1.2
LEAST_ERROR_S = 10.0
#: Completed runs from which the accuracy of past forecasts is calculated.
JUDGED = 20
UNKNOWN = math.inf


@dataclass(frozen=True)
class Span:
    """A range of seconds; infinite where there is no estimate."""

    low: float
    high: float

    @property
    def is_known(self) -> bool:
        return math.isfinite(self.high)


class Hardware(NamedTuple):
    """What a run trains on: cpu or gpu, the name of the GPU and the number of GPUs.

    The slots of a CPU are not counted: they share its cores, and a run with more of them is not faster by that.
    """

    kind: str
    gpu: str = ""
    devices: int = 1

    @classmethod
    def of(cls, device: str, devices: int = 1) -> "Hardware":
        """That of the stored device of a run, such as "cpu" or "cuda:0 (NVIDIA H100)"; `devices` counts its GPUs."""
        if not device.startswith("cuda"):
            return cls("cpu")
        return cls("gpu", device.partition(" (")[2].removesuffix(")"), devices)


@dataclass(frozen=True)
class Expected:
    """The forecast of one queued run; None where there is no estimate. `basis` is the number of runs that it uses."""

    start_earliest: datetime | None = None
    start_latest: datetime | None = None
    finish_earliest: datetime | None = None
    finish_latest: datetime | None = None
    basis: int = 0


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of past forecasts.

    `within` of `count` runs finished in their range; `error_s` is the median distance to its middle.
    """

    count: int
    within: int
    error_s: float


# Estimating durations


class Traits(TypedDict):
    """By what two runs are similar; see CLASSES."""

    task: str
    model: object
    dataset: int
    image_size: object
    #: A configuration that is older than the field trained without it.
    amp: str
    kind: str
    gpu: str
    devices: int


@dataclass
class History:
    """Seconds per image and epoch of finished runs, by the classes of similar runs: those of all GPUs of the run
    together in classes with their number, else those of one GPU."""

    rates: dict[tuple[str, ...], dict[tuple[object, ...], list[float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, examples: Iterable[tuple[Traits, float]]) -> "History":
        """`examples` are traits (see CLASSES) with the rate that was measured."""
        rates: dict[tuple[str, ...], dict[tuple[object, ...], list[float]]] = {names: {} for names, _spread in CLASSES}
        for traits, rate in examples:
            for names in rates:
                known = rate if "devices" in names else rate * traits["devices"]
                rates[names].setdefault(_key(traits, names), []).append(known)
        return cls(rates)

    def rate(self, traits: Traits) -> tuple[Span, int]:
        """The range of seconds per image and epoch, and the number of runs that it is based on."""
        for names, spread in CLASSES:
            seen = self.rates.get(names, {}).get(_key(traits, names))
            if seen:
                shared_by = 1 if "devices" in names else traits["devices"]
                return Span(min(seen) / spread / shared_by, max(seen) * spread / shared_by), len(seen)
        return Span(UNKNOWN, UNKNOWN), 0


def _key(traits: Traits, names: tuple[str, ...]) -> tuple[object, ...]:
    values: Mapping[str, object] = traits
    return tuple(values[name] for name in names)


def read_history() -> History:
    """The history of the newest completed runs."""
    done = TrainingRun.objects.filter(status=Status.COMPLETED, elapsed_s__gt=0, epoch__gt=0)
    columns = (
        "task",
        "config__model",
        "config__image_size",
        "config__amp",
        "config__folds",
        "dataset_id",
        "device",
        "epoch",
        "elapsed_s",
    )
    rows = list(done.order_by("-finished_at").values_list("pk", *columns)[:HISTORY])
    gpus = gpus_of([pk for pk, *_values in rows])
    datasets = Dataset.objects.only("images").in_bulk({row[6] for row in rows})
    examples = []
    for pk, task, model, image_size, amp, folds, dataset_id, device, epoch, elapsed_s in rows:
        known = datasets.get(dataset_id)
        work = known.trained_images({"folds": folds}) * epoch if known else 0
        if work:
            config = {"model": model, "image_size": image_size, "amp": amp}
            hardware = Hardware.of(device, gpus.get(pk, 1))
            examples.append((_traits(task, config, dataset_id, hardware), elapsed_s / work))
    return History.of(examples)


def gpus_of(runs: Sequence[int]) -> dict[int, int]:
    """The GPUs on which the newest attempt of each of these runs trains or trained; only where there are several."""
    held = DeviceHold.objects.filter(run_id__in=runs, attempt=F("run__attempt"), device__kind=Device.Kind.GPU)
    counts = held.order_by().values("run_id").annotate(count=Count("pk")).filter(count__gt=1)
    return dict(counts.values_list("run_id", "count"))


def hardware_of_run(run: TrainingRun) -> Hardware:
    """What the run trains on, or trained on last."""
    return Hardware.of(run.device, gpus_of([run.pk]).get(run.pk, 1))


def _traits(task: str, config: Mapping[str, object], dataset_id: int, hardware: Hardware) -> Traits:
    return {
        "task": task,
        "model": config.get("model"),
        "dataset": dataset_id,
        "image_size": config.get("image_size"),
        "amp": str(config.get("amp") or False),
        "kind": hardware.kind,
        "gpu": hardware.gpu,
        "devices": hardware.devices,
    }


def duration(run: TrainingRun, dataset: Dataset, history: History, hardware: Hardware) -> tuple[Span, int]:
    """Seconds that the run still needs on such a device, and the number of runs that this is based on."""
    rate, basis = history.rate(_traits(run.task, run.config, dataset.pk, hardware))
    epochs = run.total_epochs * (1 - run.progress)
    images = dataset.trained_images(run.config)
    work = epochs * images
    patience = int(run.config.get("early_stopping_epochs", 0))
    least = min(work, (patience + 1) * images) if patience else work
    return Span(rate.low * least, rate.high * work) if basis else (rate), basis


def _remaining(run: TrainingRun, history: History) -> Span:
    """Seconds until a running run leaves its device."""
    if run.eta_s is None:
        return duration(run, run.dataset, history, hardware_of_run(run))[0]
    slow = max(run.eta_s * ETA_SPREAD, run.eta_s + LEAST_ERROR_S)
    return Span(run.eta_s / ETA_SPREAD, slow)


# Simulating the queue


@dataclass(frozen=True)
class Simulated:
    """Seconds from now, and what it trains on."""

    start_s: float
    finish_s: float
    hardware: Hardware


def simulate(
    cluster: ClusterState,
    queue: Sequence[Waiting],
    running: dict[int, tuple[int, float]],
    lengths: dict[tuple[int, Hardware], float],
    now: datetime,
) -> dict[int, Simulated]:
    """When each queued run starts and ends if all durations are as given.

    `running` has (owner, seconds left) by run, `lengths` the seconds of a queued run by (run, what it trains on).
    """
    cluster, waiting = deepcopy(cluster), list(queue)
    ends = [(left_s, run_id, owner) for run_id, (owner, left_s) in running.items()]
    ends += [(max(0.0, (run.not_before - now).total_seconds()), 0, 0) for run in waiting if run.not_before]
    heapq.heapify(ends)
    found: dict[int, Simulated] = {}
    clock_s = 0.0
    while waiting and math.isfinite(clock_s):
        if not cluster.is_exhausted:
            for run, assignment in in_turn(cluster, waiting, now + timedelta(seconds=clock_s)):
                if assignment is not None:
                    hardware = hardware_of(assignment.devices[0], assignment.count)
                    finish_s = clock_s + lengths[run.pk, hardware]
                    found[run.pk] = Simulated(clock_s, finish_s, hardware)
                    heapq.heappush(ends, (finish_s, run.pk, run.owner_id))
                if cluster.is_exhausted:
                    break
            waiting = [run for run in waiting if run.pk not in found]
        if not ends:
            break
        clock_s, run_id, owner = heapq.heappop(ends)
        if run_id and math.isfinite(clock_s):
            cluster.release(run_id, owner)
    return found


def hardware_of(device: DeviceSlot, count: int) -> Hardware:
    """By the name that torch gives the GPU; the inventory adds the backend to it where that is not CUDA."""
    return Hardware("gpu", device.name.removesuffix(" (ROCm)"), count) if device.kind == "gpu" else Hardware("cpu")


def hardware_for(request: Request, cluster: ClusterState) -> set[Hardware]:
    """All that a run with this request may train on."""
    counts = range(request.at_least, request.count + 1)
    devices = [device for machine in cluster.machines for device in machine.devices]
    return {hardware_of(device, count) for device in devices for count in counts}


def expected(now: datetime | None = None) -> dict[int, Expected]:
    """The forecast of each of the first FORECAST_RUNS queued runs by its id, in the order of the queue."""
    now = now or timezone.now()
    queue = list(read_queue(FORECAST_RUNS))
    if not queue:
        return {}
    history, cluster = read_history(), read_cluster()
    running = list(TrainingRun.objects.filter(status=Status.RUNNING).select_related("dataset"))
    left = {run.pk: (run.owner_id, _remaining(run, history)) for run in running}
    spans = _lengths(queue, history, cluster)
    quick, slow = (_simulated(side, cluster, queue, left, spans, now) for side in ("low", "high"))
    return {run.pk: _expected(run, quick.get(run.pk), slow.get(run.pk), spans, now) for run in queue}


def _simulated(
    side: str,
    cluster: ClusterState,
    queue: Sequence[Waiting],
    left: dict[int, tuple[int, Span]],
    spans: dict[tuple[int, Hardware], tuple[Span, int]],
    now: datetime,
) -> dict[int, Simulated]:
    """The simulation in which every run takes as little ("low") or as much ("high") time as expected."""
    return simulate(
        cluster,
        queue,
        {pk: (owner, getattr(span, side)) for pk, (owner, span) in left.items()},
        {key: getattr(span, side) for key, (span, _basis) in spans.items()},
        now,
    )


@dataclass(frozen=True)
class Board:
    """The queue and the devices at one moment, for everyone who asks about them then. Nothing in it may be changed."""

    queue: list[Waiting]
    cluster: ClusterState
    #: (owner, seconds left) of each running run.
    left: dict[int, tuple[int, Span]]
    #: Seconds of each queued run, by (run, what it trains on).
    spans: dict[tuple[int, Hardware], tuple[Span, int]]


def read_board() -> Board:
    """The board of this moment: reads the queue, the running runs and the history."""
    queue, history = list(read_queue(FORECAST_RUNS)), read_history()
    running = TrainingRun.objects.filter(status=Status.RUNNING).select_related("dataset")
    left = {run.pk: (run.owner_id, _remaining(run, history)) for run in running}
    cluster = read_cluster()
    cluster.forget_jobs()
    return Board(queue, cluster, left, _lengths(queue, history, cluster))


def wait_if_queued(run: TrainingRun, board: Board | None = None, now: datetime | None = None) -> Span:
    """Seconds that the run would wait if it released its device now and was queued again, behind the queued runs.

    Infinite where there is no estimate, such as behind a run without any history. Without a `board` it is read.
    """
    board, now = board or read_board(), now or timezone.now()
    own = Waiting(run.pk, run.name, run.owner_id, Request.of(run.config))
    queue = [waiting for waiting in board.queue if waiting.pk != run.pk]
    cluster = deepcopy(board.cluster)
    if run.status == Status.RUNNING:
        cluster.release(run.pk, run.owner_id)
    left = {pk: one for pk, one in board.left.items() if pk != run.pk}
    spans = {**board.spans, **{(run.pk, each): (Span(0.0, 0.0), 0) for each in hardware_for(own.request, cluster)}}
    simulations = [_simulated(side, cluster, [*queue, own], left, spans, now) for side in ("low", "high")]
    starts = [found[run.pk].start_s if run.pk in found else UNKNOWN for found in simulations]
    return Span(min(starts), max(starts))


def _lengths(
    queue: list[Waiting], history: History, cluster: ClusterState
) -> dict[tuple[int, Hardware], tuple[Span, int]]:
    """Seconds that each queued run needs and the number of runs that this is based on, by (run, what it trains on)."""
    runs = TrainingRun.objects.select_related("dataset").in_bulk([waiting.pk for waiting in queue])
    nothing = (Span(UNKNOWN, UNKNOWN), 0)  # for a run that was just deleted
    return {
        (waiting.pk, each): duration(run, run.dataset, history, each) if (run := runs.get(waiting.pk)) else nothing
        for waiting in queue
        for each in hardware_for(waiting.request, cluster)
    }


def _expected(
    run: Waiting,
    quick: Simulated | None,
    slow: Simulated | None,
    spans: dict[tuple[int, Hardware], tuple[Span, int]],
    now: datetime,
) -> Expected:
    """The two simulations as one range.

    Either may be the earlier one: when a run ahead is faster, another run may get the device first.
    """
    if quick is None or slow is None:
        return Expected()
    starts = sorted((quick.start_s, slow.start_s))
    finishes = sorted((quick.finish_s, slow.finish_s))
    first, last = (_moment(now, finishes[0]), _moment(now, finishes[1]))
    return Expected(
        start_earliest=_moment(now, starts[0]),
        start_latest=_moment(now, starts[1]),
        finish_earliest=first if last else None,
        finish_latest=last,
        basis=spans[run.pk, slow.hardware][1],
    )


def _moment(now: datetime, seconds: float) -> datetime | None:
    """None beyond a year."""
    return now + timedelta(seconds=seconds) if seconds < timedelta(days=365).total_seconds() else None


# Storing forecasts and their accuracy


def is_missing() -> bool:
    """Whether some queued run has no forecast since it was queued."""
    since = Forecast.objects.filter(run__status=Status.QUEUED, made_at__gte=F("run__queued_at"))
    first = queued_runs().values_list("pk", flat=True)[:FORECAST_RUNS]
    return bool(set(first) - set(since.values_list("run_id", flat=True)))


def keep_up(now: datetime | None = None) -> None:
    """Store forecasts that are new or have changed considerably, and the actual times of older ones."""
    now = now or timezone.now()
    fill_in()
    stored = newest_forecasts()
    rows = [
        Forecast(
            run_id=run_id,
            made_at=now,
            start_earliest=found.start_earliest,
            start_latest=found.start_latest,
            finish_earliest=found.finish_earliest,
            finish_latest=found.finish_latest,
            basis=found.basis,
        )
        for run_id, found in expected(now).items()
        if _is_news(stored.get(run_id), found)
    ]
    Forecast.objects.bulk_create(rows)


def newest_forecasts() -> dict[int, Forecast]:
    """The newest forecast of each queued run since it was queued."""
    rows = Forecast.objects.filter(run__status=Status.QUEUED, made_at__gte=F("run__queued_at"))
    return {row.run_id: row for row in rows.order_by("made_at", "pk")}


def newest_forecast(run: TrainingRun) -> Forecast | None:
    """The newest forecast of a queued run since it was queued."""
    if run.status != Status.QUEUED or run.queued_at is None:
        return None
    return run.forecasts.filter(made_at__gte=run.queued_at).order_by("-made_at", "-pk").first()


def _is_news(old: Forecast | None, found: Expected) -> bool:
    """Whether the middle of the current range is outside the stored range."""
    if old is None:
        return True
    return _has_moved(old.start_earliest, old.start_latest, found.start_earliest, found.start_latest) or _has_moved(
        old.finish_earliest, old.finish_latest, found.finish_earliest, found.finish_latest
    )


def _has_moved(
    old_first: datetime | None, old_last: datetime | None, first: datetime | None, last: datetime | None
) -> bool:
    if old_first is None or old_last is None or first is None or last is None:
        return (old_last is None) != (last is None)
    slack = timedelta(seconds=LEAST_ERROR_S)
    return not old_first - slack <= first + (last - first) / 2 <= old_last + slack


def fill_in() -> None:
    """Store when forecast runs actually started, and when they finished where they were completed."""
    unstarted = Forecast.objects.filter(started_at=None).exclude(run__status=Status.QUEUED)
    for row in unstarted.select_related("run"):
        hold = DeviceHold.objects.filter(run_id=row.run_id, taken_at__gte=row.made_at).order_by("taken_at").first()
        if hold is not None:
            row.started_at = hold.taken_at
            row.save(update_fields=["started_at"])
    done = Forecast.objects.filter(finished_at=None, run__status=Status.COMPLETED, run__finished_at__gte=F("made_at"))
    for row in done.select_related("run"):
        row.finished_at = row.run.finished_at
        row.save(update_fields=["finished_at"])


def accuracy() -> Accuracy | None:
    """The accuracy of the first forecasts of the last JUDGED completed runs; None without any."""
    rows: QuerySet[Forecast] = Forecast.objects.filter(finished_at__isnull=False, finish_latest__isnull=False)
    seen: Counter[int] = Counter()
    within, errors = 0, []
    for row in rows.order_by("-finished_at", "run_id", "made_at", "pk").iterator(chunk_size=100):
        seen[row.run_id] += 1
        first, last, actual = row.finish_earliest, row.finish_latest, row.finished_at
        if seen[row.run_id] == 1 and first and last and actual:
            within += first <= actual <= last
            errors.append(abs((actual - (first + (last - first) / 2)).total_seconds()))
        if len(errors) == JUDGED:
            break
    return Accuracy(len(errors), within, median(errors)) if errors else None
