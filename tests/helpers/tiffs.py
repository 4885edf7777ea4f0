"""TIFFs with any number of bands, which Pillow cannot write."""

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]


def tiff(
    values_HWS: Values,
    *,
    packed: bool = False,
    predictor: int = 1,
    separate: bool = False,
    tile: int = 0,
    order: str = "<",
    extra: dict[int, int] | None = None,
) -> bytes:
    """A TIFF with these values and any number of bands."""
    height, width, bands = values_HWS.shape
    dtype = values_HWS.dtype.newbyteorder(order)  # type: ignore[arg-type]  # "<" or ">"
    planes = [values_HWS[..., band : band + 1] for band in range(bands)] if separate else [values_HWS]
    pieces = []
    for plane in planes:
        for top in range(0, height, tile or 7):
            rows = plane[top : top + (tile or 7)]
            for left in range(0, width, tile or width):
                piece = rows[:, left : left + (tile or width)]
                if tile:
                    piece = np.pad(piece, ((0, tile - piece.shape[0]), (0, tile - piece.shape[1]), (0, 0)))
                if predictor == 2:
                    piece = np.diff(piece, axis=1, prepend=np.zeros_like(piece[:, :1]))
                content = piece.astype(dtype).tobytes()
                pieces.append(zlib.compress(content) if packed else content)
    offsets, body = [], b""
    for content in pieces:
        offsets.append(8 + len(body))
        body += content
    counts = [len(content) for content in pieces]
    kind = {"u": 1, "i": 2, "f": 3}[dtype.kind]
    tags: dict[int, list[int]] = {
        256: [width],
        257: [height],
        258: [8 * dtype.itemsize] * bands,
        259: [8 if packed else 1],
        262: [1],
        277: [bands],
        284: [2 if separate else 1],
        317: [predictor],
        339: [kind] * bands,
    }
    if tile:
        tags |= {322: [tile], 323: [tile], 324: offsets, 325: counts}
    else:
        tags |= {273: offsets, 278: [7], 279: counts}
    tags |= {tag: [value] for tag, value in (extra or {}).items()}
    start = 8 + len(body)
    values_at, more = start + 2 + 12 * len(tags) + 4, b""
    directory = struct.pack(f"{order}H", len(tags))
    for tag, numbers in sorted(tags.items()):
        content = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            more += content
            content = struct.pack(f"{order}I", values_at + len(more) - len(content))
        directory += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + content
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    return head + body + directory + bytes(4) + more
