"""Checks that the boxes of a source have the unit and the form that its format specifies."""

from itertools import islice

from trainingapp.contract.messages import dataset_images as messages
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.layout import Layout

_SAMPLED = 2000
_FEWEST = 3
_BEYOND = 1.05
"""Boxes that exceed their image by less are inexact, and not in another form."""


def check_coordinates(layout: Layout, report: Report) -> None:
    """Refuse normalized boxes where pixels are expected, and two corners where a corner and a size are expected.

    Checks only the first boxes, since a file is written by one program.
    """
    in_pixels = (
        (shape, image.declared_size)
        for image in layout.images
        for shape in image.shapes
        if shape.box and not shape.relative
    )
    sample = list(islice(in_pixels, _SAMPLED))
    if len(sample) < _FEWEST:
        return
    boxes = [box for shape, _size in sample if (box := shape.box)]
    first = sample[0][0].where
    # Pascal VOC boxes have had one pixel subtracted from left and top.
    if all(-1 <= value <= 1 for box in boxes for value in box):
        text = ", ".join(f"{value:g}" for value in boxes[0])
        report.error("bad_annotation", messages.BOXES_IN_SHARES(where=first.param(), box=text), first.path)
        return
    sized = [(box, size) for shape, size in sample if all(size) and (box := shape.box)]
    beyond = sum(box[2] > _BEYOND * size[0] or box[3] > _BEYOND * size[1] for box, size in sized)
    if 2 * beyond > len(sized) >= _FEWEST and all(_are_corners(box, size) for box, size in sized):
        message = messages.BOXES_OF_CORNERS(where=first.param(), count=beyond, total=len(sized))
        report.fault("bad_annotation", message, first.path)


def _are_corners(box: tuple[float, float, float, float], size: tuple[int, int]) -> bool:
    """Whether the width and height could be the right and bottom of the box."""
    left, top, right, bottom = box[0], box[1], box[2] - box[0], box[3] - box[1]
    return 0 <= left < right <= _BEYOND * size[0] and 0 <= top < bottom <= _BEYOND * size[1]
