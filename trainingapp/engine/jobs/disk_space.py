"""How much room a run needs on the disk (no torch)."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from trainingapp.engine.config import RunConfig


@dataclass(frozen=True)
class DiskSpace:
    """`checkpoints` are the most that lie there at once, with the one that is being written."""

    bytes_per_checkpoint: int
    checkpoints: int
    bytes_in_all: int
    free_bytes: int
    short_by_bytes: int


def disk_space(config: RunConfig, *, bytes_per_checkpoint: int, free_bytes: int) -> DiskSpace:
    """What a run of this configuration takes at most under its retention, and how much of that there is not."""
    count = checkpoints_at_most(config)
    needed = count * bytes_per_checkpoint
    return DiskSpace(bytes_per_checkpoint, count, needed, free_bytes, max(0, needed - free_bytes))


def checkpoints_at_most(config: RunConfig) -> int:
    """The newest that stay and the best, but no more than there will ever be; and one that is being written."""
    values = config.model_dump()
    kept = config.keep_checkpoints + int(values.get("keep_best", 1))
    if every := int(values.get("keep_every_epochs", 0)):
        kept += config.epochs // every
    made = math.ceil(config.epochs / config.checkpoint_every_epochs)
    if config.autosave_minutes:
        made += config.keep_checkpoints
    return min(kept, made) + 1


def free_bytes_at(folder: Path) -> int:
    """Free space of the disk that holds `folder`, or will hold it."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def in_words(space: DiskSpace) -> str:
    """A sentence for who is short of it."""
    return (
        f"The disk has {_size(space.free_bytes)} free and the run may need {_size(space.bytes_in_all)} for "
        f"{space.checkpoints} checkpoints: {_size(space.short_by_bytes)} too little. Free some, or keep fewer."
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
