"""Conversion of a source's annotations to boxes and masks of the upright image.

Legend for array names: H, W height and width in pixels.
"""

import math
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainingapp.contract.dataset_index import IGNORED_PIXEL, Box
from trainingapp.contract.deep_images import TURNS
from trainingapp.contract.messages import dataset_annotations as annotation_messages
from trainingapp.contract.messages import dataset_images as messages
from trainingapp.contract.run_lengths import encoded
from trainingapp.datasets.images.decoding import MOST_PIXELS, ImageFacts, read_mask
from trainingapp.datasets.report import DatasetError, ReportItem
from trainingapp.datasets.sources.layout import UNKNOWN, MaskFile, Rle, Shape, SourceImage
from trainingapp.datasets.sources.position import Position

_CLIPPED_PIXELS = 0.5
"""A box that exceeds the image by more is reported as clipped: rounding explains less."""
_MOST_EXAMPLES = 3
_UNUSABLE = {"box_outside", "box_without_area"}
"""Findings about objects that are left out without stopping the import."""
_MOST_CROSSINGS = 1 << 20
_DECIMALS = 3
"""Of stored boxes: a thousandth of a pixel."""
Corners = tuple[float, float, float, float]
_Value = TypeVar("_Value", bound=np.generic)


@dataclass
class Placed:
    """Annotations of the upright image. `faults` concern single objects, which the boxes and the mask exclude.

    mask_HW: uint8, 0 for the background, i + 1 for class i, 255 for unknown. `outlines`: the mask of each box as packed
    run lengths (`contract/run_lengths.py`); none where they are not wanted. `unusable` are the excluded objects that
    have no area or lie outside the image. `clipped` counts boxes that exceeded the image, by at most `most_over`
    pixels; `clipped_at` lists the first of them.
    """

    boxes: list[Box] = field(default_factory=list)
    mask_HW: NDArray[np.uint8] | None = None
    outlines: list[str] = field(default_factory=list)
    faults: list[ReportItem] = field(default_factory=list)
    unusable: list[ReportItem] = field(default_factory=list)
    clipped: int = 0
    clipped_at: list[Position] = field(default_factory=list)
    most_over: float = 0.0
    is_turned: bool = False

    def note_clipped(self, over: float, where: Position) -> None:
        self.clipped += 1
        self.most_over = max(self.most_over, over)
        if len(self.clipped_at) < _MOST_EXAMPLES:
            self.clipped_at.append(where)


def place(image: SourceImage, facts: ImageFacts, *, wants_mask: bool, wants_outlines: bool = False) -> Placed:
    """Boxes, mask and outlines of a decoded image. Raises DatasetError if they are annotated for another image size."""
    placed = Placed(is_turned=_is_turned(image, facts))
    frame = facts.stored_size if placed.is_turned else (facts.width, facts.height)
    valid: list[Shape] = []
    for shape in image.shapes:
        try:
            placed.boxes.append(_box(shape, frame, facts, placed))
            valid.append(shape)
        except DatasetError as error:
            for item in error.items:
                (placed.unusable if item["code"] in _UNUSABLE else placed.faults).append(item)
    if image.mask:
        placed.mask_HW = _read_classes(image.mask, facts)
    elif wants_mask:
        placed.mask_HW = _painted(valid, frame, facts, placed)
    if wants_outlines:
        placed.outlines = _outlines(image, valid, frame, facts, placed)
    return placed


def _is_turned(image: SourceImage, facts: ImageFacts) -> bool:
    """Whether the annotations are for the image as stored, before its EXIF rotation."""
    declared, upright = image.declared_size, (facts.width, facts.height)
    if declared in ((0, 0), upright):
        return False
    if declared == facts.stored_size:
        return True
    message = messages.SIZE_MISMATCH(
        where=image.where.param(),
        width=declared[0],
        height=declared[1],
        path=image.file.path,
        real_width=upright[0],
        real_height=upright[1],
    )
    raise DatasetError.one("size_mismatch", message, image.file.path)


# Boxes


def _box(shape: Shape, frame: tuple[int, int], facts: ImageFacts, placed: Placed) -> Box:
    """The part of the box within the upright image. Raises DatasetError if it is empty or has no area."""
    given = _upright(_corners(shape, frame), shape, frame, facts, placed)
    width, height = facts.width, facts.height
    left, top, right, bottom = given
    over = max(-left, -top, right - width, bottom - height)
    inner = given
    if shape.box is None and shape.polygons and 0 < over < math.inf:
        # The part of a polygon within the image can be smaller than that of its box.
        clipped = _clipped_corners(shape, (1, 1) if shape.relative else frame)
        inner = _upright(clipped, shape, frame, facts, placed) if clipped else (0.0, 0.0, 0.0, 0.0)
    limits = (width, height, width, height)
    x0, y0, x1, y1 = (
        round(float(min(max(value, 0.0), limit)), _DECIMALS) for value, limit in zip(inner, limits, strict=True)
    )
    # Not written with <=, since comparisons with NaN are false.
    has_area = x1 > x0 and y1 > y0 and all(map(math.isfinite, given))
    if not has_area:
        where, box = shape.where.param(), "(" + ", ".join(f"{corner:.1f}" for corner in given) + ")"
        if right > left and bottom > top:
            message = messages.BOX_OUTSIDE(where=where, box=box, width=width, height=height)
            raise DatasetError.one("box_outside", message, shape.where.path)
        raise DatasetError.one("box_without_area", messages.BOX_WITHOUT_AREA(where=where, box=box), shape.where.path)
    if over > _CLIPPED_PIXELS:
        placed.note_clipped(over, shape.where)
    return Box(shape.label, x0, y0, x1, y1, crowd=shape.crowd)


def _upright(corners: Corners, shape: Shape, frame: tuple[int, int], facts: ImageFacts, placed: Placed) -> Corners:
    """The corners in pixel coordinates of the upright image."""
    left, top, right, bottom = corners
    if shape.relative:
        return left * facts.width, top * facts.height, right * facts.width, bottom * facts.height
    return _turned(corners, frame, facts.orientation) if placed.is_turned else corners


def _clipped_corners(shape: Shape, size: tuple[int, int]) -> Corners | None:
    """The bounding box of the polygons clipped to (0, 0) to (width, height); None if nothing is left."""
    parts = [clip_polygon(np.array(polygon, np.float64).reshape(-1, 2), size) for polygon in shape.polygons]
    points = np.concatenate([part for part in parts if len(part)] or [np.empty((0, 2))])
    if not len(points):
        return None
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right, bottom


def clip_polygon(corners: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """(N, 2) corners x, y of the part of the polygon within (0, 0) to `size` = (width, height); N may be 0.

    Sutherland and Hodgman, Reentrant polygon clipping, Communications of the ACM 17 (1974).
    """
    for axis, limit, sign in ((0, 0, 1), (0, size[0], -1), (1, 0, 1), (1, size[1], -1)):
        if not len(corners):
            break
        distance = sign * (corners[:, axis] - limit)  # points are inside where this is not negative
        kept: list[NDArray[np.float64]] = []
        for index in range(len(corners)):
            before, after = distance[index - 1], distance[index]
            if (before < 0) != (after < 0):
                share = before / (before - after)
                kept.append(corners[index - 1] + share * (corners[index] - corners[index - 1]))
            if after >= 0:
                kept.append(corners[index])
        corners = np.array(kept).reshape(-1, 2)
    return corners


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
        message = messages.MASK_EMPTY(where=shape.where.param())
        raise DatasetError.one("box_without_area", message, shape.where.path)
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _turned(corners: Corners, frame: tuple[int, int], orientation: int) -> Corners:
    """Transform a box of the stored image with `frame` = (width, height) to the upright image, by EXIF orientation."""
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
    # Orientations 1 to 4 keep width and height, so annotations of the stored image cannot be detected.
    raise AssertionError(orientation)


# Masks


def _painted(shapes: list[Shape], frame: tuple[int, int], facts: ImageFacts, placed: Placed) -> NDArray[np.uint8]:
    """The (H, W) mask of all outlines; later objects cover earlier ones."""
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


def _outlines(
    image: SourceImage, shapes: list[Shape], frame: tuple[int, int], facts: ImageFacts, placed: Placed
) -> list[str]:
    """The mask of each object by itself, one after the other: all at once could take gigabytes."""
    if image.mask and image.mask.has_objects:
        values_HW = _upright_mask(image.mask, read_mask(image.mask.file, in_colour=image.mask.coding.in_colour), facts)
        masks = (values_HW == shape.mask_value for shape in shapes)
    else:
        masks = (
            _painted([replace(shape, label=0)], frame, facts, Placed(is_turned=placed.is_turned)) for shape in shapes
        )
    return [encoded(mask_HW, facts.height, facts.width) for mask_HW in masks]


def fill_polygon(canvas_HW: NDArray[np.uint8], corners: NDArray[np.float64], value: int) -> None:
    """Set the pixels whose center lies within the polygon of (N, 2) corners x, y.

    In each row, the inside begins and ends where edges cross the center of the row (even-odd rule); an area covered
    twice is therefore a hole.
    """
    height, width = canvas_HW.shape
    limit = 4.0 * max(height, width)  # prevents overflow for distant corners; the box check refuses them
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
    """Toggle between 0 and 1 where an edge (x0, y0, x1, y1) crosses a row.

    The toggled pixel is in the first column whose center is to the right of the crossing.
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


def decode_rle(rle: Rle, frame: tuple[int, int], where: Position) -> NDArray[np.bool_]:
    """(H, W) mask of run lengths. Raises DatasetError if they do not match `frame` = (width, height)."""
    width, height = (rle.width, rle.height) if rle.width else frame
    if (width, height) != frame or width * height > MOST_PIXELS:
        message = messages.MASK_SIZE(
            where=where.param(), width=width, height=height, real_width=frame[0], real_height=frame[1]
        )
        raise DatasetError.one("mask_size", message, where.path)
    counts = np.array(unpack_counts(rle.counts) if isinstance(rle.counts, str) else rle.counts, dtype=np.int64)
    if not rle.width and not len(counts) % 2:  # the last run belongs to the object
        counts = np.append(counts, width * height - counts.sum())
    if (counts < 0).any() or (counts > MOST_PIXELS).any() or counts.sum() != width * height:
        message = messages.RUN_LENGTHS_INVALID(where=where.param(), width=width, height=height)
        raise DatasetError.one("bad_annotation", message, where.path)
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return values.reshape(height, width) if rle.by_rows else values.reshape(width, height).T


def unpack_counts(packed: str) -> list[int]:
    """Decode COCO's packed text to run lengths. Returns [-1], which no mask has, if the text is invalid.

    Groups of five bits, lowest first; a sixth bit marks continuation. From the third on, runs are stored as differences
    to the run before the previous one: rleFrString in
    https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c
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


def _read_classes(mask: MaskFile, facts: ImageFacts) -> NDArray[np.uint8]:
    """The (H, W) mask of a mask file. Raises DatasetError if its size differs or it has pixels of an unknown class."""
    path = mask.file.path
    values_HW = read_mask(mask.file, in_colour=mask.coding.in_colour)
    meanings_HW = mask.coding.meanings(values_HW)
    if (meanings_HW == UNKNOWN).any():
        raise DatasetError.one("unknown_class", annotation_messages.UNKNOWN_PIXELS(path=path), path)
    table = np.array([IGNORED_PIXEL, IGNORED_PIXEL, 0, *range(1, IGNORED_PIXEL)], np.uint8)
    return _upright_mask(mask, table[meanings_HW - UNKNOWN], facts)


def _upright_mask(mask: MaskFile, values_HW: NDArray[_Value], facts: ImageFacts) -> NDArray[_Value]:
    """The pixels of a mask file as those of the upright image. Raises DatasetError if its size differs."""
    path, size = mask.file.path, (values_HW.shape[1], values_HW.shape[0])
    if size == (facts.width, facts.height):
        return values_HW
    if size == facts.stored_size:
        return np.asarray(Image.fromarray(values_HW).transpose(TURNS[facts.orientation]))
    message = messages.MASK_FILE_SIZE(
        path=path, width=size[0], height=size[1], real_width=facts.width, real_height=facts.height
    )
    raise DatasetError.one("mask_size", message, path)
