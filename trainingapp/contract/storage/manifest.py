"""The manifest of a compact checkpoint: all of its content but the numbers of its tensors (no torch).

JSON: {"format", "about", "content", "tensors": [{"dtype", "shape", "stride" unless it is the plain one, "sha256"}]}.
In `content` {"$tensor": 3} stands for a tensor, {"$tuple": [...]} for a tuple and {"$items": [[key, value], ...]} for a
dictionary whose keys are not all plain texts.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from trainingapp.contract.messages.storage import DTYPE_UNKNOWN, FORMAT_UNKNOWN, MANIFEST_UNREADABLE
from trainingapp.contract.storage.durable import CorruptedFile

LeafT = TypeVar("LeafT")
#: What a checkpoint holds: plain values in dictionaries, lists and tuples, with a `TensorSpec` for each tensor.
Content: TypeAlias = dict[str, object]

FORMAT = "cvstudio-checkpoint-1"
ABOUT = (
    "A checkpoint of CV Studio; its tensors lie in packs/. "
    "python -m trainingapp.engine --export-checkpoint THIS_FILE --to OUT.pt makes a file for torch.load of it."
)
#: Bytes of a number by the name of its type.
WIDTHS = {
    **dict.fromkeys(("bool", "uint8", "int8"), 1),
    **dict.fromkeys(("int16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("int32", "float32"), 4),
    **dict.fromkeys(("int64", "float64", "complex64"), 8),
    "complex128": 16,
}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor without its numbers: they are stored at `key`, densely, in the order of `stride` (in numbers).

    `key` is the SHA-256 of the numbers in a compact checkpoint, and a place in the file in a plain one.
    """

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    key: str

    @property
    def width(self) -> int:
        return WIDTHS[self.dtype]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def raw_bytes(self) -> int:
        return self.numel * self.width


def plain_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The stride of a tensor whose last axis is the innermost."""
    strides, stride = [], 1
    for length in reversed(shape):
        strides.append(stride)
        stride *= max(1, length)
    return tuple(reversed(strides))


def mapped(tree: object, leaf_type: type[LeafT], change: Callable[[LeafT], object]) -> object:
    """`tree` of dictionaries, lists and tuples with every leaf of `leaf_type` changed."""
    if isinstance(tree, leaf_type):
        return change(tree)
    if isinstance(tree, dict):
        return {key: mapped(value, leaf_type, change) for key, value in tree.items()}
    if isinstance(tree, list):
        return [mapped(value, leaf_type, change) for value in tree]
    if isinstance(tree, tuple):
        return tuple(mapped(value, leaf_type, change) for value in tree)
    return tree


def leaves(tree: object, leaf_type: type[LeafT]) -> Iterator[LeafT]:
    """The leaves of `leaf_type`, in order."""
    if isinstance(tree, leaf_type):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from leaves(value, leaf_type)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from leaves(value, leaf_type)


def manifest_bytes(tree: object) -> bytes:
    """The manifest of a tree whose tensors are `TensorSpec`s."""
    tensors: list[dict[str, object]] = []
    content = _packed(tree, tensors)
    values = {"format": FORMAT, "about": ABOUT, "content": content, "tensors": tensors}
    return json.dumps(values, separators=(",", ":")).encode()


def read_manifest(data: bytes) -> Content:
    """The tree of a manifest. Raises CorruptedFile."""
    try:
        values = json.loads(data)
        if values["format"] != FORMAT:
            raise CorruptedFile(FORMAT_UNKNOWN(format=str(values["format"])))
        specs = [_spec(item) for item in values["tensors"]]
        return {str(key): _unpacked(item, specs) for key, item in values["content"].items()}
    except (ValueError, TypeError, LookupError) as error:
        raise error if isinstance(error, CorruptedFile) else CorruptedFile(MANIFEST_UNREADABLE()) from error


def _packed(tree: object, tensors: list[dict[str, object]]) -> object:
    if isinstance(tree, TensorSpec):
        tensors.append(_described(tree))
        return {"$tensor": len(tensors) - 1}
    if isinstance(tree, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in tree):
            return {key: _packed(value, tensors) for key, value in tree.items()}
        return {"$items": [[key, _packed(value, tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        items = [_packed(value, tensors) for value in tree]
        return items if isinstance(tree, list) else {"$tuple": items}
    assert tree is None or type(tree) in (bool, int, float, str), f"{type(tree)} does not belong into a checkpoint"
    return tree


def _described(spec: TensorSpec) -> dict[str, object]:
    described: dict[str, object] = {"dtype": spec.dtype, "shape": spec.shape, "sha256": spec.key}
    return described if spec.stride == plain_stride(spec.shape) else {**described, "stride": spec.stride}


def _spec(item: dict[str, Any]) -> TensorSpec:
    shape = tuple(map(int, item["shape"]))
    stride = tuple(map(int, item["stride"])) if "stride" in item else plain_stride(shape)
    if item["dtype"] not in WIDTHS:
        raise CorruptedFile(DTYPE_UNKNOWN(dtype=str(item["dtype"])))
    return TensorSpec(str(item["dtype"]), shape, stride, str(item["sha256"]))


def _unpacked(value: object, specs: list[TensorSpec]) -> object:
    if isinstance(value, list):
        return [_unpacked(item, specs) for item in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return specs[value["$tensor"]]
    if "$tuple" in value:
        return tuple(_unpacked(item, specs) for item in value["$tuple"])
    if "$items" in value:
        return {key: _unpacked(item, specs) for key, item in value["$items"]}
    return {key: _unpacked(item, specs) for key, item in value.items()}
