"""A pretend GPU for a machine without one: its tensors say cuda:0 and are computed on the CPU.

It finds tensors of two devices in one operation, where the host would wait for the GPU, and operations that CUDA has no
deterministic algorithm for, each with the line of code outside of torch. It does not find missing kernels, what cuDNN
chooses, races between streams, and tells nothing about memory and speed.

The process must have `device_count.c` preloaded, because torch's C++ code asks for the number of devices.
"""

import ctypes
import importlib
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.helpers.synchronizations import INDEXING, READS
from trainingapp.engine.gpu_check.case import is_torch, place

GPU = torch.device("cuda", 0)
MEMORY_BYTES = 80 << 30
#: The guard for devices that do not exist counts as many as torch can have, and each is asked for its streams.
DEVICES = 100

COPIES = {"aten::copy_", "aten::_to_copy", "aten::_copy_from"}

#: A CPU without instructions for bfloat16 computes these in it many times slower than in float32.
PRODUCTS = {
    *("aten::convolution", "aten::convolution_backward"),
    *("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
}

REFUSED = {
    "aten::_adaptive_avg_pool2d_backward": "adaptive_avg_pool2d_backward_cuda",
    "aten::adaptive_max_pool2d_backward": "adaptive_max_pool2d_backward_cuda",
    "aten::fractional_max_pool2d_backward": "fractional_max_pool2d_backward_cuda",
    "aten::max_unpool2d": "max_unpooling2d_forward_out",
    "aten::reflection_pad2d_backward": "reflection_pad2d_backward_cuda",
    "aten::grid_sampler_2d_backward": "grid_sampler_2d_backward_cuda",
    "aten::upsample_bilinear2d_backward": "upsample_bilinear2d_backward_out_cuda",
    "aten::upsample_bicubic2d_backward": "upsample_bicubic2d_backward_out_cuda",
    "aten::_upsample_bilinear2d_aa_backward": "upsample_bilinear2d_aa_backward_out_cuda",
    "aten::_upsample_bicubic2d_aa_backward": "upsample_bicubic2d_aa_backward_out_cuda",
    "aten::nll_loss2d_forward": "nll_loss2d_forward_out_cuda_template",
    "aten::nll_loss2d_backward": "nll_loss2d_backward_out_cuda_template",
    "aten::_ctc_loss_backward": "ctc_loss_backward_gpu",
    "aten::histc": "_histc_cuda",
    "aten::kthvalue": "kthvalue CUDA",
    "aten::put_": "put_",
    "torchvision::_roi_align_backward": "roi_align_backward_kernel",
}
"""What CUDA refuses under deterministic algorithms, with the names in its messages, as the documentation of
torch.use_deterministic_algorithms and the kernels of torchvision have them."""


class MixedDevices(RuntimeError):
    """An operation got tensors of the CPU and of the GPU."""


class PretendTensor(torch.Tensor):
    """A tensor of cuda:0 whose numbers are those of `inner`, on the CPU."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "PretendTensor":
        found = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=GPU,
        )
        found.inner = inner
        return found

    def __repr__(self, **_options: object) -> str:  # type: ignore[override]
        return f"PretendTensor({self.inner!r})"

    def tolist(self) -> Any:
        """Reads the memory itself, without an operation that could be dispatched."""
        DEVICE.note_wait()
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return DEVICE.run(func, args, dict(kwargs or {}))


@dataclass(frozen=True)
class Call:
    """An operation with its arguments."""

    func: Any
    args: Sequence[Any]
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.func._schema.name)

    @property
    def tensors(self) -> list[torch.Tensor]:
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, torch.Tensor)]

    @property
    def uses_gpu(self) -> bool:
        return any(is_on_gpu(tensor) for tensor in self.tensors)

    @property
    def makes_gpu(self) -> bool:
        """Whether its result is on the GPU."""
        if self.name == "aten::copy_":
            return is_on_gpu(self.args[0])
        device = self.kwargs.get("device")
        return self.uses_gpu if device is None else torch.device(device).type == "cuda"

    @property
    def mixes_devices(self) -> bool:
        """Whether a GPU would refuse it: numbers without a dimension may be on the CPU, and so may indices."""
        if not self.uses_gpu or self.name in COPIES:
            return False
        if self.name in INDEXING:
            source, _indices, *values = self.args
            return not is_on_gpu(source) or any(is_mixable(value) for value in values)
        listed = self.name in ("aten::cat", "aten::stack")
        return any(is_mixable(tensor) or (listed and not is_on_gpu(tensor)) for tensor in self.tensors)

    @property
    def waits(self) -> bool:
        """Whether the host waits for the GPU, or for a copy from memory that is not pinned."""
        if self.name in COPIES:
            source = self.args[1] if self.name == "aten::copy_" else self.args[0]
            is_direct = self.kwargs.get("non_blocking", False) or self.args[2:3] == [True]
            return is_on_gpu(source) != self.makes_gpu and not (is_direct and (is_on_gpu(source) or is_pinned(source)))
        if self.name == "aten::repeat_interleave":
            return self.uses_gpu and self.kwargs.get("output_size") is None
        if self.name in INDEXING:
            return self.uses_gpu and self._indices_wait
        return self.uses_gpu and self.name in READS

    @property
    def _indices_wait(self) -> bool:
        indices = [index for index in self.args[1] if isinstance(index, torch.Tensor)]
        masks = [index for index in indices if index.dtype in (torch.bool, torch.uint8)]
        if any(not is_on_gpu(index) for index in indices):
            return True
        # A number that is written where a mask is true: torch uses masked_fill, which needs no places.
        fills = len(self.args) > 2 and self.args[2].numel() == 1 and len(masks) == len(indices)
        return bool(masks) and not fills


def is_on_gpu(value: object) -> bool:
    return isinstance(value, PretendTensor)


def is_pinned(tensor: torch.Tensor) -> bool:
    return getattr(tensor, "is_pretend_pinned", False)


def is_mixable(value: object) -> bool:
    """Whether a value beside tensors of the GPU is a tensor of the CPU with dimensions."""
    return isinstance(value, torch.Tensor) and not is_on_gpu(value) and value.dim() > 0


class PretendDevice(TorchDispatchMode):
    """Computes every operation on the CPU while it is entered, and notes what a GPU would do."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        """How often the host would have waited, by line of code."""
        self.refused: dict[str, str] = {}
        """Operations without a deterministic algorithm that were tried, with their lines of code."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self.run(func, args, dict(kwargs or {}))

    def note_wait(self) -> None:
        self.waits[line_outside_of_torch()] += 1

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The result of an operation. Raises MixedDevices, and the RuntimeError of CUDA for what it refuses."""
        call = Call(func, args, kwargs)
        if call.name in ("aten::pin_memory", "aten::_pin_memory"):
            return pinned(args[0])
        if call.name == "aten::is_pinned":
            return is_pinned(args[0])
        if call.mixes_devices:
            shapes = [(str(tensor.device), tuple(tensor.shape)) for tensor in call.tensors]
            raise MixedDevices(f"{func} mixes devices at {line_outside_of_torch()}: {shapes}")
        if call.waits:
            self.note_wait()
        if call.uses_gpu:
            self._refuse(call)
        inner_args, inner_kwargs = tree_map(inner, (tuple(args), kwargs))
        if call.makes_gpu and kwargs.get("device") is not None:
            inner_kwargs["device"] = torch.device("cpu")
        if inner_kwargs.pop("pin_memory", False):
            return pinned(func(*inner_args, **inner_kwargs))
        return returned(call, computed(call, inner_args, inner_kwargs))

    def _refuse(self, call: Call) -> None:
        kernel = REFUSED.get(call.name)
        if kernel is None or not torch.are_deterministic_algorithms_enabled():
            return
        self.refused[kernel] = line_outside_of_torch()
        if not torch.is_deterministic_algorithms_warn_only_enabled():
            raise RuntimeError(
                f"{kernel} does not have a deterministic implementation, but you set "
                "'torch.use_deterministic_algorithms(True)'."
            )


DEVICE = PretendDevice()


def computed(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result on the CPU; products of bfloat16 numbers are computed in float32 and rounded."""
    if call.name not in PRODUCTS or all(tensor.dtype != torch.bfloat16 for tensor in call.tensors):
        return call.func(*args, **kwargs)
    found = call.func(*tree_map(partial(changed_type, old=torch.bfloat16, new=torch.float32), args), **kwargs)
    return tree_map(partial(changed_type, old=torch.float32, new=torch.bfloat16), found)


def changed_type(value: Any, *, old: torch.dtype, new: torch.dtype) -> Any:
    return value.to(new) if isinstance(value, torch.Tensor) and value.dtype == old else value


def inner(value: Any) -> Any:
    return value.inner if isinstance(value, PretendTensor) else value


def pinned(tensor: torch.Tensor) -> torch.Tensor:
    found = tensor.clone()
    found.is_pretend_pinned = True  # type: ignore[attr-defined]
    return found


def returned(call: Call, found: Any) -> Any:
    """The result with its tensors on the device they belong to; arguments that were changed are returned themselves."""
    results = found if isinstance(found, tuple | list) else (found,)
    changed = [changed_argument(call, one) for one in call.func._schema.returns]
    changed += [None] * (len(results) - len(changed))  # a list of tensors is one return
    wrapped = [
        on_device(result, call.makes_gpu) if argument is None else argument
        for argument, result in zip(changed, results, strict=True)
    ]
    return type(found)(wrapped) if isinstance(found, tuple | list) else wrapped[0]


def changed_argument(call: Call, result: Any) -> Any:
    """The argument that an operation such as add_ returns after it has changed it."""
    if result.alias_info is None or not result.alias_info.is_write:
        return None
    names = call.func._schema.arguments
    given = {argument.name: value for argument, value in zip(names, call.args, strict=False)} | call.kwargs
    aliases = [one for one in names if one.alias_info is not None and one.alias_info.is_write]
    return next(given[one.name] for one in aliases if one.alias_info.before_set == result.alias_info.before_set)


def on_device(value: Any, gpu: bool) -> Any:
    def one(leaf: Any) -> Any:
        is_plain = isinstance(leaf, torch.Tensor) and not is_on_gpu(leaf)
        return PretendTensor(leaf) if gpu and is_plain else leaf

    return tree_map(one, value)


def line_outside_of_torch() -> str:
    """file:line of the innermost frame that belongs neither to torch nor to this file, with its text."""
    frames = traceback.extract_stack()
    own = [frame for frame in frames if frame.filename != __file__ and not is_torch(frame.filename)]
    return f"{place(own[-1])}  {own[-1].line}" if own else "?"


@contextmanager
def pretend_gpu() -> Iterator[PretendDevice]:
    """A GPU for torch; its switches stay as they are afterwards, so that the process is to be used for nothing else."""
    # The guard for devices that do not exist, which fake tensors use too. It is chosen while there is no device.
    torch._C._ensureCUDADeviceGuardSet()
    ctypes.CDLL(None).pretend_devices(DEVICES)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(numbers, device="cuda") makes its tensor on the CPU first
    torch.__future__.set_swap_module_params_on_conversion(True)  # a parameter becomes a PretendTensor in its place
    torch.autograd.set_multithreading_enabled(False)  # the mode holds in this thread only
    torch.backends.cudnn.enabled = False  # its operations exist for tensors of a GPU only
    for name, stand_in in CUDA.items():
        setattr(torch.cuda, name, stand_in)
    torch.amp.grad_scaler.amp_definitely_not_available = lambda: False  # type: ignore[attr-defined]
    torch.amp.autocast_mode.amp_definitely_not_available = lambda: False  # type: ignore[attr-defined]
    # Wrappers of tensors lack the counters of inference mode.
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else nullcontext()  # type: ignore[assignment, misc]
    torch.nn.functional.scaled_dot_product_attention = attention  # it asks CUDA's kernels whether they can do it
    align = importlib.import_module("torchvision.ops.roi_align")
    align._roi_align = align._roi_align.__wrapped__  # without torch.compile
    with DEVICE:
        yield DEVICE


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """softmax(q k^T / sqrt(d) + mask) v. Dropout, which none of the networks uses, is refused."""
    assert not dropout_p
    assert not is_causal
    assert not enable_gqa
    logits = query @ key.transpose(-2, -1) * (scale or query.shape[-1] ** -0.5)
    return (logits if attn_mask is None else logits + attn_mask.to(logits)).softmax(-1) @ value


def _wait(device: object = None) -> None:
    DEVICE.note_wait()


CUDA = {
    "_lazy_init": lambda: None,
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": lambda device: None,
    "get_device_name": lambda device=None: "Pretend",
    "get_device_capability": lambda device=None: (9, 0),
    "get_device_properties": lambda device=None: SimpleNamespace(
        name="Pretend", major=9, minor=0, total_memory=MEMORY_BYTES, multi_processor_count=132, uuid="0"
    ),
    "is_bf16_supported": lambda including_emulation=True: True,
    "synchronize": _wait,
    "mem_get_info": lambda device=None: (MEMORY_BYTES * 3 // 4, MEMORY_BYTES),
    "max_memory_allocated": lambda device=None: 1 << 20,
    "max_memory_reserved": lambda device=None: 1 << 20,
    "memory_reserved": lambda device=None: 1 << 20,
    "memory_allocated": lambda device=None: 1 << 20,
    "reset_peak_memory_stats": lambda device=None: None,
    "set_per_process_memory_fraction": lambda fraction, device=None: None,
    "empty_cache": lambda: None,
    "manual_seed": lambda seed: None,
    "manual_seed_all": lambda seed: None,
    "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
    "set_rng_state": lambda state, device=None: None,
    "default_generators": (torch.Generator(),),
    "is_current_stream_capturing": lambda: False,
}
"""torch.cuda of a machine with one GPU. Random numbers come from the generator of the CPU."""
