"""checkpoints/index.json: the checkpoints of a run, oldest first (no torch)."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trainingapp.contract.events import EVENTS_FILE, CheckpointSaved, read_events
from trainingapp.contract.retention import Item
from trainingapp.contract.storage.durable import prepared, write_durably

INDEX_FILE = "index.json"


@dataclass(frozen=True)
class Entry:
    """One checkpoint in the index. `step` counts optimizer steps of the run, `step_in_epoch` those of its epoch.

    `size_bytes` is all that it holds on the disk, shared with others or not; `sha256` that of the file itself.
    """

    file: str
    epoch: int
    step: int
    step_in_epoch: int
    attempt: int
    reason: str
    size_bytes: int
    sha256: str
    metrics: dict[str, float]
    is_best: bool
    time: float

    def without_best(self) -> "Entry":
        return replace(self, is_best=False)

    def item(self, metric: str, *, is_pinned: bool, parts: Mapping[str, int], is_valid: bool = True) -> Item:
        """The checkpoint as the rules of retention see it."""
        return Item(
            file=self.file,
            epoch=self.epoch,
            time=self.time,
            value=self.metrics.get(metric),
            is_best=self.is_best,
            is_pinned=is_pinned,
            is_valid=is_valid,
            is_epoch_end=self.reason == "epoch",
            parts=parts,
        )


def read_index(checkpoints: Path) -> list[Entry]:
    """The entries; none where there is no index. Raises ValueError or TypeError where it is damaged."""
    try:
        return [Entry(**values) for values in json.loads((checkpoints / INDEX_FILE).read_text())]
    except FileNotFoundError:
        return []


def write_index(checkpoints: Path, entries: Iterable[Entry]) -> None:
    """Raises OSError."""
    write_durably(checkpoints / INDEX_FILE, [_index_bytes(entries)])


def prepared_index(checkpoints: Path, entries: Iterable[Entry]) -> Path:
    """A whole index beside the present one, to be renamed. Raises OSError."""
    return prepared(checkpoints / INDEX_FILE, [_index_bytes(entries)])


def _index_bytes(entries: Iterable[Entry]) -> bytes:
    return json.dumps([asdict(entry) for entry in entries], indent=1).encode()


def entries_by_events(checkpoints: Path) -> list[Entry]:
    """The existing checkpoints, as they were described when they were saved, oldest first."""
    found: dict[str, Entry] = {}
    for event, _end in read_events(checkpoints.parent / EVENTS_FILE, 0, max_bytes=-1):
        if isinstance(event, CheckpointSaved) and (checkpoints / event.file).exists():
            found.pop(event.file, None)
            if event.is_best:
                found = {file: entry.without_best() for file, entry in found.items()}
            found[event.file] = Entry(
                file=event.file,
                epoch=event.epoch or 0,
                step=event.step or 0,
                step_in_epoch=event.step_in_epoch,
                attempt=event.attempt or 0,
                reason=event.reason,
                size_bytes=event.size_bytes,
                sha256=event.sha256,
                metrics=event.metrics,
                is_best=event.is_best,
                time=event.time,
            )
    return list(found.values())
