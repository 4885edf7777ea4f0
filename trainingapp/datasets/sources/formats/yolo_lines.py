"""The columns of YOLO label files, determined from all lines of a set together.

class x y w h                          a box                                  5 columns
class x1 y1 x2 y2 x3 y3 ...            an outline                             odd, from 7 columns
class x1 y1 ... x4 y4                  an oriented box (OBB), or an outline   9 columns
class x y w h  px py [visible] ...     a pose: `kpt_shape` in data.yaml       5 + 2 k or 5 + 3 k columns
class x y w h  confidence or number    a prediction of a model, or a track    6 and 7 columns

https://docs.ultralytics.com/datasets/
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.position import Position

Meaning = Literal["box", "pose", "extra", "outline"]
Line = tuple[Position, "array[float]"]
"""Where it stands, and its numbers."""
_LARGEST_SHARE = 2.0
"""A coordinate above is no share of an image, even for a box that exceeds it."""
_NEAR = 0.05
"""Key points may lie outside of their box by this share of the image."""
_MOST_COMPARED = 2000


def meanings(lines: Sequence[Line], keypoints: tuple[int, int] | None, report: Report) -> dict[int, Meaning]:
    """The meaning of lines of each length; lines of other lengths are invalid. Warnings and errors go into the report.

    `keypoints` is `kpt_shape` of data.yaml: the number of key points and of values per key point.
    """
    found = _by_length(lines, keypoints, report)
    places: dict[Meaning, list[Position]] = defaultdict(list)
    for where, values in lines:
        if meaning := found.get(len(values)):
            places[meaning].append(where)
    for at, template in ((places["pose"], messages.YOLO_POSE), (places["extra"], messages.YOLO_EXTRA_COLUMNS)):
        if at:
            report.warn("columns_ignored", template(count=len(at), where=at[0].param()), at[0].path, count=len(at))
    outlines = places["outline"]
    if outlines and len(outlines) == len(lines) and all(len(values) == 9 for _where, values in lines):
        message = messages.YOLO_FOUR_CORNERS(count=len(lines), where=outlines[0].param())
        report.warn("oriented_boxes", message, outlines[0].path, count=len(lines))
    _refuse_pixels(lines, found, report)
    return found


def _by_length(lines: Sequence[Line], keypoints: tuple[int, int] | None, report: Report) -> dict[int, Meaning]:
    found: dict[int, Meaning] = {5: "box"}
    if keypoints:
        return {**found, 5 + keypoints[0] * keypoints[1]: "pose"}
    groups: dict[int, list[Line]] = defaultdict(list)
    for line in lines:
        if len(groups[len(line[1])]) < _MOST_COMPARED:
            groups[len(line[1])].append(line)
    has_one_length = len(groups.keys() - {5}) == 1
    for length, group in groups.items():
        rows = [values for _where, values in group]
        if length == 6 or (length == 7 and all(row[6].is_integer() for row in rows)):
            found[length] = "extra"
        elif length > 7 and (length - 5) % 3 == 0 and all(value in (0, 1, 2) for row in rows for value in row[7::3]):
            found[length] = "pose"  # every third value after the box is the visibility flag
        elif length > 9 and length % 2 and has_one_length and sum(map(_has_points_in_box, rows)) >= 0.9 * len(rows):
            found[length] = "pose"
            if _are_outlines(rows):
                where = group[0][0]
                message = messages.YOLO_AMBIGUOUS(where=where.param(), count=length)
                report.error("bad_annotation", message, where.path)
        elif length >= 7 and length % 2:
            found[length] = "outline"
    return found


def _has_points_in_box(row: "array[float]") -> bool:
    """Whether all points from the third on lie in the box of the first two."""
    x, y, width, height = row[1:5]
    points = zip(row[5::2], row[6::2], strict=True)
    return all(
        (px, py) == (0, 0) or (abs(px - x) <= width / 2 + _NEAR and abs(py - y) <= height / 2 + _NEAR)
        for px, py in points
    )


def _are_outlines(rows: "list[array[float]]") -> bool:
    """Whether in all lines the first two number pairs lie among the other points, as in an outline.

    A point 0 0 is an unlabeled key point.
    """
    if any((0, 0) in zip(row[5::2], row[6::2], strict=True) for row in rows):
        return False
    return all(
        min(row[first + 4 :: 2]) - _NEAR <= value <= max(row[first + 4 :: 2]) + _NEAR
        for row in rows
        for first in (1, 2)
        for value in (row[first], row[first + 2])
    )


def _refuse_pixels(lines: Iterable[Line], found: dict[int, Meaning], report: Report) -> None:
    """Refuse a set in which most lines have coordinates that are not normalized."""
    counts: Counter[bool] = Counter()
    first: Line | None = None
    for where, values in lines:
        used = values[1:] if found.get(len(values)) == "outline" else values[1:5]
        is_large = bool(used) and max(map(abs, used)) > _LARGEST_SHARE
        counts[is_large] += 1
        first = first or ((where, used) if is_large else None)
    if first and counts[True] > counts[False]:
        where, used = first
        largest = max(map(abs, used))
        message = messages.YOLO_PIXELS(where=where.param(), count=counts[True], value=largest)
        report.error("bad_annotation", message, where.path)
