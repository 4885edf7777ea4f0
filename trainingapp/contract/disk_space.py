"""How much disk space a run needs (no torch)."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from trainingapp.contract.config import RunConfig
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.engine_jobs import DISK_SHORT
from trainingapp.contract.retention import GB, LEAST_VALID

#: Checkpoints that no limit removes: the newest two and the best one.
FIRM = LEAST_VALID + 1


#: A disk with less free space than this share, or these bytes, is almost full.
LOW_SHARE, LOW_BYTES = 0.05, 5 * 2**30


@dataclass(frozen=True)
class DiskSpace:
    """`checkpoints` is the largest number that exists at once, including the one that is being written."""

    bytes_per_checkpoint: int
    checkpoints: int
    bytes_in_all: int
    free_bytes: int
    short_by_bytes: int


def disk_space(config: RunConfig, *, bytes_per_checkpoint: int, free_bytes: int) -> DiskSpace:
    """The most that a run of this configuration needs under its retention policy, and how much of it is missing."""
    count = checkpoints_at_most(config)
    needed = count * bytes_per_checkpoint
    if config.keep_gb:
        within = max(round(config.keep_gb * GB), FIRM * bytes_per_checkpoint)
        needed = min(needed, within + bytes_per_checkpoint)
    return DiskSpace(bytes_per_checkpoint, count, needed, free_bytes, max(0, needed - free_bytes))


def checkpoints_at_most(config: RunConfig) -> int:
    """The newest and the best ones that are kept, at most as many as will ever exist, and the one being written.

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


def is_almost_full(*, total_bytes: int, free_bytes: int) -> bool:
    """Whether a disk is almost full."""
    return free_bytes < min(LOW_BYTES, total_bytes * LOW_SHARE)


def disk_warning(space: DiskSpace) -> Message | None:
    """A warning where the space is not sufficient."""
    if not space.short_by_bytes:
        return None
    free, needed, short = (_size(count) for count in (space.free_bytes, space.bytes_in_all, space.short_by_bytes))
    return DISK_SHORT(free=free, needed=needed, count=space.checkpoints, short=short)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
