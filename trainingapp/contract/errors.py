"""What can go wrong in a run, in words for the person who has to act on it (no torch: imported before it)."""

import errno
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

LINES_SHOWN = 15

READ_ONLY_ADVICE = "No checkpoint was lost: the run goes on from the newest once its folder can be written to again."
OUT_OF_MEMORY_ADVICE = "Halve batch_size, choose a smaller image_size or model, or turn on amp."


#: Of the CUDA allocator, the CPU's, and oneDNN, which says no more than that.
OUT_OF_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "could not create a primitive",
    "could not create a memory",
)


class EngineError(Exception):
    """A failure that the engine foresaw. `error_class` is one of the names of the failed event.

    Built from the message alone, so that it survives the way from a loader process to the trainer.
    """

    error_class = "error"


class BadConfig(EngineError):
    """The configuration cannot be trained on this machine or with this dataset."""

    error_class = "bad_config"


class BadData(EngineError):
    """The dataset is damaged or unfit."""

    error_class = "bad_data"


class NonFiniteLoss(EngineError):
    """The loss or the weights became NaN or infinite."""

    error_class = "non_finite_loss"


class WeightsUnavailable(EngineError):
    """Pretrained weights are neither in the cache nor to be had from their host."""

    error_class = "weights_unavailable"


class DamagedWeights(EngineError):
    """The file that the run begins with is not the one that the studio has stored."""

    error_class = "damaged_weights"


class DiskFull(EngineError):
    """No space left for a checkpoint or an event."""

    error_class = "disk_full"


class ReadOnly(EngineError):
    """Nothing can be written to the run's folder."""

    error_class = "read_only"


class StillRunning(EngineError):
    """Another trainer works on the run."""

    error_class = "still_running"


class Superseded(EngineError):
    """A later attempt of the run has begun: nothing of this one may be saved any more."""

    error_class = "superseded"


@dataclass(frozen=True)
class Failure:
    """A failed event's payload."""

    error_class: str
    message: str
    lines: list[str]


def classify(error: BaseException) -> Failure:
    """Find out what kind of failure `error` is and say it in a sentence or two."""
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()[-LINES_SHOWN:]
    for cause in _chain(error):
        if isinstance(cause, EngineError):
            return Failure(cause.error_class, str(cause), lines)
        if is_disk_full(cause):
            return Failure("disk_full", f"The disk is full ({cause}). Free some space, then resume the run.", lines)
        if is_read_only(cause):
            return Failure(
                "read_only", f"Nothing can be written to the run's folder ({cause}). {READ_ONLY_ADVICE}", lines
            )
        if is_out_of_memory(cause):
            return Failure("out_of_memory", f"Memory ran out: {_first_line(cause)} {OUT_OF_MEMORY_ADVICE}", lines)
    if any(is_device_error(cause) for cause in _chain(error)):
        return Failure("device_error", f"The GPU reported an error: {_first_line(error)}", lines)
    if "Expected more than 1 value per channel" in str(error):
        return Failure("bad_config", "Batch norm cannot train on one image at a time: use batch_size 2 or more.", lines)
    return Failure("error", f"{type(error).__name__}: {_first_line(error)}", lines)


def is_disk_full(error: BaseException) -> bool:
    """Whether the system refused a write for want of space or quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_read_only(error: BaseException) -> bool:
    """Whether the system refused a write because the file system is mounted read-only, as after an error of a disk."""
    return isinstance(error, OSError) and error.errno == errno.EROFS


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the device or of the machine ran out.

    torch.OutOfMemoryError is a RuntimeError; the CPU's allocator raises a plain one.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY_WORDS)


def is_device_error(error: BaseException) -> bool:
    """Whether the GPU, its driver or the link between GPUs failed; torch raises a RuntimeError for all of them."""
    signs = ("cuda error", "device-side assert", "launch failure", "ecc error", "nccl error", "cudnn_status_")
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from or while handling, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message."])[0]
