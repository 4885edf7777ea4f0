"""Predicted masks as PNG files, encoded beside the validation."""

import struct
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

#: Masks that may wait for the thread: beyond, a validation that is faster than it would fill the memory.
MOST_PENDING = 256
SIGNATURE = b"\x89PNG\r\n\x1a\n"
LEVEL = 1


class MaskEncoder:
    """Encodes masks in a thread, so that a GPU does not wait for it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mask encoder")
        self._pending: deque[Future[bytes]] = deque()

    def encode(self, mask_HW: torch.Tensor) -> Future[bytes]:
        """The file of a mask, uint8 [H, W] on the CPU, which must not change any longer."""
        while len(self._pending) >= MOST_PENDING:
            self._pending.popleft().result()
        future = self._pool.submit(encoded_mask, mask_HW)
        self._pending.append(future)
        return future

    def close(self) -> None:
        """Wait until all masks are encoded."""
        self._pool.shutdown()


def encoded_mask(mask_HW: torch.Tensor) -> bytes:
    """uint8 [H, W] as a PNG with one 8-bit channel.

    Written here and not by PIL, which keeps Python's lock while it encodes: the thread would stop the loop. Without
    filters, as the specification of PNG recommends for images whose values are not intensities.
    """
    height, width = mask_HW.shape
    rows = np.zeros((height, 1 + width), dtype=np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = mask_HW.numpy()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), LEVEL)), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
