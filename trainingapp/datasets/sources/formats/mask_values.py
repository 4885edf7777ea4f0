"""Meaning of the values in gray masks without a color table: classes, or one class with soft edges.

Resizing, antialiasing and JPEG compression add intermediate values to a mask, which would become dozens of classes
along the edges. If nearly all pixels are dark or bright, the mask is therefore read as one class. By convention, the
value 255 means "unknown", but it is also the brightest class of masks that were stretched for display.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainingapp.contract.dataset_index import IGNORED_PIXEL
from trainingapp.contract.messages import Message
from trainingapp.contract.messages import dataset_reading as messages
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.offers import Offer
from trainingapp.datasets.sources.source import SourceFile

_LEVEL = 128
"""The lowest value of the foreground of masks that are thresholded; half of the highest where that is below."""
_DARK, _BRIGHT = 32, 224
"""Values below and from which a pixel is nearly black or white."""
_MOST_BETWEEN = 0.25
"""Share of the pixels between dark and bright in masks with soft edges."""
_FEWEST_SOFT_VALUES = 8
_FEWEST_UNCLEAR_VALUES = 64
_MOST_STRETCHED = 16
_PNG = b"\x89PNG\r\n\x1a\n"
_INDEXED = 3
"""The colour type of an indexed PNG, at byte 25: https://www.w3.org/TR/png-3/#11IHDR"""
_JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")


@dataclass
class ValueCounts:
    """Pixel counts of each value below 256 over all masks, and other evidence for their meaning."""

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    masks: int = 0
    beyond: list[str] = field(default_factory=list)
    """Paths of masks with values from 256 on."""
    highest: int = 0
    beyond_values: set[int] = field(default_factory=set)
    """The first of those values."""

    def add(self, path: str, values: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        """Add a mask with these distinct values, in ascending order, and their pixel counts."""
        self.masks += 1
        if values[-1] > IGNORED_PIXEL:
            self.beyond.append(path)
            self.highest = max(self.highest, int(values[-1]))
            self.beyond_values |= set(values[values > IGNORED_PIXEL][:2].tolist())
        is_byte = (values >= 0) & (values <= IGNORED_PIXEL)
        self.pixels[values[is_byte]] += counts[is_byte]

    @property
    def values(self) -> list[int]:
        return [int(value) for value in np.flatnonzero(self.pixels)]

    @property
    def is_two_valued(self) -> bool:
        """Whether nearly all pixels are dark or bright and both occur."""
        total, bright = self.pixels.sum(), self.pixels[_BRIGHT:].sum()
        between = self.pixels[_DARK:_BRIGHT].sum()
        return bool(bright and self.pixels[:_DARK].sum() and between <= _MOST_BETWEEN * total)

    @property
    def between(self) -> int:
        """Number of distinct values between dark and bright."""
        return int(np.count_nonzero(self.pixels[_DARK:_BRIGHT]))


def is_jpeg(file: SourceFile) -> bool:
    return file.path.lower().endswith(_JPEG_SUFFIXES)


def threshold(
    files: Files, counts: ValueCounts, masks: Sequence[SourceFile], names: list[str], report: Report
) -> int | None:
    """The lowest foreground value if the masks have one class with soft edges, by the user's choice or by their values;
    None if each value is a class.

    Ambiguous values are offered as a choice. If no default is plausible, an error requests the choice.
    """
    chosen = files.reading.mask_values
    jpegs = [file.path for file in masks if is_jpeg(file)]
    indexed = bool(masks) and _is_indexed(masks[0])
    is_soft = counts.is_two_valued and counts.between >= _FEWEST_SOFT_VALUES and not indexed
    is_smeared = bool(jpegs) and counts.is_two_valued and set(counts.values) != {0, IGNORED_PIXEL}
    used: Literal["threshold", "values"] = "threshold" if (is_soft or is_smeared) and len(names) <= 2 else "values"
    if chosen != "auto":
        used = chosen
    highest = max(counts.values, default=0)
    level = _LEVEL if highest >= _LEVEL else (highest + 1) // 2
    reason = messages.MASKS_THRESHOLDED(count=counts.masks, level=level) if used == "threshold" else None
    many = len(counts.values)
    is_unclear = not names and not indexed and many >= _FEWEST_UNCLEAR_VALUES and used == "values"
    if is_soft or is_smeared or is_unclear or jpegs or chosen != "auto":
        files.offer(Offer("mask_values", used, ("threshold", "values"), reason if chosen == "auto" else None))
    if reason:
        report.warn("masks_thresholded", reason, masks[0].path, count=counts.masks)
    elif chosen == "auto" and jpegs and set(counts.values) != {0, IGNORED_PIXEL}:
        report.error("mask_values_unclear", messages.JPEG_MASKS(count=len(jpegs), path=jpegs[0]), jpegs[0])
    elif chosen == "auto" and is_unclear:
        report.error("mask_values_unclear", messages.MASK_VALUES_UNCLEAR(count=many), masks[0].path)
    return level if used == "threshold" else None


def is_void(files: Files, counts: ValueCounts, masks: Sequence[SourceFile], names: list[str], report: Report) -> bool:
    """Whether 255 means unknown; offered as a choice if it occurs together with other class values."""
    values = counts.values
    if IGNORED_PIXEL not in values or not set(values) - {0, IGNORED_PIXEL}:
        return True
    # Stretched values divide the range from 0 to 255 evenly, such as 0, 85, 170 and 255.
    step = IGNORED_PIXEL / (len(values) - 1)
    is_even = all(abs(high - low - step) <= 1 for low, high in pairwise(values))
    stretched = values[0] == 0 and 3 <= len(values) <= _MOST_STRETCHED and is_even
    chosen = files.reading.void_value
    used: Literal["void", "class"] = "class" if stretched else "void"
    if chosen != "auto":
        used = chosen
    reason: Message = messages.VOID_ASSUMED()
    if stretched:
        reason = messages.CLASS_ASSUMED(values=[str(value) for value in values])
    elif _is_indexed(masks[0]) or "segmentationclass" in masks[0].path.lower().split("/"):
        reason = messages.VOID_AS_IN_VOC()
    elif chosen == "auto" and not names:
        report.warn("void_assumed", reason, masks[0].path, count=counts.masks)
    files.offer(Offer("void_value", used, ("void", "class"), reason if chosen == "auto" else None))
    return used == "void"


def _is_indexed(file: SourceFile) -> bool:
    """Whether the file is a PNG with a palette, whose values are never stretched or smoothed."""
    try:
        with file.open() as reader:
            head = reader.read(26)
    except (ValueError, RuntimeError, EOFError, NotImplementedError, OSError):
        return False
    return head.startswith(_PNG) and len(head) == 26 and head[25] == _INDEXED
