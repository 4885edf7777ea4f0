"""Whether a resumed run continues exactly: the step after a checkpoint, made twice and compared.

The first step after each checkpoint records a mark in RUN_DIR/resume_marks.jsonl: its loss and the norms of all tensors
of the model after it, bit by bit. A run that ends early makes that step too, once everything is on the disk
(`step_ahead`). The attempt that continues from the checkpoint makes the same step again and compares. The loss depends
on weights, batch, augmentation and dropout, the norms on gradients, optimizer and schedule as well: one step covers
all of them. A mark costs one read from the device and one pass over the weights per checkpoint.

    exact     both are equal bit by bit
    near      they differ by less than NEAR for their precision, as on another device or with other libraries
    differs   they differ by more
    unknown   there is nothing to compare with: the trainer was killed before it made that step
"""

import contextlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import torch

from trainingapp.contract.config import result_changes
from trainingapp.contract.events import EventLog, JsonObject, Level, ResumeCheck, message_fields
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.training import (
    ALGORITHMS,
    CPU_THREADS,
    DETERMINISTIC,
    DEVICE,
    DEVICES,
    FAST,
    NOT_DETERMINISTIC,
    NOTHING_CHANGED,
    PRECISION,
    REDUCED_FAST,
    RESUME_DIFFERS,
    RESUME_EXACT,
    RESUME_UNKNOWN,
    STEP_NOT_RECORDED,
    VALUE_CHANGED,
)
from trainingapp.contract.number_text import number_text
from trainingapp.engine.checkpoint import Found
from trainingapp.engine.device import device_name
from trainingapp.engine.norms import norms_digest, tensor_norms
from trainingapp.engine.state import TrainingState
from trainingapp.engine.step import Step

MARKS_FILE = "resume_marks.jsonl"
#: Of version 0.1: read, so that a run which it left is verified too.
OLD_MARKS_FILE = "proofs.jsonl"
#: By the precision of the step. One rounding changes a number by up to 2e-3 of it in bfloat16 (8 bits of mantissa) and
#: 2.4e-4 in float16 and TF32 (11 bits); loss and norms are means of many such numbers, which batch norm passes on.
NEAR = {"float32": 1e-3, "tf32": 4e-3, "float16": 4e-3, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Mark:
    """The result of a step. `after` is the time of the checkpoint that it follows, in Unix seconds.

    `loss` and `norm` are hexadecimal floats, so that no digit is lost; `norms` is a hash of the norms of all tensors.
    Version 0.1 recorded neither `precision` nor whether the algorithms were deterministic. `ranks` is the number of
    devices that made the step together; with the exact reduction it does not matter.
    """

    after: float
    step: int
    attempt: int
    loss: str
    norm: str
    norms: str
    device: str
    cpu_threads: int
    torch: str
    precision: str = ""
    deterministic: bool | None = None
    ranks: int = 1
    reduction: str = "exact"


@dataclass(frozen=True)
class Verdict:
    """The result of comparing two marks. `difference` is the larger relative one of loss and norm.

    `changes` are why they may differ, or why nothing can be compared.
    """

    verdict: Literal["exact", "near", "differs", "unknown"]
    difference: float
    changes: list[Message]


class ResumeChecker:
    """Records the marks of one attempt, and compares its first step with that of an earlier attempt."""

    def __init__(self, run_dir: Path, state: TrainingState, events: EventLog, found: Found | None) -> None:
        self._path = run_dir / MARKS_FILE
        self._state, self._events, self._found = state, events, found
        self._after: float | None = None
        self._earlier = _mark_after(run_dir, found.content["timestamp"]) if found else None

    def expect_step_after(self, moment: float) -> None:
        """A checkpoint was taken at `moment`: the next step records a mark."""
        self._after = moment

    def after_step(self, step: Step) -> None:
        """To be called after each step. Waits for the device only when there is something to write or to compare."""
        if self._after is None and self._found is None:
            return
        mark = self._mark(step)
        if self._found is not None:
            self._report(mark, self._found)
            self._found = None
        if self._after is not None:
            self._events.check()
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps(asdict(mark))}\n")  # ends a line that a kill left incomplete
            self._after = None

    def _mark(self, step: Step) -> Mark:
        state = self._state
        norms = tensor_norms(state.model)
        return Mark(
            after=self._after or 0.0,
            step=state.step,
            attempt=state.attempt,
            loss=float(torch.stack(step.losses).mean()).hex(),
            norm=float(norms.norm()).hex(),
            norms=norms_digest(norms),
            device=device_name(state.device),
            cpu_threads=state.cpu_threads,
            torch=torch.__version__,
            precision=state.precision.name,
            deterministic=state.algorithms.deterministic,
            ranks=state.ranks.world,
            reduction=state.config.reduction,
        )

    def _report(self, mark: Mark, found: Found) -> None:
        config = self._state.config.model_dump(mode="json")
        verdict = compared(self._earlier, mark, config_then=found.content["config"], config=config)
        level: Level = "warning" if verdict.verdict == "differs" else "info"
        changes = [one.as_data() for one in verdict.changes]
        file = found.entry.file
        match verdict.verdict:
            case "exact":
                message = RESUME_EXACT(file=file)
            case "unknown":
                message = RESUME_UNKNOWN(changes=verdict.changes)
            case _:
                difference = number_text(verdict.difference, digits=2)
                message = RESUME_DIFFERS(file=file, difference=difference, changes=verdict.changes)
        event = ResumeCheck(
            level=level,
            verdict=verdict.verdict,
            difference=verdict.difference,
            reason="; ".join(map(str, verdict.changes)),
            changes=[{"code": one["code"], "params": one["params"]} for one in changes],
            **message_fields(message),
        )
        self._events.write(event)


def compared(earlier: Mark | None, mark: Mark, *, config_then: JsonObject, config: JsonObject) -> Verdict:
    """Compare the step with the one that an earlier attempt made from the same checkpoint."""
    if earlier is None:
        return Verdict("unknown", 0.0, [STEP_NOT_RECORDED()])
    if (earlier.loss, earlier.norms) == (mark.loss, mark.norms):
        return Verdict("exact", 0.0, [])
    difference = max(_relative(earlier.loss, mark.loss), _relative(earlier.norm, mark.norm))
    changes = _changes(earlier, mark, config_then, config)
    near = max(NEAR.get(one.precision, NEAR["float32"]) for one in (earlier, mark))
    return Verdict("near" if difference < near else "differs", difference, changes)


def _changes(earlier: Mark, mark: Mark, config_then: JsonObject, config: JsonObject) -> list[Message]:
    """Why two steps may differ."""
    changes = [
        VALUE_CHANGED(name=name, before=before, now=now)
        for name, before, now in (
            (DEVICE(), earlier.device, mark.device),
            (CPU_THREADS(), earlier.cpu_threads, mark.cpu_threads),
            ("torch", earlier.torch, mark.torch),
            (PRECISION(), earlier.precision, mark.precision),
            (ALGORITHMS(), _algorithms(earlier), _algorithms(mark)),
        )
        if before not in (now, "")
    ]
    # A mark holds what these fields came to, which their values (such as auto) do not tell.
    measured = {field.name for field in fields(Mark)}
    if earlier.precision and mark.precision:
        measured.add("amp")
    settings = result_changes(config_then, config)
    changes += [
        VALUE_CHANGED(name=name, before=str(before), now=str(now))
        for name, before, now in settings
        if name not in measured
    ]
    if "fast" in (earlier.reduction, mark.reduction) and earlier.ranks != mark.ranks:
        changes.append(VALUE_CHANGED(name=DEVICES(), before=str(earlier.ranks), now=str(mark.ranks)))
    if mark.reduction == "fast" and mark.ranks > 1:
        changes.append(REDUCED_FAST())
    if mark.deterministic is False:
        changes.append(NOT_DETERMINISTIC())
    return changes or [NOTHING_CHANGED()]


def _algorithms(mark: Mark) -> Message | str:
    if mark.deterministic is None:
        return ""
    return DETERMINISTIC() if mark.deterministic else FAST()


def _relative(one: str, other: str) -> float:
    """The relative difference of two hexadecimal floats; 1 where one is not a number."""
    first, second = float.fromhex(one), float.fromhex(other)
    largest = max(abs(first), abs(second))
    share = abs(first - second) / largest if largest else 0.0
    return share if share == share else 1.0


def _mark_after(run_dir: Path, moment: float) -> Mark | None:
    """The newest mark that follows the checkpoint of that moment."""
    lines: list[str] = []
    for path in (run_dir / OLD_MARKS_FILE, run_dir / MARKS_FILE):
        with contextlib.suppress(FileNotFoundError):
            lines += path.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in reversed(lines):
        with contextlib.suppress(ValueError, TypeError):  # a line that a kill has cut short
            mark = Mark(**json.loads(line))
            if mark.after == moment:
                return mark
    return None
