"""Masks of objects as COCO's packed run lengths: down the columns, background first (no torch).

The text is that of rleToString in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c: groups of five
bits, the lowest first; a sixth bit marks continuation; from the fourth run on, the difference to the run before the
previous one. Part of exports, where it is a module without a package.

Legend: H, W height and width of the image in pixels; R runs; h, w sides of a part of the image.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

_MOST_SIDE = 96
"""Longer side of an object, in cells, up to which its outline is drawn exactly."""


def encoded(mask_hw: NDArray[Any], height: int, width: int, left: int = 0, top: int = 0) -> str:
    """The packed text of an object in an image of `height` x `width`.

    `mask_hw` is true where the object is, in the part of the image whose corner is (`left`, `top`).
    """
    rows, columns = np.flatnonzero(mask_hw.any(axis=1)), np.flatnonzero(mask_hw.any(axis=0))
    if not len(rows):
        return _packed(np.array([height * width]))
    inner = mask_hw[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = top + int(rows[0]), left + int(columns[0])
    framed_wh = np.zeros((inner.shape[1], inner.shape[0] + 2), dtype=np.int8)
    framed_wh[:, 1:-1] = inner.T != 0
    steps = np.diff(framed_wh, axis=1)
    bounds = []
    for step in (1, -1):
        column, row = np.nonzero(steps == step)
        bounds.append((column + left) * height + row + top)
    starts, ends = bounds
    # A run that reaches the bottom of a column continues at the top of the next one.
    apart = np.append(True, starts[1:] != ends[:-1])[: len(starts)]
    starts, ends = starts[apart], ends[np.append(apart[1:], True)[: len(ends)]]
    edges = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [height * width]])
    counts_R = np.diff(edges)
    return _packed(counts_R[:-1] if len(counts_R) > 1 and counts_R[-1] == 0 else counts_R)


def decoded(counts: str, height: int, width: int) -> Bools:
    """bool [H, W]. Raises ValueError for a text that is not a mask of this size."""
    counts_R = _unpacked(counts)
    if (counts_R < 0).any() or counts_R.sum() != height * width:
        raise ValueError(f"the run lengths are not those of {width} x {height} pixels")
    values = np.repeat(np.arange(len(counts_R)) % 2 == 1, counts_R)
    return values.reshape(width, height).T


def area(counts: str) -> int:
    """Pixels of the object."""
    return int(_unpacked(counts)[1::2].sum())


def write_outlines(path: Path, height: int, width: int, counts: Sequence[str]) -> None:
    """Store the masks of the objects of an image, in their order. Raises OSError."""
    path.write_text(json.dumps({"size": [height, width], "counts": list(counts)}, separators=(",", ":")))


def read_outlines(path: Path) -> list[str]:
    """The packed texts of such a file. Raises OSError, and ValueError for another file."""
    content = json.loads(path.read_text())
    counts = content.get("counts") if isinstance(content, dict) else None
    if not isinstance(counts, list) or not all(isinstance(one, str) for one in counts):
        raise ValueError(f"{path} holds no masks of objects")
    return counts


def outline(counts: str, height: int, width: int) -> list[list[float]]:
    """Polygons x, y, x, y, ... around the object and its holes, in pixels of the image.

    They run through the middles of the edges of its pixels; a large object is thinned out first. Raises ValueError.
    """
    mask_HW = decoded(counts, height, width)
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if not len(rows):
        return []
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    step = -(-max(bottom - top, right - left) // _MOST_SIDE)
    cells_hw = mask_HW[top:bottom:step, left:right:step]
    corner = np.array([left, top])
    found = []
    for loop in _loops(cells_hw):
        middles = (loop + np.roll(loop, -1, axis=0)) / 2
        turns = np.roll(middles, 1, axis=0) - middles != middles - np.roll(middles, -1, axis=0)
        points = middles[turns.any(axis=1)] * step + corner
        found.append([round(float(value), 1) for value in points.ravel()])
    return found


def path_of(counts: str, height: int, width: int) -> str:
    """`outline` as the path of an SVG in pixels of the image, to be filled by the even-odd rule.

    Empty for a text that is not a mask of this size.
    """
    try:
        found = outline(counts, height, width)
    except ValueError:
        return ""
    lines = (zip(polygon[::2], polygon[1::2], strict=True) for polygon in found)
    return "".join(f"M{'L'.join(f'{x:g} {y:g}' for x, y in line)}Z" for line in lines)


def _loops(cells_hw: Bools) -> list[Ints]:
    """Closed ways [(x, y), ...] along the edges of the cells, a step each, with the object on their right."""
    framed = np.zeros((cells_hw.shape[0] + 2, cells_hw.shape[1] + 2), dtype=np.int8)
    framed[1:-1, 1:-1] = cells_hw
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for axis, (dx, dy) in ((0, (1, 0)), (1, (0, 1))):
        steps = np.diff(framed, axis=axis)
        for sign in (1, -1):
            rows, columns = np.nonzero(steps == sign)
            for y, x in zip(rows.tolist(), columns.tolist(), strict=True):
                # The edge between two rows lies below row y of the frame, that between two columns right of column x.
                start = (x - 1, y) if axis == 0 else (x, y - 1)
                end = (start[0] + dx, start[1] + dy)
                first, last = (start, end) if (sign == 1) == (axis == 0) else (end, start)
                following.setdefault(first, []).append(last)
    loops = []
    while following:
        first = place = next(iter(following))
        loop: list[tuple[int, int]] = []
        came = (0, 0)
        while not loop or place != first:
            loop.append(place)
            ends = following[place]
            # Where two corners of the object touch, turning right stays at the same one.
            right = (place[0] - came[1], place[1] + came[0])
            chosen = ends.index(right) if len(ends) > 1 and right in ends else 0
            end = ends.pop(chosen)
            if not ends:
                del following[place]
            came, place = (end[0] - place[0], end[1] - place[1]), end
        loops.append(np.array(loop, dtype=np.int64))
    return loops


def _packed(counts_R: Ints) -> str:
    values_R = counts_R.astype(np.int64)
    values_R[3:] -= counts_R[1:-2]
    groups, is_open_R = [], np.ones(len(values_R), dtype=np.bool_)
    while is_open_R.any():
        bits_R = values_R & 31
        values_R = values_R >> 5
        goes_on_R = np.where(bits_R & 16, values_R != -1, values_R != 0)
        groups.append(np.where(is_open_R, bits_R + 32 * goes_on_R + 48, 0))
        is_open_R = is_open_R & goes_on_R
    letters = np.stack(groups, axis=1).ravel().astype(np.uint8)
    return letters[letters > 0].tobytes().decode("ascii")


def _unpacked(counts: str) -> Ints:
    """int64 [R]. Raises ValueError for a text that no mask has."""
    bits = np.frombuffer(counts.encode(), dtype=np.uint8).astype(np.int64) - 48
    if not len(bits) or (bits < 0).any() or (bits > 63).any() or bits[-1] & 32:
        raise ValueError("the run lengths are invalid")
    last = np.flatnonzero((bits & 32) == 0)
    first = np.append(0, last[:-1] + 1)
    if (last - first > 8).any():
        raise ValueError("the run lengths are invalid")
    shifts = 5 * (np.arange(len(bits)) - np.repeat(first, last - first + 1))
    values_R = np.add.reduceat((bits & 31) << shifts, first)
    values_R = np.where(bits[last] & 16, values_R - (1 << (shifts[last] + 5)), values_R)
    for start in (1, 2):
        values_R[start::2] = np.cumsum(values_R[start::2])
    return values_R
