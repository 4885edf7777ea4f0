"""Numbers as byte planes: all first bytes, all second bytes ..., each plane compressed by itself (no torch).

The bytes of a weight that hold sign and exponent repeat themselves, those of the mantissa hardly do. Beside each other
neither can be compressed; apart, the first give more than half of their size back, and the others stay as they are.

A chunk is, for each plane, its stored length (uint32, little-endian) and its bytes: those of a Zstandard frame, or the
plane itself where that is no longer.
"""

import struct
from collections.abc import Iterator

import numpy as np
import zstandard

from trainingapp.contract.messages.storage import NOT_DECOMPRESSED, TRUNCATED
from trainingapp.contract.storage.durable import Bytes, CorruptedFile

#: Bytes of numbers that are compressed at a time; a multiple of every width.
CHUNK_BYTES = 4 << 20
LENGTH = struct.Struct("<I")
LEVEL = 1


def encoded_chunks(raw: Bytes, width: int) -> Iterator[list[Bytes]]:
    """The chunks of `raw`, numbers of `width` bytes each, as parts to be written one after the other."""
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    for start in range(0, len(raw), CHUNK_BYTES):
        numbers = np.frombuffer(raw, np.uint8)[start : start + CHUNK_BYTES].reshape(-1, width)
        parts: list[Bytes] = []
        for plane in np.ascontiguousarray(numbers.T):
            packed = compressor.compress(plane.data)
            stored: Bytes = packed if len(packed) < len(plane) else plane.data
            parts += [LENGTH.pack(len(stored)), stored]
        yield parts


def plain_chunks(raw: Bytes) -> Iterator[list[Bytes]]:
    """The chunks of `raw` as numbers of one byte each that are not compressed."""
    for start in range(0, len(raw), CHUNK_BYTES):
        plane = memoryview(raw)[start : start + CHUNK_BYTES]
        yield [LENGTH.pack(len(plane)), plane]


def decoded(stored: memoryview, width: int, raw_bytes: int) -> bytearray:
    """The numbers that `encoded_chunks` was given. Raises CorruptedFile where `stored` cannot be its result."""
    raw, place = bytearray(raw_bytes), 0
    decompressor = zstandard.ZstdDecompressor()
    for start in range(0, raw_bytes, CHUNK_BYTES):
        numbers = np.frombuffer(raw, np.uint8)[start : start + CHUNK_BYTES].reshape(-1, width)
        for number in range(width):
            if place + LENGTH.size > len(stored):
                raise CorruptedFile(TRUNCATED())
            (length,) = LENGTH.unpack_from(stored, place)
            place += LENGTH.size
            numbers[:, number] = _plane(decompressor, stored[place : place + length], len(numbers))
            place += length
    return raw


def _plane(decompressor: zstandard.ZstdDecompressor, stored: memoryview, length: int) -> np.ndarray:
    try:
        content = stored if len(stored) == length else decompressor.decompress(stored, max_output_size=length)
    except zstandard.ZstdError:
        raise CorruptedFile(NOT_DECOMPRESSED()) from None
    if len(content) != length:
        raise CorruptedFile(TRUNCATED())
    return np.frombuffer(content, np.uint8)
