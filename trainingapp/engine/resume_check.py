"""Whether a run that was reloaded goes on as it would have: the step after a checkpoint, made twice and compared.

The first step after each checkpoint leaves a mark in RUN_DIR/proofs.jsonl: its loss and the norms of all tensors of the
model after it, bit by bit. A run that is left makes that step too, once everything is on the disk (`step_ahead`). The
attempt that goes on from the checkpoint makes the same step again and compares. The loss depends on weights, batch,
augmentation and dropout, the norms on gradients, optimizer and schedule as well: a batch says it all. A mark costs
reading one number off the device and a pass over the weights, once for each checkpoint.

    exact     both are equal bit by bit
    near      they differ by less than NEAR, as on another device or with other libraries
    differs   they differ by more
    unknown   there is nothing to compare with: the trainer was killed before it made that step
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from trainingapp.contract.config import result_changes
from trainingapp.contract.events import EventLog, Level, ResumeCheck
from trainingapp.contract.number_text import number_text
from trainingapp.engine.checkpoint import Found
from trainingapp.engine.device import device_name
from trainingapp.engine.state import TrainingState
from trainingapp.engine.step import Step

PROOFS_FILE = "proofs.jsonl"
NEAR = 1e-3


@dataclass(frozen=True)
class Mark:
    """What a step left behind. `after` is the moment of the checkpoint that it follows.

    `loss` and `norm` are hexadecimal, so that no digit is lost; `norms` is a hash of the norms of the single tensors.
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


@dataclass(frozen=True)
class Verdict:
    """What two marks say. `difference` is the larger relative one of loss and norm."""

    verdict: str
    difference: float
    reason: str


class Proof:
    """Takes the marks of one attempt, and compares its first step with that of an earlier one."""

    def __init__(self, run_dir: Path, state: TrainingState, events: EventLog, found: Found | None) -> None:
        self._path = run_dir / PROOFS_FILE
        self._state, self._events, self._found = state, events, found
        self._after: float | None = None
        self._earlier = _mark_after(self._path, found.content["timestamp"]) if found else None

    def expect_step_after(self, moment: float) -> None:
        """A checkpoint was taken at `moment`: the next step is to leave a mark."""
        self._after = moment

    def after_step(self, step: Step) -> None:
        """To be called after each step. Waits for the device only when there is something to write or to compare."""
        if self._after is None and self._found is None:
            return
        mark = self._mark(step)
        if self._found is not None:
            self._tell(mark, self._found)
            self._found = None
        if self._after is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps(asdict(mark))}\n")  # a line that a kill has torn is ended so
            self._after = None

    def _mark(self, step: Step) -> Mark:
        state = self._state
        norms = _norms(state.model)
        return Mark(
            after=self._after or 0.0,
            step=state.step,
            attempt=state.attempt,
            loss=float(torch.stack(step.losses).mean()).hex(),
            norm=float(norms.norm()).hex(),
            norms=hashlib.sha256(norms.numpy().tobytes()).hexdigest(),
            device=device_name(state.device),
            cpu_threads=state.cpu_threads,
            torch=torch.__version__,
        )

    def _tell(self, mark: Mark, found: Found) -> None:
        config = self._state.config.model_dump(mode="json")
        verdict = compared(self._earlier, mark, config_then=found.content["config"], config=config)
        level: Level = "warning" if verdict.verdict == "differs" else "info"
        self._events.write(ResumeCheck(level=level, message=_in_words(verdict, found.entry.file), **asdict(verdict)))


def compared(earlier: Mark | None, mark: Mark, *, config_then: dict[str, Any], config: dict[str, Any]) -> Verdict:
    """What the same step, made again, shows."""
    if earlier is None:
        return Verdict("unknown", 0.0, "no step after this checkpoint was made before")
    if (earlier.loss, earlier.norms) == (mark.loss, mark.norms):
        return Verdict("exact", 0.0, "")
    difference = max(_relative(earlier.loss, mark.loss), _relative(earlier.norm, mark.norm))
    verdict = "near" if difference < NEAR else "differs"
    return Verdict(verdict, difference, "; ".join(_changes(earlier, mark, config_then, config)))


def _changes(earlier: Mark, mark: Mark, config_then: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """Why two steps may differ."""
    changes = [
        f"{name} was {then}, now {now}"
        for name, then, now in (
            ("the device", earlier.device, mark.device),
            ("the number of CPU threads", earlier.cpu_threads, mark.cpu_threads),
            ("torch", earlier.torch, mark.torch),
        )
        if then != now
    ]
    # A mark holds what device and cpu_threads came to, which their fields (such as auto) do not tell.
    measured = {field.name for field in fields(Mark)}
    settings = result_changes(config_then, config)
    changes += [f"{name} was {then}, now {now}" for name, then, now in settings if name not in measured]
    if not config["deterministic"]:
        changes.append("the run may use algorithms that do not repeat bit by bit (deterministic is off)")
    return changes or ["nothing that is known to matter has changed"]


def _relative(one: str, other: str) -> float:
    """The difference of two numbers as a share of the larger; 1 where one is no number at all."""
    first, second = float.fromhex(one), float.fromhex(other)
    largest = max(abs(first), abs(second))
    share = abs(first - second) / largest if largest else 0.0
    return share if share == share else 1.0


def _norms(model: torch.nn.Module) -> torch.Tensor:
    """The norm of each tensor of the model, parameters and averages of batch norms, on the CPU."""
    tensors = [tensor.detach() for tensor in model.state_dict().values() if tensor.is_floating_point()]
    return torch.stack(torch._foreach_norm(tensors)).double().cpu()


def _mark_after(path: Path, moment: float) -> Mark | None:
    """The newest mark that follows the checkpoint of that moment."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    return next((mark for mark in map(_parsed, reversed(lines)) if mark is not None and mark.after == moment), None)


def _parsed(line: str) -> Mark | None:
    """None for a line that a kill has cut short."""
    try:
        return Mark(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _in_words(verdict: Verdict, file: str) -> str:
    match verdict.verdict:
        case "exact":
            return f"The step after {file}, made again, is the same bit by bit."
        case "unknown":
            return f"Whether the run goes on exactly cannot be shown: {verdict.reason}."
        case _:
            share = number_text(verdict.difference, digits=2)
            return f"The step after {file}, made again, differs by {share}, as a share: {verdict.reason}."
