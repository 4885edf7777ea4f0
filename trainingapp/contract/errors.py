"""The errors of a run, each with a message for the user who must act on it (no torch: imported before it)."""

import errno
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

from pydantic import JsonValue

from trainingapp.contract.messages import Message, MessageError
from trainingapp.contract.messages.training import (
    BATCH_NORM_NEEDS_TWO,
    DEVICE_ERROR,
    DISK_FULL,
    NO_MESSAGE,
    OUT_OF_MEMORY,
    READ_ONLY,
    UNEXPECTED_ERROR,
)

LINES_SHOWN = 15

#: Parts of the errors of the CUDA allocator, of the CPU's, and of oneDNN, whose whole text this is.
OUT_OF_MEMORY_TEXTS = (
    "out of memory",
    "can't allocate memory",
    "could not create a primitive",
    "could not create a memory",
)


class EngineError(MessageError):
    """A failure that the engine expects. `error_class` is what the failed event calls it."""

    error_class = "error"


class BadConfig(EngineError):
    """The configuration cannot be trained on this machine or with this dataset."""

    error_class = "bad_config"


class BadData(EngineError):
    """The dataset is corrupted or unsuitable."""

    error_class = "bad_data"


class NonFiniteLoss(EngineError):
    """The loss or the weights became NaN or infinite."""

    error_class = "non_finite_loss"


class WeightsUnavailable(EngineError):
    """Pretrained weights are neither in the cache nor can they be downloaded."""

    error_class = "weights_unavailable"


class CorruptedWeights(EngineError):
    """The file that the run starts from is not the one that the studio has stored."""

    error_class = "damaged_weights"


class DeviceUnavailable(EngineError):
    """Torch cannot use the GPU that the studio assigned."""

    error_class = "device_unavailable"


class DiskFull(EngineError):
    """No space left for a checkpoint or an event."""

    error_class = "disk_full"


class ReadOnly(EngineError):
    """Nothing can be written to the run's folder."""

    error_class = "read_only"


class StillRunning(EngineError):
    """Another trainer is running for this run."""

    error_class = "still_running"


class Superseded(EngineError):
    """A later attempt of the run has started: this one must not save anything."""

    error_class = "superseded"


class FailureData(TypedDict):
    """A stored failure, as in a failed event and in error.json of a job."""

    error_class: str
    message: str
    code: str
    params: dict[str, JsonValue]
    lines: list[str]


@dataclass(frozen=True)
class Failure:
    """Why an attempt or a job failed. `lines` are the end of the traceback."""

    error_class: str
    message: Message
    lines: list[str]

    def as_data(self) -> FailureData:
        """The failure as it is stored: the message as English text and as code with parameters."""
        return {
            "error_class": self.error_class,
            "message": str(self.message),
            **self.message.as_data(),
            "lines": self.lines,
        }


def classify(error: BaseException) -> Failure:
    """The kind of failure that `error` or one of its causes is, with a message for people."""
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()[-LINES_SHOWN:]
    for cause in _chain(error):
        if isinstance(cause, EngineError):
            return Failure(cause.error_class, cause.message, lines)
        if is_disk_full(cause):
            return Failure("disk_full", DISK_FULL(error=str(cause)), lines)
        if is_read_only(cause):
            return Failure("read_only", READ_ONLY(error=str(cause)), lines)
        if is_out_of_memory(cause):
            return Failure("out_of_memory", OUT_OF_MEMORY(error=_first_line(cause)), lines)
    if any(is_device_error(cause) for cause in _chain(error)):
        return Failure("device_error", DEVICE_ERROR(error=_first_line(error)), lines)
    if "Expected more than 1 value per channel" in str(error):
        return Failure("bad_config", BATCH_NORM_NEEDS_TWO(), lines)
    return Failure("error", UNEXPECTED_ERROR(kind=type(error).__name__, error=_first_line(error)), lines)


def is_disk_full(error: BaseException) -> bool:
    """Whether the system refused a write because of missing space or quota."""
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
    return isinstance(error, RuntimeError) and any(part in text for part in OUT_OF_MEMORY_TEXTS)


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


def _first_line(error: BaseException) -> Message | str:
    return next(iter(str(error).strip().splitlines()), None) or NO_MESSAGE()
