"""Which checkpoints stay. Pure: the trainer asks after each save, pages ask before they promise anything (no torch).

Rules that keep add up: the newest, the best by the metric that decides, every so many epochs. Limits take away from
what they keep, oldest first: by age, and by bytes. Over both stand the best one, those kept by hand, and the newest
two sound ones while the run may go on.
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
LEAST_SOUND = 2
PINS_FILE = "pins.json"


@dataclass(frozen=True)
class Policy:
    """What a configuration says; 0 turns a rule or a limit off, but for `last`."""

    last: int = 3
    best: int = 1
    every_epochs: int = 0
    days: float = 0.0
    gb: float = 0.0


@dataclass(frozen=True)
class Item:
    """A checkpoint as the rules see it. `value` is that of the metric that decides; `time` in Unix seconds.

    `parts` are its bytes by part: parts of the same name are stored once, however many checkpoints need them.
    """

    file: str
    epoch: int
    time: float
    value: float | None = None
    is_best: bool = False
    is_pinned: bool = False
    is_sound: bool = True
    is_epoch_end: bool = False
    parts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """Files that stay, oldest first, each with the reasons; and those that go."""

    kept: dict[str, list[str]]
    removed: list[str]


def choose(
    items: Sequence[Item], policy: Policy, *, now: float, higher_is_better: bool, may_go_on: bool = True
) -> Choice:
    """Apply the policy to the checkpoints of a run, given oldest first."""
    firm = _firm(items, may_go_on=may_go_on)
    kept = _joined(firm, _kept_by_rules(items, policy, higher_is_better=higher_is_better))
    if policy.days:
        youngest = now - policy.days * DAY_S
        kept = {file: why for file, why in kept.items() if file in firm or _named(items, file).time >= youngest}
    if policy.gb:
        kept = _within(items, kept, firm, policy.gb * GB)
    order = [item.file for item in items]
    return Choice({file: kept[file] for file in order if file in kept}, [file for file in order if file not in kept])


def total_bytes(items: Sequence[Item]) -> int:
    """What they take together."""
    parts: dict[str, int] = {}
    for item in items:
        parts.update(item.parts)
    return sum(parts.values())


def _firm(items: Sequence[Item], *, may_go_on: bool) -> dict[str, list[str]]:
    """What no policy takes away."""
    found: dict[str, list[str]] = {}
    for item in items:
        if item.is_best:
            found.setdefault(item.file, []).append("best")
        if item.is_pinned:
            found.setdefault(item.file, []).append("pinned")
    sound = [item for item in items if item.is_sound]
    for item in sound[-LEAST_SOUND:] if may_go_on else sound[-1:]:
        found.setdefault(item.file, []).append("resume")
    return found


def _kept_by_rules(items: Sequence[Item], policy: Policy, *, higher_is_better: bool) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in items[-policy.last :] if policy.last else ():
        found.setdefault(item.file, []).append("last")
    rated = [item for item in items if item.value is not None and item.is_sound]
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
    """Take away the oldest that may go until the rest fits."""
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


def _joined(one: Mapping[str, list[str]], other: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {file: [*one.get(file, ()), *other.get(file, ())] for file in {**one, **other}}


def _named(items: Sequence[Item], file: str) -> Item:
    return next(item for item in items if item.file == file)


@contextmanager
def held_pins(run_dir: Path) -> Iterator[set[str]]:
    """The files in RUN_DIR/pins.json, which nobody else changes or acts upon meanwhile; what is changed is stored."""
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
    """A list cut short by a crash is read as far as it goes: too much kept is better than too little."""
    try:
        return {str(name) for name in json.loads(text or "[]")}
    except ValueError:
        return {part for part in text.split('"') if part.endswith(".pt")}
