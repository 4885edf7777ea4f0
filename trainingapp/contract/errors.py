"""The errors of a run, each with a message for the user who must act on it (no torch: imported before it)."""

import errno
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

from pydantic import JsonValue

from trainingapp.contract.messages import Message, MessageError
from trainingapp.contract.messages.training import (
    ARCHITECTURE_UNSUPPORTED,
    BATCH_NORM_NEEDS_TWO,
    DEVICE_ASSERT,
    DEVICE_ERROR,
    DISK_FULL,
    DRIVER_UNSUITABLE,
    NO_MESSAGE,
    NOT_DETERMINISTIC_OPERATION,
    OUT_OF_MEMORY,
    READ_ONLY,
    SHARED_MEMORY,
    UNEXPECTED_ERROR,
)

LINES_SHOWN = 15

#: What torch, CUDA and the libraries below them report, by class, in the order in which it is tried. Each pattern is
#: searched in the text of a RuntimeError and, by the supervisor, in the lines of a log.
SIGNS: tuple[tuple[str, str], ...] = (
    (
        "shared_memory",
        # A loader process that writes beyond a full /dev/shm gets SIGBUS; one that asks for more than is left, ENOSPC.
        r"killed by signal: Bus error|insufficient shared memory \(shm\)|unable to allocate shared memory\(shm\)"
        r"|unable to (write to|resize) file </torch_",
    ),
    (
        "driver",
        r"NVIDIA driver on your system is too old|Found no NVIDIA driver|CUDA driver version is insufficient"
        r"|unsupported display driver / cuda driver combination|provided PTX was compiled with an unsupported toolchain"
        r"|forward compatibility was attempted on non supported HW|[Dd]river/library version mismatch"
        r"|no kernel image is available for execution",
    ),
    (
        "out_of_memory",
        r"[Oo]ut of memory|OutOfMemoryError|[Cc]an(?:'|no)t allocate memory|std::bad_alloc|^MemoryError\b"
        # oneDNN on a CPU: these are the whole texts.
        r"|could not create a (?:primitive|memory)"
        # Libraries that allocate beside torch have codes of their own; without memory, their handles are not created.
        r"|CU(?:BLAS|DNN|SOLVER|SPARSE|FFT)_STATUS_ALLOC_FAILED|CU(?:BLAS|DNN)_STATUS_NOT_INITIALIZED"
        r"|CUDNN_STATUS_\w+_ALLOCATION_FAILED"
        # cuDNN has tried each engine, and none got its workspace.
        r"|unable to find an engine to execute this computation"
        # The allocator asks NVML for its error message, after an allocation has failed.
        r"|NVML_SUCCESS == .*CUDACachingAllocator",
    ),
    ("not_deterministic", r"does not have a deterministic implementation"),
    ("device_assert", r"device-side assert"),
    (
        "device_error",
        r"CUDA(?: driver)? error|unspecified launch failure|(?i:launch failure)|(?i:ecc error)|\bXid\b|CUDNN_STATUS_"
        r"|\bNCCL (?:error|WARN)|ncclUnhandledCudaError",
    ),
)

#: CUDA's name of the error where the GPU is newer or older than those that torch was compiled for.
NO_KERNEL = "no kernel image is available"
OPERATION = re.compile(r"(\S+) does not have a deterministic implementation")


class EngineError(MessageError):
    """A failure that the engine expects. `error_class` is what the failed event calls it."""

    error_class = "error"


class BadConfig(EngineError):
    """The configuration cannot be trained on this machine or with this dataset."""

    error_class = "bad_config"


class BadData(EngineError):
    """The dataset is corrupted or unsuitable."""

    error_class = "bad_data"


class NotDeterministic(EngineError):
    """The network has no deterministic algorithm on this device, and the configuration requires one."""

    error_class = "not_deterministic"


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


class LostRank(EngineError):
    """A process of a run on several devices has ended, or does not respond."""

    error_class = "lost_rank"


class RanksDiffer(EngineError):
    """The processes of a run on several devices have different weights."""

    error_class = "ranks_differ"


class RankFailed(EngineError):
    """A process of a run on several devices has reported a failure, of the class `error_class`."""

    def __init__(self, error_class: str, message: Message) -> None:
        super().__init__(message)
        self.error_class = error_class


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
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, EngineError):
            return Failure(cause.error_class, cause.message, lines)
        if is_disk_full(cause):
            return Failure("disk_full", DISK_FULL(error=str(cause)), lines)
        if is_read_only(cause):
            return Failure("read_only", READ_ONLY(error=str(cause)), lines)
        if (found := error_sign(cause)) and found != "device_error":
            return Failure(found, _sign_message(found, cause), lines)
    # Last, because such an error may hide its cause: that of a loader or of the memory.
    if any(is_device_error(cause) for cause in chain):
        return Failure("device_error", DEVICE_ERROR(error=_first_line(error)), lines)
    if "Expected more than 1 value per channel" in str(error):
        return Failure("bad_config", BATCH_NORM_NEEDS_TWO(), lines)
    return Failure("error", UNEXPECTED_ERROR(kind=type(error).__name__, error=_first_line(error)), lines)


def error_sign(error: BaseException) -> str | None:
    """The class of an error of torch or of the system by its text or number; None where it has no sign of any."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return "out_of_memory"
    # torch.OutOfMemoryError, torch.AcceleratorError and the errors of NCCL are RuntimeErrors. Without a driver, torch
    # raises an AssertionError in some versions.
    if not isinstance(error, RuntimeError | AssertionError):
        return None
    return next((name for name, pattern in SIGNS if re.search(pattern, str(error), re.MULTILINE)), None)


def _sign_message(error_class: str, error: BaseException) -> Message:
    line = _first_line(error)
    match error_class:
        case "shared_memory":
            return SHARED_MEMORY(error=line)
        case "driver":
            return ARCHITECTURE_UNSUPPORTED(error=line) if NO_KERNEL in str(error) else DRIVER_UNSUITABLE(error=line)
        case "not_deterministic":
            return NOT_DETERMINISTIC_OPERATION(operation=nondeterministic_operation(error) or line)
        case "device_assert":
            return DEVICE_ASSERT(error=line)
        case _:
            return OUT_OF_MEMORY(error=line)


def nondeterministic_operation(error: BaseException) -> str | None:
    """The operation that deterministic algorithms exclude, such as "adaptive_avg_pool2d_backward_cuda"; None for other
    errors."""
    found = OPERATION.search(str(error)) if isinstance(error, RuntimeError) else None
    return found[1] if found else None


def is_disk_full(error: BaseException) -> bool:
    """Whether the system refused a write because of missing space or quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_read_only(error: BaseException) -> bool:
    """Whether the system refused a write because the file system is mounted read-only, as after an error of a disk."""
    return isinstance(error, OSError) and error.errno == errno.EROFS


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the device or of the machine ran out."""
    return error_sign(error) == "out_of_memory"


def is_device_error(error: BaseException) -> bool:
    """Whether the GPU, its driver or the link between GPUs failed; torch raises a RuntimeError for all of them."""
    return error_sign(error) == "device_error"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from or while handling, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> Message | str:
    return next(iter(str(error).strip().splitlines()), None) or NO_MESSAGE()
