"""Pairs of an image and a mask whose pixels are classes.

images/*.jpg  masks/*.png                            splits above (train/images) or below (images/train)
train/*.jpg  train_masks/*.png                       and other folder names (`mask_pairs.py`)
JPEGImages/*.jpg  SegmentationClass/*.png  labelmap.txt
a.jpg  a_mask.png                                    in the same folder

Names and colors: class_dict.csv (name,r,g,b), labelmap.txt (name:r,g,b:...), _classes.csv (Pixel Value, Class, as
Roboflow exports it), or a plain list of names (classes.txt, labels.txt, class_names.txt). Without colors, gray or
indexed pixel values are class numbers: 0 is the background; masks that have only 0 and 255 have one class. The meaning
of soft edges, and of 255 together with other values, is determined in `mask_values.py` and can be chosen in the review.
"""

import csv
import io
from array import array
from collections import Counter
from dataclasses import dataclass

import numpy as np

from trainingapp.contract.dataset_index import IGNORED_PIXEL, MOST_MASK_CLASSES
from trainingapp.contract.messages import Message
from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.messages import dataset_checks as check_messages
from trainingapp.contract.messages import dataset_reading as reading_messages
from trainingapp.datasets.images.decoding import read_mask
from trainingapp.datasets.report import FILES_NAMED, DatasetError, Report
from trainingapp.datasets.sources.files import Files, class_name
from trainingapp.datasets.sources.formats.collector import Collector
from trainingapp.datasets.sources.formats.mask_pairs import mask_pairs
from trainingapp.datasets.sources.formats.mask_values import ValueCounts, is_jpeg, is_void, threshold
from trainingapp.datasets.sources.layout import BACKGROUND, IGNORED, UNKNOWN, Layout, MaskCoding, MaskFile
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "masks"
_COLOUR_TABLES = ("class_dict.csv", "labelmap.txt", "label_colors.txt")
_VALUE_TABLE = "_classes.csv"
_NAME_TABLES = ("classes.txt", "labels.txt", "class_names.txt")
_BACKGROUND_NAMES = {"background", "_background_", "bg"}
_IGNORED_NAMES = {"void", "ignore", "ignored", "__ignore__"}
_WHITE_16 = 0xFFFF
_VOID_COLOUR = (224 << 16) | (224 << 8) | 192
"""Between objects in Pascal VOC's masks."""


@dataclass(frozen=True)
class _Legend:
    """The meaning of mask pixels: a class name for each color, or names by number."""

    colours: dict[int, str]
    names: list[str]
    path: str = ""


def recognise(files: Files) -> bool:
    """Whether the images have masks: in mask folders, or next to the images with a marker in their names.

    JPEGs count as masks if they are gray and not photographs.
    """
    found = mask_pairs(files)
    if not found.are_likely:
        return False
    masks = [mask for _image, mask in found.pairs]
    if not all(map(is_jpeg, masks)):
        return True
    try:
        read_mask(masks[0], in_colour=False)
    except DatasetError:
        return False
    return True


def read(files: Files, report: Report) -> Layout:
    """Pair images with masks and read every mask to find its classes."""
    legend = _legend(files, report)
    pairs = _pairs(files, report)
    counts = ValueCounts()
    values_of: dict[str, array[int]] = {}
    for _image, mask in pairs:
        if values := _values(files, mask, legend, counts, report):
            values_of[mask.path] = values
    _refuse_instances(counts, legend, report)
    masks = [mask for _image, mask in pairs if mask.path in values_of]
    level = None if legend.colours or not masks else threshold(files, counts, masks, legend.names, report)
    if level is not None:
        # The single class has all values from `level` on.
        others = [name for name in legend.names if name.lower() not in _BACKGROUND_NAMES] or ["foreground"]
        classes = others[-1:]
        coding = MaskCoding.of({value: 0 if value >= level else BACKGROUND for value in range(256)})
    else:
        has_void = bool(legend.colours) or not masks or is_void(files, counts, masks, legend.names, report)
        known = sorted(set[int]().union(*values_of.values()))
        classes, coding = _coding(legend, known, report, has_void=has_void)
    collector = Collector(files, report)
    for image, mask in pairs:
        values = values_of.get(mask.path)
        if values is None:
            continue
        meaning_of = dict(zip(values, coding.meanings(np.array(values, np.int32)).tolist(), strict=True))
        unknown = [value for value, meaning in meaning_of.items() if meaning == UNKNOWN]
        if unknown:
            named = [_pixel_value(value, coding.in_colour) for value in unknown[:5]]
            report.fault("unknown_class", messages.UNKNOWN_PIXEL_VALUES(path=mask.path, values=named), mask.path)
            continue
        seen = tuple(sorted({meaning for meaning in meaning_of.values() if meaning >= 0}))
        kind = files.kind_of(image.path) or files.kind_of(mask.path)
        collector.add(image, Position(mask.path), kind=kind, mask=MaskFile(mask, coding, seen))
    collector.warn_of_others()
    listed = [*([legend.path] if legend.path else []), *(mask.path for _image, mask in pairs)]
    return Layout(NAME, ["masks"], classes, collector.images(), listed)


def _pairs(files: Files, report: Report) -> list[tuple[SourceFile, SourceFile]]:
    """Pairs (image, mask); files without a partner are faults."""
    found = mask_pairs(files)
    for mask in found.lone_masks:
        report.fault("missing_image", messages.NO_IMAGE_FOR_MASK(path=mask.path), mask.path)
    counts = Counter(image.path for image, _mask in found.pairs)
    several = [mask.path for image, mask in found.pairs if counts[image.path] > 1]
    if 2 * len(several) > len(found.pairs):
        message = messages.SEVERAL_MASKS(count=sum(count > 1 for count in counts.values()), paths=several[:FILES_NAMED])
        raise DatasetError.one("duplicate_name", message, several[0])
    for path in sorted(image.path for image in found.lone_images):
        report.fault("missing_mask", messages.NO_MASK_FOR_IMAGE(path=path), path)
    return found.pairs


def _pixel_value(value: int, in_colour: bool) -> Message:
    if in_colour:
        return messages.PIXEL_COLOUR(red=value >> 16, green=value >> 8 & 255, blue=value & 255)
    return messages.PIXEL_VALUE(value=value)


# Meaning of the values


def _legend(files: Files, report: Report) -> _Legend:
    if legend := _value_legend(files, report):
        return legend
    for ending in (*_COLOUR_TABLES, *_NAME_TABLES):
        for file in files.ending(ending):
            try:
                text = files.read_text(file)
            except DatasetError as error:
                report.faults(error.items)
                continue
            if ending in _NAME_TABLES and not (colours := _labelmap(text)):
                names = [name for line in text.splitlines() if (name := class_name(line))]
                return _Legend({}, names, file.path)
            colours = _class_dict(text) if ending.endswith(".csv") else _labelmap(text)
            if colours:
                return _Legend(colours, [], file.path)
            report.error("bad_annotation", messages.NO_COLOURS(path=file.path), file.path)
    return _Legend({}, [])


def _value_legend(files: Files, report: Report) -> _Legend | None:
    """The class names by pixel value from the tables of all folders, with the columns Pixel Value and Class."""
    named: dict[int, str] = {}
    path = ""
    for file in files.ending(_VALUE_TABLE):
        if not files.peek(file).lstrip().lower().startswith(b"pixel value"):
            continue
        try:
            lines = files.read_text(file).splitlines()[1:]
        except DatasetError as error:
            report.faults(error.items)
            continue
        path = path or file.path
        for line in lines:
            value, _, name = line.partition(",")
            if value.strip().isascii() and value.strip().isdigit() and len(value.strip()) < 4 and class_name(name):
                named.setdefault(int(value), class_name(name))
    if not named:
        return None
    return _Legend({}, [named.get(value, f"class {value}") for value in range(max(named) + 1)], path)


def _class_dict(text: str) -> dict[int, str]:
    """Names by color from lines of name,r,g,b below a header."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
    except csv.Error:
        return {}
    found = ((_colour(row[1:4]), class_name(row[0])) for row in rows if len(row) >= 4)
    return {colour: name for colour, name in found if colour is not None and name}


def _labelmap(text: str) -> dict[int, str]:
    """Names by color from lines of name:r,g,b:parts:actions, or of r g b name; # begins a comment."""
    found: dict[int, str] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        colour = _colour(rest.split(":")[0].split(","))
        if colour is None and len(words := line.split(None, 3)) == 4:
            colour, name = _colour(words[:3]), words[3]
        if colour is not None and class_name(name) and not line.startswith("#"):
            found[colour] = class_name(name)
    return found


def _colour(parts: list[str]) -> int | None:
    values = [int(part) for part in map(str.strip, parts) if part.isascii() and part.isdigit() and len(part) < 4]
    if len(values) != 3 or len(parts) != 3 or max(values) > 255:
        return None
    return values[0] << 16 | values[1] << 8 | values[2]


def _refuse_instances(counts: ValueCounts, legend: _Legend, report: Report) -> None:
    """Refuse masks that number instances, that is, if most have values beyond any class. A few are single faults."""
    if set(counts.values) <= {0} and counts.beyond_values == {_WHITE_16}:
        return  # 0 and 65535 are black and white in 16 bits
    if not legend.colours and 2 * len(counts.beyond) > counts.masks:
        message = reading_messages.INSTANCE_MASKS(count=len(counts.beyond), value=counts.highest)
        report.error("unknown_class", message, counts.beyond[0])
        report.raise_errors()


def _coding(legend: _Legend, values: list[int], report: Report, *, has_void: bool) -> tuple[list[str], MaskCoding]:
    """Classes, and the meaning of each value or color. 255 means unknown if the masks have a void value."""
    named = _numbered(legend.names, values)
    if legend.colours:
        named = {_VOID_COLOUR: "void", **legend.colours}
    elif not has_void:
        named[IGNORED_PIXEL] = f"class {IGNORED_PIXEL}"
    classes = list(
        dict.fromkeys(name for name in named.values() if name.lower() not in _BACKGROUND_NAMES | _IGNORED_NAMES)
    )
    if len(classes) > MOST_MASK_CLASSES:
        message = check_messages.TOO_MANY_CLASSES(count=len(classes), most=MOST_MASK_CLASSES)
        report.error("too_many_classes", message, legend.path)
    label_of = {name: label for label, name in enumerate(classes)}
    label_of |= {name: BACKGROUND for name in named.values() if name.lower() in _BACKGROUND_NAMES}
    label_of |= {name: IGNORED for name in named.values() if name.lower() in _IGNORED_NAMES}
    targets = {value: label_of[name] for value, name in named.items()}
    return classes, MaskCoding.of(targets or {0: BACKGROUND}, in_colour=bool(legend.colours))


def _numbered(names: list[str], values: list[int]) -> dict[int, str]:
    """Class name by pixel value.

    Names are numbered from 0, or from 1 if the highest value equals their number: the list then lacks the background.
    """
    if set(values) <= {0, IGNORED_PIXEL} and len(names) <= 2 and IGNORED_PIXEL in values:
        others = [name for name in names if name.lower() not in _BACKGROUND_NAMES] or ["foreground"]
        return {0: "background", IGNORED_PIXEL: others[-1]}
    if set(values) <= {0, _WHITE_16}:
        others = [name for name in names if name.lower() not in _BACKGROUND_NAMES] or ["foreground"]
        return {0: "background", _WHITE_16: others[-1]}
    known = {0: "background", IGNORED_PIXEL: "void"}
    if not names:
        return {**{value: f"class {value}" for value in values if value < IGNORED_PIXEL}, **known}
    names = names[1:] if names[0].lower() in _IGNORED_NAMES else names
    highest = max((value for value in values if value != IGNORED_PIXEL), default=0)
    start = 1 if highest == len(names) and names[0].lower() not in _BACKGROUND_NAMES else 0
    return {**known, **dict(enumerate(names, start=start))}


def _values(
    files: Files, mask: SourceFile, legend: _Legend, counts: ValueCounts, report: Report
) -> "array[int] | None":
    """The distinct values in a mask, ascending; None, with a fault, if it cannot be read. Adds to `counts`."""
    if legend.colours and is_jpeg(mask):
        report.fault("mask_values_unclear", reading_messages.JPEG_WITH_COLOURS(path=mask.path), mask.path)
        return None
    files.beat()
    try:
        values_HW = read_mask(mask, in_colour=bool(legend.colours))
    except DatasetError as error:
        report.faults(error.items)
        return None
    # np.bincount is many times faster than np.unique, but its memory grows with the highest value.
    if values_HW.min() >= 0 and values_HW.max() < 1 << 16:
        pixels = np.bincount(values_HW.ravel())
        values = np.flatnonzero(pixels)
        pixels = pixels[values]
    else:
        values, pixels = np.unique(values_HW, return_counts=True)
    if not legend.colours:
        counts.add(mask.path, values.astype(np.int64), pixels.astype(np.int64))
    return array("i", values.tolist())
