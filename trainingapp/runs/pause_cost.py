"""What a pause, a stop or a kill of a training run would cost, said before anybody asks for one.

`quote` is pure: from what is known to what it costs. `read_known` looks that up.
"""

import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Any

from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import Checkpoint, RunEvent, TrainingRun
from trainingapp.models.run import Status
from trainingapp.scheduling.forecast import Span, wait_if_queued

#: Earlier pauses and stops that the time is learnt from, and runs like it that are asked where it has none.
LEARNT_FROM = 5
SIMILAR_RUNS = 10
EVENTS_READ = 400
#: What was looked up is used for so long: the page asks with every step.
KNOWN_S = 5.0
#: Checkpoints that are looked at for what the next one takes.
SIZES_READ = 5
#: Values of an optimizer for each parameter, beside the parameter itself.
OPTIMIZER_VALUES = {"SGD": 1, "Adam": 2, "AdamW": 2, "RMSprop": 2}
BYTES_PER_VALUE = 4


@dataclass(frozen=True)
class Known:
    """What a quote is made from.

    `saved_step` is that of the newest sound checkpoint, `bytes` what the next one takes (None where nobody knows) and
    `ends_s` how many seconds earlier pauses and stops took, newest first. `wait` is that for a place if it was queued.
    """

    saved_step: int | None = None
    bytes: int | None = None
    is_estimate: bool = False
    ends_s: tuple[float, ...] = ()
    wait: Span | None = None


@dataclass(frozen=True)
class Cost:
    """Of one way to end: steps to be made again and how long that takes, bytes written, seconds until it is done."""

    steps_lost: int
    again_s: float | None
    bytes: int | None
    seconds: float | None


@dataclass(frozen=True)
class Quote:
    """What each way to end costs. `wait`: until the run would get a place again; None where nobody knows."""

    pause: Cost
    stop: Cost
    kill: Cost
    is_estimate: bool
    wait: Span | None


def quote(step: int, elapsed_s: float, known: Known) -> Quote:
    """What ending at `step` costs a run that took `elapsed_s` to get there.

    A pause and a stop save between two steps, so they lose none. A kill loses what came after the newest checkpoint.
    """
    lost = max(0, step - (known.saved_step or 0))
    again_s = lost * elapsed_s / step if step else None
    gentle = Cost(0, 0.0, known.bytes, median(known.ends_s[:LEARNT_FROM]) if known.ends_s else None)
    return Quote(
        pause=gentle,
        stop=gentle,
        kill=Cost(lost, again_s, 0, 0.0),
        is_estimate=known.is_estimate,
        wait=known.wait,
    )


def quote_of(run: TrainingRun) -> Quote:
    """The quote of a run as it stands."""
    key = (run.pk, run.created_at.timestamp(), run.status, run.attempt)
    saved = run.checkpoints.filter(damage="").order_by("-step").values_list("step", flat=True).first()
    known = _remembered(*key, int(time.monotonic() // KNOWN_S))
    return quote(run.step, run.elapsed_s, Known(saved, known.bytes, known.is_estimate, known.ends_s, known.wait))


@lru_cache(maxsize=256)
def _remembered(run_id: int, created: float, status: str, attempt: int, moment: int) -> Known:
    """What was known in this stretch of KNOWN_S seconds; all but `run_id` only tell one answer from another."""
    run = TrainingRun.objects.filter(pk=run_id).select_related("dataset").first()
    return Known() if run is None else read_known(run)


def read_known(run: TrainingRun) -> Known:
    """What the database tells of the run, and of runs like it where that is not enough."""
    checkpoints = list(run.checkpoints.filter(damage="").order_by("-step")[:SIZES_READ])
    newest = checkpoints[0] if checkpoints else None
    size, is_estimate = (_next_bytes(checkpoints), False) if checkpoints else (_likely_bytes(run), True)
    wait = wait_if_queued(run)
    return Known(
        saved_step=newest.step if newest else None,
        bytes=size,
        is_estimate=is_estimate,
        ends_s=_earlier_ends(run),
        wait=wait if wait.is_known else None,
    )


def _next_bytes(checkpoints: list[Checkpoint]) -> int:
    """What the newest added to the disk. Two of the same step share all they hold: an earlier one tells it then."""
    steps = [checkpoint.step for checkpoint in checkpoints]
    alone = next((checkpoint for checkpoint in checkpoints if steps.count(checkpoint.step) == 1), None)
    return (alone.stored_bytes or alone.size_bytes) if alone else checkpoints[0].size_bytes


def _likely_bytes(run: TrainingRun) -> int | None:
    """The size of a checkpoint of a run like it, else what its parameters and its optimizer's values take."""
    names = {f"run__config__{name}": run.config.get(name) for name in ("model", "optimizer", "ema_decay")}
    like = Checkpoint.objects.filter(run__task=run.task, damage="", **names).order_by("-created_at").first()
    return like.stored_bytes or like.size_bytes if like else estimated_bytes(run.task, run.config)


def estimated_bytes(task: str, config: dict[str, Any]) -> int | None:
    """Bytes of a checkpoint without compression; None for a network whose parameters nobody has counted."""
    known = TASKS[task].architectures.get(str(config.get("model")))
    if known is None or not known.parameters:
        return None
    values = 1 + OPTIMIZER_VALUES.get(str(config.get("optimizer")), 2) + bool(config.get("ema_decay"))
    return known.parameters * values * BYTES_PER_VALUE


def _earlier_ends(run: TrainingRun) -> tuple[float, ...]:
    """Of the run itself, else of the newest runs with its network."""
    own = _ends(RunEvent.objects.filter(run=run))
    if own:
        return own
    alike = TrainingRun.objects.filter(task=run.task, config__model=run.config.get("model")).exclude(pk=run.pk)
    newest = list(alike.order_by("-updated_at").values_list("pk", flat=True)[:SIMILAR_RUNS])
    return _ends(RunEvent.objects.filter(run_id__in=newest))


def _ends(events: Any) -> tuple[float, ...]:
    """Seconds between a wish to pause or stop and its fulfilment, newest first."""
    rows = events.filter(type=RunEvent.Type.STATUS).order_by("-time", "-seq")[:EVENTS_READ]
    rows = sorted(rows, key=lambda row: (row.run_id, row.seq))
    found = [end for _run, group in itertools.groupby(rows, lambda row: row.run_id) for end in ends_in(list(group))]
    return tuple(seconds for _time, seconds in sorted(found, reverse=True)[:LEARNT_FROM])


def ends_in(events: Sequence[RunEvent]) -> Iterable[tuple[float, float]]:
    """(when, seconds) of each wish that came true, in the status events of one run in their order."""
    asked: RunEvent | None = None
    for event in events:
        if event.data.get("wanted") in ("pause", "stop"):
            asked = asked or event
        elif "to" in event.data:
            if asked is not None and event.data["to"] in (Status.PAUSED, Status.STOPPED):
                yield event.time.timestamp(), max(0.0, (event.time - asked.time).total_seconds())
            asked = None
