"""Choosing the device, its number formats and its threads."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch

from trainingapp.contract.base_config import AmpChoice, BaseRunConfig, DeterminismChoice
from trainingapp.contract.errors import BadConfig, DeviceUnavailable, is_out_of_memory
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.training import (
    DEVICE_UNAVAILABLE,
    GPU_NUMBER_TOO_HIGH,
    NO_BFLOAT16,
    NO_USABLE_GPU,
)
from trainingapp.contract.run_directory import RunSpec
from trainingapp.engine import nvml

#: Values of oneDNN's ONEDNN_MAX_CPU_ISA with which it may use such units.
ISAS_WITH_BFLOAT16 = (
    "",
    "DEFAULT",
    "ALL",
    "AVX512_CORE_BF16",
    "AVX512_CORE_FP16",
    "AVX512_CORE_AMX",
    "AVX10_1_512",
    "AVX10_1_512_AMX",
    "AVX512_CORE_AMX_FP16",
    "AVX10_1_512_AMX_FP16",
)


def choose_device(name: str) -> torch.device:
    """As `find_device`; a GPU becomes the current one, for which a context is created."""
    device = find_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def find_device(name: str) -> torch.device:
    """The device called "auto", "cpu", "cuda" or "cuda:N". Raises BadConfig when this machine does not have it.

    "auto" and "cuda" are the GPU with the most free memory.
    """
    if name == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        if name == "auto":
            return torch.device("cpu")
        raise BadConfig(NO_USABLE_GPU(device=name))
    # The driver is asked, because torch would create a context on each GPU, which takes half a gigabyte.
    number = int(name.partition(":")[2]) if ":" in name else max(range(count), key=_free_memory)
    if number >= count:
        raise BadConfig(GPU_NUMBER_TOO_HIGH(device=name, count=count))
    return torch.device("cuda", number)


def _free_memory(number: int) -> int:
    return nvml.free_bytes(torch.device("cuda", number)) or 0


def device_for(spec: RunSpec) -> torch.device:
    """The device that the studio assigned, else that of the configuration. Raises BadConfig and DeviceUnavailable."""
    if spec.device.startswith("cuda"):
        return assigned_gpu(spec.device, spec.device_uuid)
    return choose_device(spec.device or spec.config.device)


def assigned_gpu(name: str, uuid: str) -> torch.device:
    """The GPU that the studio assigned, called "cuda:N" there; `uuid` names it, or a slice of a GPU (MIG).

    Raises DeviceUnavailable where torch cannot use it: no other device is taken instead, neither a GPU that belongs to
    another run nor the CPU.
    """
    with usable(name):
        number = gpu_number(uuid) if uuid else int(name.partition(":")[2])
        torch.cuda.set_device(number)
        torch.ones(1, device="cuda").sum().item()  # the first kernel: torch may have none for this GPU
    return torch.device("cuda", number)


@contextmanager
def usable(name: str) -> Iterator[None]:
    """Within, errors of torch and of the driver mean that the GPU of this name is unusable: they are raised as
    DeviceUnavailable. Lack of memory stays what it is."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DeviceUnavailable(DEVICE_UNAVAILABLE(device=name, error=reason)) from error


def gpu_number(uuid: str) -> int:
    """The number that torch gives the GPU in this process, without starting CUDA. Raises RuntimeError where torch does
    not see the GPU, if CUDA has started before."""
    if not torch.cuda.is_initialized():
        # CUDA reads the variable when it starts: this process sees this GPU alone, whatever happens to the others.
        os.environ["CUDA_VISIBLE_DEVICES"] = uuid
        return 0
    for number in range(torch.cuda.device_count()):
        if uuid.endswith(str(torch.cuda.get_device_properties(number).uuid)):
            return number
    raise RuntimeError(f"No CUDA GPU has the UUID {uuid}")


def device_name(device: torch.device, known_as: str = "") -> str:
    """A name for people, such as "cpu" or "cuda:0 (NVIDIA H100)".

    `known_as` is the name that the studio gives the device: its number in this process may be another.
    """
    if device.type != "cuda":
        return "cpu"
    return f"{known_as or device} ({torch.cuda.get_device_name(device)})"


def available_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_deterministic(deterministic: bool) -> None:
    """Let operations without a deterministic algorithm raise, or not.

    `torch.use_deterministic_algorithms` would also import the compiler, for a switch of its own (see compilation.py).
    """
    torch.set_deterministic_debug_mode("error" if deterministic else "default")


def prepare_backend(*, deterministic: bool, cpu_threads: int, tf32: bool = False) -> None:
    """Set torch's global switches. Sums depend on how many threads share them, so the count is a part of the run.

    `tf32`: a GPU multiplies matrices of float32 numbers rounded to 10 bits of mantissa. Convolutions do so in any case,
    as is torch's default. On a CPU the switch must stay off: there it means other formats.
    """
    torch.set_num_threads(cpu_threads)
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    set_deterministic(deterministic)
    # Filling fresh tensors with NaN to find reads of memory never written costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic


def memory_format_of(config: BaseRunConfig) -> torch.memory_format:
    """Of the network and its images. Channels last is up to twice as fast on CPUs and on GPUs with tensor cores."""
    return torch.channels_last if config.channels_last else torch.contiguous_format


@dataclass(frozen=True)
class Precision:
    """The number format of forward passes: `dtype` for autocast, or None for plain float32.

    `tf32` is that of `prepare_backend`.
    """

    device: torch.device
    dtype: torch.dtype | None
    tf32: bool = False

    @property
    def name(self) -> str:
        """What people and the resume check read: bfloat16, float16, tf32 or float32."""
        return str(self.dtype).removeprefix("torch.") if self.dtype else "tf32" if self.tf32 else "float32"

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """float16 gradients underflow without a scale; with other formats the scaler passes everything through."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)


def has_bfloat16_units() -> bool:
    """Whether this CPU multiplies bfloat16 numbers (AMX, AVX512_BF16, or ARM's BF16): with others, oneDNN computes in
    float32 and converts, which is slower than float32."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper() not in ISAS_WITH_BFLOAT16:
        return False
    names = ("amx_bf16", "avx512_bf16", "arm_bf16", "bf16")
    return any(torch.cpu.get_capabilities().get(name) for name in names)


def choose_precision(
    device: torch.device,
    *,
    amp: AmpChoice,
    deterministic: DeterminismChoice = "exact",
    trained_in: str = "",
) -> tuple[Precision, Message | None]:
    """The format to train in, and a warning where `amp` is on and the device does not support it.

    `trained_in` is the name of the format in which a run has trained until now, or that suits a new one: on a CPU, auto
    is bfloat16 if it is that, whatever this CPU has, and float32 otherwise (see number_format.py).
    """
    tf32 = device.type == "cuda" and deterministic != "exact"
    if device.type == "cpu" and amp == "auto":
        amp = "on" if trained_in == "bfloat16" else "off"
    if amp == "off":
        return Precision(device, None, tf32), None
    if device.type == "cuda":
        # bfloat16 is in the hardware from compute capability 8.0; torch emulates it on older GPUs, slowly.
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return Precision(device, torch.bfloat16 if bf16 else torch.float16, tf32), None
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return Precision(device, torch.bfloat16), None
    return Precision(device, None), NO_BFLOAT16()
