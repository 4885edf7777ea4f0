"""From the annotations of a source to boxes and masks of the upright image.

Legend for array names: H, W height and width in pixels.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainingapp.contract.dataset_index import IGNORED_PIXEL, Box
from trainingapp.datasets.errors import DatasetError, ReportItem
from trainingapp.datasets.images.decoding import MOST_PIXELS, TURNS, Facts, read_mask
from trainingapp.datasets.sources.layout import UNKNOWN, MaskFile, Rle, Shape, SourceImage

MOST_OVER_PIXELS = 2.0
"""A box may leave the image by so much, as rounding does; it is clipped then."""
_CLIPPED_PIXELS = 0.5
_MOST_CROSSINGS = 1 << 20
_DECIMALS = 3
"""Of stored boxes: a thousandth of a pixel."""
Corners = tuple[float, float, float, float]


@dataclass
class Placed:
    """Annotations of the upright image. `faults` concern single objects, which are left out of the rest.

    mask_HW: uint8, 0 where no class is, i + 1 where class i is, 255 where nobody knows.
    """

    boxes: list[Box] = field(default_factory=list)
    mask_HW: NDArray[np.uint8] | None = None
    faults: list[ReportItem] = field(default_factory=list)
    clipped: int = 0
    is_turned: bool = False


def place(image: SourceImage, facts: Facts, *, wants_mask: bool) -> Placed:
    """Boxes and mask of a decoded image. Raises DatasetError when they are of an image of another size."""
    placed = Placed(is_turned=_is_turned(image, facts))
    frame = facts.stored_size if placed.is_turned else (facts.width, facts.height)
    sound = []
    for shape in image.shapes:
        try:
            placed.boxes.append(_box(shape, frame, facts, placed))
            sound.append(shape)
        except DatasetError as error:
            placed.faults += error.items
    if image.mask:
        placed.mask_HW = _read_classes(image.mask, facts)
    elif wants_mask:
        placed.mask_HW = _painted(sound, frame, facts, placed)
    return placed


def _is_turned(image: SourceImage, facts: Facts) -> bool:
    """Whether the annotations are of the image as it is stored, before EXIF turns it upright."""
    declared, upright = image.declared_size, (facts.width, facts.height)
    if declared in ((0, 0), upright):
        return False
    if declared == facts.stored_size:
        return True
    message = (
        f"{image.where}: the annotations are of an image of {declared[0]} x {declared[1]} pixels, but "
        f"{image.file.path} has {upright[0]} x {upright[1]}."
    )
    raise DatasetError.one("size_mismatch", message, image.file.path)


# Boxes


def _box(shape: Shape, frame: tuple[int, int], facts: Facts, placed: Placed) -> Box:
    """The box within the upright image. Raises DatasetError when it has no area or lies outside."""
    left, top, right, bottom = _corners(shape, frame)
    if shape.relative:
        left, right = left * facts.width, right * facts.width
        top, bottom = top * facts.height, bottom * facts.height
    elif placed.is_turned:
        left, top, right, bottom = _turned((left, top, right, bottom), frame, facts.orientation)
    size = (facts.width, facts.height)
    over = max(-left, -top, right - size[0], bottom - size[1])
    if not over <= MOST_OVER_PIXELS:
        message = (
            f"{shape.where}: the box {_shown(left, top, right, bottom)} leaves the image of {size[0]} x {size[1]}."
        )
        raise DatasetError.one("box_outside", message, _file(shape.where))
    placed.clipped += over > _CLIPPED_PIXELS
    clipped = (max(left, 0.0), max(top, 0.0), min(right, size[0]), min(bottom, size[1]))
    x0, y0, x1, y1 = (round(float(value), _DECIMALS) for value in clipped)
    if x1 <= x0 or y1 <= y0:
        message = f"{shape.where}: the box {_shown(left, top, right, bottom)} has no area."
        raise DatasetError.one("box_without_area", message, _file(shape.where))
    return Box(shape.label, x0, y0, x1, y1, crowd=shape.crowd)


def _shown(*corners: float) -> str:
    return "(" + ", ".join(f"{corner:.1f}" for corner in corners) + ")"


def _file(where: str) -> str:
    return where.rpartition(" line ")[0] or where


def _corners(shape: Shape, frame: tuple[int, int]) -> Corners:
    if shape.box is not None:
        return shape.box
    if shape.polygons:
        across = [value for polygon in shape.polygons for value in polygon[::2]]
        down = [value for polygon in shape.polygons for value in polygon[1::2]]
        return min(across), min(down), max(across), max(down)
    assert shape.rle
    mask_HW = decode_rle(shape.rle, frame, shape.where)
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if not len(rows):
        raise DatasetError.one("box_without_area", f"{shape.where}: the mask is empty.", _file(shape.where))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _turned(corners: Corners, frame: tuple[int, int], orientation: int) -> Corners:
    """A box of the stored image of `frame` = (width, height), in the upright one."""
    width, height = frame
    left, top, right, bottom = corners
    match orientation:
        case 5:
            return top, left, bottom, right
        case 6:
            return height - bottom, left, height - top, right
        case 7:
            return height - bottom, width - right, height - top, width - left
        case 8:
            return top, width - right, bottom, width - left
    raise AssertionError(orientation)  # any other keeps the size, so that nothing tells it from the upright one


# Masks


def _painted(shapes: list[Shape], frame: tuple[int, int], facts: Facts, placed: Placed) -> NDArray[np.uint8]:
    """The mask of all outlines, later objects over earlier ones."""
    canvas_HW = np.zeros((frame[1], frame[0]), np.uint8)
    scale = np.array([facts.width, facts.height])
    for shape in shapes:
        if shape.rle:
            try:
                canvas_HW[decode_rle(shape.rle, frame, shape.where)] = shape.label + 1
            except DatasetError as error:
                placed.faults += error.items
        for polygon in shape.polygons:
            corners = np.frombuffer(polygon, np.float32).astype(np.float64).reshape(-1, 2)
            fill_polygon(canvas_HW, corners * scale if shape.relative else corners, shape.label + 1)
    if placed.is_turned:
        return np.asarray(Image.fromarray(canvas_HW).transpose(TURNS[facts.orientation]))
    return canvas_HW


def fill_polygon(canvas_HW: NDArray[np.uint8], corners: NDArray[np.float64], value: int) -> None:
    """Set the pixels whose middle lies within the polygon of (N, 2) corners x, y.

    Along each row, the inside begins and ends where edges cross the row's middle; so what it covers twice is a hole.
    """
    height, width = canvas_HW.shape
    limit = 4.0 * max(height, width)  # keeps far corners from overflowing; they are faults elsewhere
    corners = corners.clip(-limit, limit)
    low, high = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
    (left, top), (right, bottom) = low.clip(0, (width, height)), high.clip(0, (width, height))
    if right <= left or bottom <= top:
        return
    crossings_HW = np.zeros((bottom - top, right - left + 1), np.uint8)
    edges = np.concatenate([corners, np.roll(corners, -1, axis=0)], axis=1) - [left, top, left, top]
    for start in range(0, len(edges), step := max(1, _MOST_CROSSINGS // (bottom - top))):
        _count_crossings(crossings_HW, edges[start : start + step])
    inside_HW = np.bitwise_xor.accumulate(crossings_HW[:, :-1], axis=1).astype(bool)
    canvas_HW[top:bottom, left:right][inside_HW] = value


def _count_crossings(crossings_HW: NDArray[np.uint8], edges: NDArray[np.float64]) -> None:
    """Turn 0 to 1 and back where an edge (x0, y0, x1, y1) crosses a row.

    That is at the first column whose middle lies right of the crossing.
    """
    rows, columns = crossings_HW.shape
    x0, y0, x1, y1 = edges.T
    first = np.ceil(np.minimum(y0, y1) - 0.5).clip(0, rows).astype(int)
    last = np.ceil(np.maximum(y0, y1) - 0.5).clip(0, rows).astype(int)
    counts = last - first
    edge = np.repeat(np.arange(len(edges)), counts)
    row = np.arange(counts.sum()) + np.repeat(first - (counts.cumsum() - counts), counts)
    x = x0[edge] + (row + 0.5 - y0[edge]) * (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
    column = np.ceil(x - 0.5).clip(0, columns - 1).astype(int)
    counted = np.bincount(row * columns + column, minlength=rows * columns).reshape(rows, columns)
    crossings_HW ^= (counted & 1).astype(np.uint8)


def decode_rle(rle: Rle, frame: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """(H, W) mask of run lengths. Raises DatasetError when they are not those of an image of this width and height."""
    if (rle.width, rle.height) != frame or rle.width * rle.height > MOST_PIXELS:
        message = f"{where}: the mask has {rle.width} x {rle.height} pixels, the image {frame[0]} x {frame[1]}."
        raise DatasetError.one("mask_size", message, _file(where))
    counts = np.array(unpack_counts(rle.counts) if isinstance(rle.counts, str) else rle.counts, dtype=np.int64)
    if (counts < 0).any() or (counts > MOST_PIXELS).any() or counts.sum() != rle.width * rle.height:
        message = f"{where}: the run lengths of the mask do not fill {rle.width} x {rle.height} pixels."
        raise DatasetError.one("bad_annotation", message, _file(where))
    is_object = np.arange(len(counts)) % 2 == 1
    return np.repeat(is_object, counts).reshape(rle.width, rle.height).T


def unpack_counts(packed: str) -> list[int]:
    """COCO's packed text as run lengths; [-1], which no mask has, when it is none.

    Groups of five bits, the lowest first, a sixth bit says that more follow; from the third on, runs are differences to
    the one before the last: rleFrString in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c
    """
    counts: list[int] = []
    value = shift = 0
    for character in packed:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return [-1]
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        if abs(counts[-1]) > 1 << 48:
            return [-1]
        value = shift = 0
    return counts if not shift else [-1]


def _read_classes(mask: MaskFile, facts: Facts) -> NDArray[np.uint8]:
    """The mask of a mask file. Raises DatasetError when it is of another size or has pixels of no known class."""
    path = mask.file.path
    values_HW = read_mask(mask.file, in_colour=mask.coding.in_colour)
    meanings_HW = mask.coding.meanings(values_HW)
    if (meanings_HW == UNKNOWN).any():
        raise DatasetError.one("unknown_class", f"{path} has pixels of no known class.", path)
    table = np.array([IGNORED_PIXEL, IGNORED_PIXEL, 0, *range(1, IGNORED_PIXEL)], np.uint8)
    classes_HW = table[meanings_HW - UNKNOWN]
    size = (classes_HW.shape[1], classes_HW.shape[0])
    if size == (facts.width, facts.height):
        return classes_HW
    if size == facts.stored_size:
        return np.asarray(Image.fromarray(classes_HW).transpose(TURNS[facts.orientation]))
    message = f"{path} has {size[0]} x {size[1]} pixels, its image {facts.width} x {facts.height}."
    raise DatasetError.one("mask_size", message, path)
