"""Reading TIFFs that Pillow does not open: any number of bands, of integers or floats of 8 to 64 bits.

Pillow's decoder is used nevertheless: a copy of the file's directory declares each row as grey bytes, so that libtiff
undoes the compression; bands, numbers and differences to neighbours are then read from these bytes. TIFF 6.0:
https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf

An export contains this file for models that need it.

Legend for array names: H, W height and width in pixels, S bands.
"""

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

Numbers = NDArray[np.generic]
#: numpy's type by the TIFF's SampleFormat and BitsPerSample.
_TYPES = {
    (1, 8): "u1",
    (1, 16): "u2",
    (1, 32): "u4",
    (2, 8): "i1",
    (2, 16): "i2",
    (2, 32): "i4",
    (3, 16): "f2",
    (3, 32): "f4",
    (3, 64): "f8",
}
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _SAMPLES = 256, 257, 258, 259, 262, 273, 277
_ROWS_PER_STRIP, _BYTE_COUNTS, _PLANAR, _PREDICTOR, _SAMPLE_FORMAT = 278, 279, 284, 317, 339
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_BYTE_COUNTS = 322, 323, 324, 325
_SEPARATE = 2
_STRIP_ROWS = 256
_OLD_JPEG, _JPEG = 6, 7


@dataclass(frozen=True)
class Bands:
    """What the directory of a TIFF says; `bands` is their number, `numbers` numpy's type of a value."""

    width: int
    height: int
    bands: int
    numbers: str
    tags: dict[int, Any]

    @property
    def decoding_bytes(self) -> int:
        """Memory for all bands: as libtiff decodes them, and as numbers."""
        return 2 * self.width * self.height * self.bands * np.dtype(self.numbers).itemsize


def read_header(file: IO[bytes]) -> Bands | None:
    """The first image of a TIFF; None where the file is none, or one whose numbers are not read."""
    file.seek(0)
    start = file.read(16)
    if start[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(start if b"+" in start[:4] else start[:8])
        file.seek(directory.next)
        directory.load(file)
        tags = dict(directory)
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error, OSError):
        return None
    bits, formats = _same(tags.get(_BITS, 1)), _same(tags.get(_SAMPLE_FORMAT, 1))
    numbers = _TYPES.get((formats, bits)) if formats and bits else None
    width, height, bands = (
        _whole(tags.get(tag, default)) for tag, default in ((_WIDTH, 0), (_LENGTH, 0), (_SAMPLES, 1))
    )
    if not numbers or not (width and height and bands) or tags.get(_COMPRESSION, 1) in (_OLD_JPEG, _JPEG):
        return None
    return Bands(width, height, bands, numbers, tags)


def _same(values: object) -> int:
    """The one value that all bands have; 0 where they differ."""
    several = values if isinstance(values, tuple) else (values,)
    return _whole(several[0]) if several and len(set(several)) == 1 else 0


def _whole(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 1 << 24 else 0


def read_bands(path: Path, header: Bands, chosen: tuple[int, ...]) -> Numbers:
    """(H, W, S) values of the `chosen` bands, counted from 0.

    Raises OSError, ValueError or KeyError where the file is damaged.
    """
    content = path.read_bytes()
    order = ">" if content.startswith(b"MM") else "<"
    if header.tags.get(_PLANAR, 1) == _SEPARATE and header.bands > 1:
        planes = {band: _plane(content, order, header, band) for band in dict.fromkeys(chosen)}
        return np.concatenate([planes[band] for band in chosen], axis=-1)
    return _plane(content, order, header, None)[..., list(chosen)]


def _plane(content: bytes, order: str, header: Bands, band: int | None) -> Numbers:
    """(H, W, S) of all bands, which lie side by side; or (H, W, 1) of one that is stored separately."""
    samples = header.bands if band is None else 1
    dtype = np.dtype(order + header.numbers)
    tags = header.tags
    tiled = _TILE_OFFSETS in tags
    offsets = _several(tags[_TILE_OFFSETS if tiled else _OFFSETS])
    counts = _several(tags[_TILE_BYTE_COUNTS if tiled else _BYTE_COUNTS])
    if band is not None:
        per_band = len(offsets) // header.bands
        offsets, counts = (values[band * per_band : (band + 1) * per_band] for values in (offsets, counts))
    pixel_bytes = samples * dtype.itemsize
    piece, rows = (_whole(tags[_TILE_WIDTH]), _whole(tags[_TILE_LENGTH])) if tiled else (header.width, 0)
    if not piece:
        raise ValueError("a tile without a width")
    across = -(-header.width // piece)
    height = -(-header.height // rows) * rows if rows else header.height
    row_bytes = across * piece * pixel_bytes
    raw = _unpacked(content, order, tags, (row_bytes, height), (piece * pixel_bytes, rows), offsets, counts)
    values = _undone(raw.reshape(height, across, piece * pixel_bytes), dtype, samples, _whole(tags.get(_PREDICTOR, 1)))
    return values.reshape(height, across * piece, samples)[: header.height, : header.width]


def _several(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _unpacked(
    content: bytes,
    order: str,
    tags: dict[int, Any],
    size: tuple[int, int],
    tile: tuple[int, int],
    offsets: tuple[int, ...],
    counts: tuple[int, ...],
) -> NDArray[np.uint8]:
    """(rows, bytes) without compression: libtiff reads the file as an image of grey bytes."""
    width, height = size
    entries: dict[int, tuple[int, ...]] = {
        _WIDTH: (width,),
        _LENGTH: (height,),
        _BITS: (8,),
        _COMPRESSION: (tags.get(_COMPRESSION, 1),),
        _PHOTOMETRIC: (1,),
        _SAMPLES: (1,),
        _PLANAR: (1,),
        _PREDICTOR: (1,),
    }
    if tile[1]:
        entries |= {
            _TILE_WIDTH: (tile[0],),
            _TILE_LENGTH: (tile[1],),
            _TILE_OFFSETS: offsets,
            _TILE_BYTE_COUNTS: counts,
        }
    else:
        rows = min(height, tags.get(_ROWS_PER_STRIP, height))
        entries |= {_OFFSETS: offsets, _ROWS_PER_STRIP: (rows,), _BYTE_COUNTS: counts}
    directory = struct.pack(f"{order}H", len(entries))
    behind = len(content) + len(content) % 2
    values_at = behind + 2 + 12 * len(entries) + 4
    values = b""
    for tag, numbers in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            values += packed
            packed = struct.pack(f"{order}I", values_at + len(values) - len(packed))
        directory += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + packed
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", behind)
    padding = bytes(len(content) % 2)
    file = io.BytesIO(b"".join([start, content[8:], padding, directory, bytes(4), values]))
    del content
    unpacked = np.empty((height, width), np.uint8)
    with Image.open(file, formats=["TIFF"]) as image:
        for top in range(0, height, _STRIP_ROWS):  # all rows at once would take two further copies
            bottom = min(top + _STRIP_ROWS, height)
            unpacked[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return unpacked


def _undone(raw: NDArray[np.uint8], dtype: np.dtype[Any], samples: int, predictor: int) -> Numbers:
    """(rows, pieces, values) in the byte order of this machine, in the memory of `raw`, the bytes of each piece."""
    rows, pieces, _bytes = raw.shape
    native = dtype.newbyteorder("=")
    values = raw.view(native)
    for top in range(0, rows, _STRIP_ROWS):
        strip = raw[top : top + _STRIP_ROWS]
        numbers: Numbers
        if predictor == 3:  # floats: differences of bytes, then the most significant byte of all values first
            summed = np.add.accumulate(strip.reshape(len(strip), pieces, -1, samples), axis=2, dtype=np.uint8)
            planes = summed.reshape(len(strip), pieces, dtype.itemsize, -1)
            numbers = np.ascontiguousarray(np.moveaxis(planes, 2, -1)).view(dtype.newbyteorder(">"))[..., 0]
        elif predictor == 2:
            differences = strip.view(dtype).reshape(len(strip), pieces, -1, samples).astype(native)
            numbers = np.add.accumulate(differences, axis=2, dtype=native).reshape(len(strip), pieces, -1)
        else:
            numbers = strip.view(dtype).astype(native)
        values[top : top + _STRIP_ROWS] = numbers
    return values
