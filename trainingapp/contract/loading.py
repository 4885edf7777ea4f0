"""How images are loaded: the number of loader processes, of batches that they prepare, and the memory for images.

Chosen from the machine; the same rules serve the trainer, which follows them, and the form, which shows what they come
to. Nothing of this changes a result: batches depend on the seed alone.
"""

from dataclasses import dataclass, replace
from typing import Literal

from trainingapp.contract.messages import Message
from trainingapp.contract.messages.loading import (
    LOADERS_CHOSEN,
    LOADERS_IN_TRAINER,
    LOADERS_LIMITED,
    LOADERS_NONE_LEFT,
    LOADERS_NONE_ON_CPU,
    LOADERS_OF_GPU,
)

MB = 1_000_000
MOST_AUTOMATIC = 12
PREFETCH = 4
"""Batches that each loader process prepares ahead."""

LEAST_PREFETCH = 2
CACHE_SHARE, CACHE_SHARE_OF_FREE = 0.25, 0.5
"""Of the memory of a machine, for the decoded images of the runs on it; and of what is available now, for one run."""

SHARED_MARGIN = 0.8
"""Share of the free shared memory that batches may take."""


@dataclass(frozen=True)
class Machine:
    """What a trainer may use there: memory in bytes; `shared_bytes` is free in /dev/shm, None where that is unknown."""

    cores: int
    gpus: int
    memory_bytes: int
    free_bytes: int
    shared_bytes: int | None = None


@dataclass(frozen=True)
class Loading:
    """`prefetch` counts the batches ahead of each process, `cache_bytes` is the most that decoded images may take.

    `is_limited`: fewer processes than wanted, because batches would not fit into the shared memory.
    """

    processes: int
    prefetch: int
    cache_bytes: int
    reason: Message
    is_limited: bool = False


def loading_of(num_workers: int | Literal["auto"], machine: Machine, *, on_gpu: bool, batch_bytes: int) -> Loading:
    """How a run with this setting loads its images there; `batch_bytes` is the size of one of its batches."""
    count, reason = _wanted(num_workers, machine, on_gpu=on_gpu)
    cache = min(CACHE_SHARE * machine.memory_bytes / max(1, machine.gpus), CACHE_SHARE_OF_FREE * machine.free_bytes)
    wanted = Loading(count, PREFETCH, int(cache), reason)
    return _within_shared_memory(wanted, machine.shared_bytes, max(1, batch_bytes))


def _wanted(num_workers: int | Literal["auto"], machine: Machine, *, on_gpu: bool) -> tuple[int, Message]:
    if num_workers != "auto":
        return num_workers, LOADERS_CHOSEN(count=num_workers) if num_workers else LOADERS_IN_TRAINER()
    if not on_gpu:
        return 0, LOADERS_NONE_ON_CPU()
    gpus = max(1, machine.gpus)
    count = max(0, min(MOST_AUTOMATIC, machine.cores // gpus - 1))
    facts = {"cores": machine.cores, "gpus": gpus, "most": MOST_AUTOMATIC}
    return count, LOADERS_OF_GPU(count=count, **facts) if count else LOADERS_NONE_LEFT()


def _within_shared_memory(wanted: Loading, shared_bytes: int | None, batch_bytes: int) -> Loading:
    """Fewer batches ahead, then fewer processes, where their batches would not fit.

    Each process has one batch in work beside those that it has prepared.
    """
    if not wanted.processes or shared_bytes is None:
        return wanted
    room = int(SHARED_MARGIN * shared_bytes / batch_bytes)
    prefetch = max(LEAST_PREFETCH, min(wanted.prefetch, room // wanted.processes - 1))
    count = min(wanted.processes, room // (prefetch + 1))
    if count == wanted.processes:
        return replace(wanted, prefetch=prefetch)
    facts = {"free_mb": shared_bytes // MB, "batch_mb": -(-batch_bytes // MB)}
    return replace(
        wanted, processes=count, prefetch=prefetch, reason=LOADERS_LIMITED(count=count, **facts), is_limited=True
    )
