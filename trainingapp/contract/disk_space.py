"""How much room a run needs on the disk (no torch)."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from trainingapp.contract.config import RunConfig
from trainingapp.contract.retention import GB, LEAST_SOUND

#: Checkpoints that no limit takes away: the newest two, and the best one.
FIRM = LEAST_SOUND + 1


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
    if config.keep_gb:
        within = max(round(config.keep_gb * GB), FIRM * bytes_per_checkpoint)
        needed = min(needed, within + bytes_per_checkpoint)
    return DiskSpace(bytes_per_checkpoint, count, needed, free_bytes, max(0, needed - free_bytes))


def checkpoints_at_most(config: RunConfig) -> int:
    """The newest that stay and the best, but no more than there will ever be; and one that is being written.

    Every epoch may save one, whatever `checkpoint_every_epochs` says: the best result so far is always saved.
    """
    kept = config.keep_checkpoints + config.keep_best
    if config.keep_every_epochs:
        kept += config.epochs // config.keep_every_epochs
    made = config.epochs + (config.keep_checkpoints if config.autosave_minutes else 0)
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
