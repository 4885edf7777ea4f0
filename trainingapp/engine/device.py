"""Choosing the device, its number formats and its threads."""

import logging
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from trainingapp.contract.errors import BadConfig
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.training import GPU_NUMBER_TOO_HIGH, NO_BFLOAT16, NO_USABLE_GPU
from trainingapp.contract.run_directory import RunSpec

logger = logging.getLogger(__name__)


def choose_device(name: str) -> torch.device:
    """The device called "auto", "cpu", "cuda" or "cuda:N". Raises BadConfig when this machine does not have it."""
    if name == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        if count == 0:
            return torch.device("cpu")
        # The GPU with the most free memory. A single GPU is not queried: that would allocate memory on it.
        freest = max(range(count), key=lambda number: torch.cuda.mem_get_info(number)[0]) if count > 1 else 0
        name = f"cuda:{freest}"
    if count == 0:
        raise BadConfig(NO_USABLE_GPU(device=name))
    number = int(name.partition(":")[2] or 0)
    if number >= count:
        raise BadConfig(GPU_NUMBER_TOO_HIGH(device=name, count=count))
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def device_for(spec: RunSpec) -> torch.device:
    """The device that the studio assigned, else that of the configuration.

    With device auto, a GPU that the driver reports but torch cannot use is not an error: the CPU is used.
    """
    if spec.device.startswith("cuda") and spec.config.device == "auto" and not torch.cuda.is_available():
        logger.warning("%s was assigned, but torch cannot use it. Training continues on the CPU.", spec.device)
        return choose_device("cpu")
    return choose_device(spec.device or spec.config.device)


def device_name(device: torch.device) -> str:
    """A name for people, such as "cpu" or "cuda:0 (NVIDIA H100)"."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else "cpu"


def available_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_backend(*, deterministic: bool, cpu_threads: int) -> None:
    """Set torch's global switches. Sums depend on how many threads share them, so the count is a part of the run."""
    torch.set_num_threads(cpu_threads)
    torch.use_deterministic_algorithms(deterministic)
    # Filling fresh tensors with NaN to find reads of memory never written costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic


@dataclass(frozen=True)
class Precision:
    """The number format of forward passes: `dtype` for autocast, or None for plain float32."""

    device: torch.device
    dtype: torch.dtype | None

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """float16 gradients underflow without a scale; with other formats the scaler passes everything through."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)


def choose_precision(device: torch.device, *, amp: bool) -> tuple[Precision, Message | None]:
    """The format to train in, and a warning when `amp` is requested and the device does not support it."""
    if not amp:
        return Precision(device, None), None
    if device.type == "cuda":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return Precision(device, torch.bfloat16 if bf16 else torch.float16), None
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return Precision(device, torch.bfloat16), None
    return Precision(device, None), NO_BFLOAT16()
