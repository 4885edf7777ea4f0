"""Checkpoints as files that others read: .pt for torch.load, and safetensors. Written without torch, piece by piece.

A .pt is an uncompressed zip with `data.pkl`, a pickle of plain values and of tensors that name a storage, and those
storages under `data/`. The pickle is written by hand: its few opcodes need no class of torch.
"""

import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np

from trainingapp.contract.storage.durable import Bytes
from trainingapp.contract.storage.manifest import Content, TensorSpec, leaves, plain_stride

#: The class of torch that names a storage of such numbers.
STORAGES = {
    "bool": "BoolStorage",
    "uint8": "ByteStorage",
    "int8": "CharStorage",
    "int16": "ShortStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int32": "IntStorage",
    "float32": "FloatStorage",
    "int64": "LongStorage",
    "float64": "DoubleStorage",
    "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}
SAFETENSORS_TYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "float32": "F32",
    "int64": "I64",
    "float64": "F64",
}
ARCHIVE = "archive"
PIECE_BYTES = 4 << 20

Read = Callable[[TensorSpec], Bytes]


def pt_pieces(content: Content, read: Read) -> Iterator[Bytes]:
    """The bytes of a file that `torch.load(weights_only=True)` reads, in order. Raises what `read` raises."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        opcodes = _opcodes(content, iter(range(1 << 62)))  # the tensors are numbered in order
        archive.writestr(_member("data.pkl"), b"\x80\x02" + b"".join(opcodes) + b".")  # a pickle, protocol 2
        archive.writestr(_member("byteorder"), b"little")
        for number, spec in enumerate(leaves(content, TensorSpec)):
            member = _member(f"data/{number}")
            member.file_size = spec.raw_bytes
            raw = memoryview(read(spec))
            with archive.open(member, "w") as file:
                for start in range(0, len(raw), PIECE_BYTES):
                    file.write(raw[start : start + PIECE_BYTES])
                    yield from sink.taken()
        archive.writestr(_member("version"), b"3\n")
    yield from sink.taken()


def pt_size(content: Content) -> int:
    """The size that the file will have: what writing it would give with nothing but zeros."""
    return sum(len(piece) for piece in pt_pieces(content, lambda spec: bytes(spec.raw_bytes)))


def safetensors_pieces(content: Content, read: Read) -> Iterator[Bytes]:
    """The bytes of a safetensors file with the weights of a checkpoint. Raises what `read` raises."""
    yield safetensors_head(content)
    for spec in best_weights(content).values():
        yield in_plain_order(spec, read(spec))


def safetensors_size(content: Content) -> int:
    return len(safetensors_head(content)) + sum(spec.raw_bytes for spec in best_weights(content).values())


def best_weights(content: Content) -> dict[str, TensorSpec]:
    """The weights that validation looked at: the averaged ones where the run keeps them."""
    return cast(dict[str, TensorSpec], content.get("ema_state_dict") or content["model_state_dict"])


def safetensors_head(content: Content) -> bytes:
    names = ("epoch", "step", "metrics", "classes", "normalisation", "conversion", "config", "timestamp")
    metadata = {name: json.dumps(content[name]) for name in names if name in content}
    head: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    place = 0
    for name, spec in best_weights(content).items():
        offsets = [place, place + spec.raw_bytes]
        head[name] = {"dtype": SAFETENSORS_TYPES[spec.dtype], "shape": list(spec.shape), "data_offsets": offsets}
        place += spec.raw_bytes
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def in_plain_order(spec: TensorSpec, raw: Bytes) -> Bytes:
    """The numbers with the last axis innermost."""
    if spec.stride == plain_stride(spec.shape):
        return raw
    numbers = np.frombuffer(raw, f"V{spec.width}")
    strides = [step * spec.width for step in spec.stride]
    return np.lib.stride_tricks.as_strided(numbers, spec.shape, strides).tobytes()


class _Sink:
    """Takes what zipfile writes and gives it on; it cannot seek, so that every byte is final."""

    def __init__(self) -> None:
        self._parts: list[Bytes] = []

    def write(self, data: Bytes) -> int:
        self._parts.append(data)
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> list[Bytes]:
        parts, self._parts = self._parts, []
        return parts


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{ARCHIVE}/{name}")


def _opcodes(value: object, numbers: Iterator[int]) -> Iterator[bytes]:
    match value:
        case TensorSpec():
            yield from _tensor_opcodes(value, next(numbers))
        case dict():
            yield b"}("
            for key, item in value.items():
                yield from _opcodes(key, numbers)
                yield from _opcodes(item, numbers)
            yield b"u"
        case list() | tuple():
            yield b"](" if isinstance(value, list) else b"("
            for item in value:
                yield from _opcodes(item, numbers)
            yield b"e" if isinstance(value, list) else b"t"
        case _:
            yield _scalar_opcodes(value)


def _scalar_opcodes(value: object) -> bytes:
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(data)]) + data
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return _text(value)
    raise AssertionError(f"{type(value)} does not belong into a checkpoint")


def _tensor_opcodes(spec: TensorSpec, number: int) -> Iterator[bytes]:
    """torch._utils._rebuild_tensor_v2(storage, 0, shape, stride, False, OrderedDict())."""
    yield b"ctorch._utils\n_rebuild_tensor_v2\n("
    yield b"(" + _text("storage") + f"ctorch\n{STORAGES[spec.dtype]}\n".encode()
    yield _text(str(number)) + _text("cpu") + _scalar_opcodes(spec.numel) + b"tQ" + _scalar_opcodes(0)
    yield from _opcodes(spec.shape, iter(()))
    yield from _opcodes(spec.stride, iter(()))
    yield b"\x89ccollections\nOrderedDict\n)RtR"


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data
