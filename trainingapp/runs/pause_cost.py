"""What a pause, a stop or a kill of a training run would cost, shown before it is requested.

`pause_cost` is a pure function of what is known; `read_known` reads that from the database.
"""

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

from django.db.models import QuerySet

from trainingapp.contract.config import kept_by_continuing
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import Checkpoint, RunEvent, TrainingRun
from trainingapp.models.run import Status
from trainingapp.scheduling.forecast import Board, Span, read_board, wait_if_queued

#: Earlier pauses and stops from which the time is estimated, and similar runs that are used where there are none.
LEARNT_FROM = 5
SIMILAR_RUNS = 10
EVENTS_READ = 400
#: Seconds for which what was read is reused: the page asks after every step.
KNOWN_S = 5.0
#: Newest checkpoints from which the size of the next one is estimated.
SIZES_READ = 5
#: State values that an optimizer keeps for each parameter.
OPTIMIZER_VALUES = {"SGD": 1, "Adam": 2, "AdamW": 2, "RMSprop": 2}
BYTES_PER_VALUE = 4


@dataclass(frozen=True)
class Known:
    """What the cost is calculated from.

    `saved_step` is the step of the newest valid checkpoint, `bytes` the expected size of the next one (None where it is
    unknown) and `ends_s` the seconds that earlier pauses and stops took, newest first. `wait` is the time until a
    device would be available if the run was queued.
    """

    saved_step: int | None = None
    bytes: int | None = None
    is_estimate: bool = False
    ends_s: tuple[float, ...] = ()
    wait: Span | None = None


@dataclass(frozen=True)
class Cost:
    """Of one way to end: steps to repeat and the seconds that takes, bytes written, seconds until the run has ended."""

    steps_lost: int
    repeat_s: float | None
    bytes: int | None
    seconds: float | None


@dataclass(frozen=True)
class PauseCost:
    """What each way to end costs. `wait`: until a device would be available again; None where that is unknown."""

    pause: Cost
    stop: Cost
    kill: Cost
    is_estimate: bool
    wait: Span | None


def pause_cost(step: int, elapsed_s: float, known: Known) -> PauseCost:
    """What ending at `step` costs a run that took `elapsed_s` to get there.

    A pause and a stop save between two steps, so they lose none. A kill loses the steps after the newest checkpoint.
    """
    lost = max(0, step - (known.saved_step or 0))
    repeat_s = lost * elapsed_s / step if step else None
    gentle = Cost(0, 0.0, known.bytes, median(known.ends_s[:LEARNT_FROM]) if known.ends_s else None)
    return PauseCost(
        pause=gentle,
        stop=gentle,
        kill=Cost(lost, repeat_s, 0, 0.0),
        is_estimate=known.is_estimate,
        wait=known.wait,
    )


def pause_cost_of(run: TrainingRun) -> PauseCost:
    """The cost for the run in its present state."""
    key = (run.pk, run.created_at.timestamp(), run.status, run.attempt)
    saved = run.checkpoints.filter(damage="").order_by("-step").values_list("step", flat=True).first()
    # Not at the same moment for all runs: many may be watched.
    known = _remembered(*key, int((time.monotonic() + run.pk % KNOWN_S) // KNOWN_S))
    return pause_cost(run.step, run.elapsed_s, Known(saved, known.bytes, known.is_estimate, known.ends_s, known.wait))


@lru_cache(maxsize=256)
def _remembered(run_id: int, created: float, status: str, attempt: int, moment: int) -> Known:
    """What was known in this interval of KNOWN_S seconds; the other parameters only make the key of the cache."""
    run = TrainingRun.objects.filter(pk=run_id).select_related("dataset").first()
    return Known() if run is None else read_known(run, remembered_board(int(time.monotonic() // KNOWN_S)))


@lru_cache(maxsize=1)
def remembered_board(moment: int) -> Board:
    """The queue and the devices in this interval of KNOWN_S seconds, read once for all runs that are watched."""
    return read_board()


def read_known(run: TrainingRun, board: Board | None = None) -> Known:
    """What the database has about the run, and about similar runs where that is not enough."""
    checkpoints = list(run.checkpoints.filter(damage="").order_by("-step")[:SIZES_READ])
    newest = checkpoints[0] if checkpoints else None
    size, is_estimate = (_next_bytes(checkpoints), False) if checkpoints else (_likely_bytes(run), True)
    wait = wait_if_queued(run, board)
    return Known(
        saved_step=newest.step if newest else None,
        bytes=size,
        is_estimate=is_estimate,
        ends_s=_earlier_ends(run),
        wait=wait if wait.is_known else None,
    )


def _next_bytes(checkpoints: list[Checkpoint]) -> int:
    """What the newest checkpoint added to the disk.

    Two checkpoints of the same step share all their tensors, so that neither shows the size of a new one: an earlier
    checkpoint is used then.
    """
    steps = [checkpoint.step for checkpoint in checkpoints]
    sole = next((checkpoint for checkpoint in checkpoints if steps.count(checkpoint.step) == 1), None)
    return (sole.stored_bytes or sole.size_bytes) if sole else checkpoints[0].size_bytes


def _likely_bytes(run: TrainingRun) -> int | None:
    """The size of a checkpoint of a similar run, else that of its parameters and the state of its optimizer."""
    if run.task not in TASKS:  # a task that is no longer installed: neither its fields nor its networks are known
        return None
    kept = set(kept_by_continuing(run.task)) - {"task"}
    names = {f"run__config__{name}": run.config.get(name) for name in kept}
    like = Checkpoint.objects.filter(run__task=run.task, damage="", **names).order_by("-created_at").first()
    return like.stored_bytes or like.size_bytes if like else estimated_bytes(run.task, run.config)


def estimated_bytes(task: str, config: Mapping[str, object]) -> int | None:
    """Bytes of a checkpoint without compression; None for a network whose number of parameters is unknown."""
    known = TASKS[task].architectures.get(str(config.get("model")))
    if known is None or not known.parameters:
        return None
    values = 1 + OPTIMIZER_VALUES.get(str(config.get("optimizer")), 2) + bool(config.get("ema_decay"))
    return known.parameters * values * BYTES_PER_VALUE


def _earlier_ends(run: TrainingRun) -> tuple[float, ...]:
    """Seconds that pauses and stops took: of the run itself, else of the newest runs with its network."""
    own = _ends(RunEvent.objects.filter(run=run))
    if own:
        return own
    alike = TrainingRun.objects.filter(task=run.task, config__model=run.config.get("model")).exclude(pk=run.pk)
    newest = list(alike.order_by("-updated_at").values_list("pk", flat=True)[:SIMILAR_RUNS])
    return _ends(RunEvent.objects.filter(run_id__in=newest))


def _ends(events: QuerySet[RunEvent]) -> tuple[float, ...]:
    """Seconds from the request to pause or stop until the run had ended, newest first."""
    newest = events.filter(type=RunEvent.Type.STATUS).order_by("-time", "-seq")[:EVENTS_READ]
    rows = sorted(newest, key=lambda row: (row.run_id, row.seq))
    found = [end for _run, group in itertools.groupby(rows, lambda row: row.run_id) for end in ends_in(list(group))]
    return tuple(seconds for _time, seconds in sorted(found, reverse=True)[:LEARNT_FROM])


def ends_in(events: Sequence[RunEvent]) -> Iterable[tuple[float, float]]:
    """(time, seconds) of each request that was carried out, in the ordered status events of one run."""
    asked: RunEvent | None = None
    for event in events:
        if event.data.get("wanted") in ("pause", "stop"):
            asked = asked or event
        elif "to" in event.data:
            if asked is not None and event.data["to"] in (Status.PAUSED, Status.STOPPED):
                yield event.time.timestamp(), max(0.0, (event.time - asked.time).total_seconds())
            asked = None
