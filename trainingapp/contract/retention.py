"""The retention policy: which checkpoints are kept. Pure functions for the trainer and for pages (no torch).

The rules are cumulative: the newest, the best by the model-selection metric, every n-th epoch. Limits by age and by
size then remove the oldest of these. Neither removes the best checkpoint, pinned ones, or the newest two valid ones
of a run that can be resumed.
"""

import fcntl
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

DAY_S = 86400.0
GB = 1_000_000_000
LEAST_VALID = 2
PINS_FILE = "pins.json"


@dataclass(frozen=True)
class Policy:
    """The policy of a configuration; 0 disables a rule or a limit, except `last`."""

    last: int = 3
    best: int = 1
    every_epochs: int = 0
    days: float = 0.0
    gb: float = 0.0


@dataclass(frozen=True)
class Item:
    """A checkpoint. `value` is that of the model-selection metric; `time` is in Unix seconds.

    `parts` holds its bytes by part: parts with the same name are stored once, for all checkpoints that need them.
    """

    file: str
    epoch: int
    time: float
    value: float | None = None
    is_best: bool = False
    is_pinned: bool = False
    is_valid: bool = True
    is_epoch_end: bool = False
    parts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """Files to keep, oldest first, each with the reasons; and files to remove."""

    kept: dict[str, list[str]]
    removed: list[str]


def choose(
    items: Sequence[Item], policy: Policy, *, now: float, higher_is_better: bool, may_resume: bool = True
) -> Choice:
    """Apply the policy to the checkpoints of a run, given oldest first."""
    firm = _firm(items, may_resume=may_resume)
    by_rules = _kept_by_rules(items, policy, higher_is_better=higher_is_better)
    kept = {file: [*firm.get(file, ()), *by_rules.get(file, ())] for file in firm | by_rules}
    if policy.days:
        youngest = now - policy.days * DAY_S
        recent = {item.file for item in items if item.time >= youngest}
        kept = {file: why for file, why in kept.items() if file in firm or file in recent}
    if policy.gb:
        kept = _within(items, kept, firm, policy.gb * GB)
    order = [item.file for item in items]
    return Choice({file: kept[file] for file in order if file in kept}, [file for file in order if file not in kept])


def total_bytes(items: Sequence[Item]) -> int:
    """Bytes of all items together; shared parts count once."""
    parts: dict[str, int] = {}
    for item in items:
        parts.update(item.parts)
    return sum(parts.values())


def _firm(items: Sequence[Item], *, may_resume: bool) -> dict[str, list[str]]:
    """Files that no policy removes, with the reasons."""
    found: dict[str, list[str]] = {}
    for item in items:
        if item.is_best:
            found.setdefault(item.file, []).append("best")
        if item.is_pinned:
            found.setdefault(item.file, []).append("pinned")
    valid = [item for item in items if item.is_valid]
    for item in valid[-LEAST_VALID:] if may_resume else valid[-1:]:
        found.setdefault(item.file, []).append("resume")
    return found


def _kept_by_rules(items: Sequence[Item], policy: Policy, *, higher_is_better: bool) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in items[-policy.last :] if policy.last else ():
        found.setdefault(item.file, []).append("last")
    rated = [item for item in items if item.value is not None and item.is_valid]
    rated.sort(key=lambda item: (-item.value if higher_is_better else item.value) if item.value is not None else 0.0)
    for item in rated[: policy.best]:
        found.setdefault(item.file, []).append("best of all")
    for item in items:
        if policy.every_epochs and item.is_epoch_end and item.epoch % policy.every_epochs == 0:
            found.setdefault(item.file, []).append("every")
    return found


def _within(
    items: Sequence[Item], kept: dict[str, list[str]], firm: Mapping[str, object], most_bytes: float
) -> dict[str, list[str]]:
    """Drop the oldest removable files until the rest is within `most_bytes`."""
    left = dict(kept)
    uses = Counter(name for item in items if item.file in kept for name in item.parts)
    total = total_bytes([item for item in items if item.file in kept])
    for item in items:
        if total <= most_bytes:
            break
        if item.file in left and item.file not in firm:
            del left[item.file]
            uses.subtract(item.parts.keys())
            total -= sum(size for name, size in item.parts.items() if not uses[name])
    return left


@contextmanager
def held_pins(run_dir: Path) -> Iterator[set[str]]:
    """The pinned files in RUN_DIR/pins.json under an exclusive lock; changes are stored at the end."""
    with (run_dir / PINS_FILE).open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        pins = _read_pins(file.read())
        before = set(pins)
        yield pins
        if pins != before:
            file.seek(0)
            file.truncate()
            json.dump(sorted(pins), file)
            file.flush()


def _read_pins(text: str) -> set[str]:
    """The names in a list that a crash may have truncated: keeping too many files is better than too few."""
    try:
        return {str(name) for name in json.loads(text or "[]")}
    except ValueError:
        return {part for part in text.split('"') if part.endswith(".pt")}
