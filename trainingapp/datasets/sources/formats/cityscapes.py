"""Cityscapes: images and masks with label numbers, in one folder per split and city.

leftImg8bit/train/bonn/bonn_000000_000019_leftImg8bit.png
gtFine/train/bonn/bonn_000000_000019_gtFine_labelIds.png        or _labelTrainIds; gtCoarse is read without gtFine

The classes are those of the benchmark's 19 that occur; all other labels are void, as in its evaluation:
https://github.com/mcordts/cityscapesScripts/blob/master/cityscapesscripts/helpers/labels.py
"""

import re

import numpy as np

from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.datasets.images.decoding import read_mask
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources.files import Files, best_match, stem
from trainingapp.datasets.sources.formats.collector import Collector
from trainingapp.datasets.sources.layout import IGNORED, Layout, MaskCoding, MaskFile
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "cityscapes"
LABEL_IDS = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
"""The 19 classes of the benchmark by their number in _labelIds; their order is that of _labelTrainIds."""
_MASK = re.compile(r"^(?P<name>.+)_gt(Fine|Coarse)_label(?P<train>Train)?Ids$", re.IGNORECASE)
_OTHER = re.compile(r"_gt(Fine|Coarse)_(color|instanceIds|labelIds|labelTrainIds|polygons)$", re.IGNORECASE)
_IMAGE = "_leftImg8bit"


def recognise(files: Files) -> bool:
    """Whether there are images with the names of Cityscapes masks."""
    return bool(_masks(files))


def _masks(files: Files) -> list[SourceFile]:
    """The masks: fine ones if there are any; label ids are preferred to training ids."""
    found = [file for file in files.images if _MASK.match(stem(file.path))]
    for ending in ("_gtFine_labelIds", "_gtFine_labelTrainIds", "_gtCoarse_labelIds"):
        if chosen := [file for file in found if stem(file.path).endswith(ending)]:
            return sorted(chosen, key=lambda file: file.path)
    return sorted(found, key=lambda file: file.path)


def read(files: Files, report: Report) -> Layout:
    """Pair images with masks and read every mask to find the classes that occur."""
    names = list(LABEL_IDS.values())
    pairs: list[tuple[SourceFile, SourceFile, bool, list[int]]] = []
    for mask in _masks(files):
        match = _MASK.match(stem(mask.path))
        assert match
        image = _image(files, mask, match["name"])
        if image is None:
            report.fault("missing_image", messages.NO_IMAGE_FOR_MASK(path=mask.path), mask.path)
            continue
        by_train = bool(match["train"])
        try:
            files.beat()
            values = set(np.unique(read_mask(mask, in_colour=False)).tolist())
        except DatasetError as error:
            report.faults(error.items)
            continue
        numbers = range(len(names)) if by_train else list(LABEL_IDS)
        pairs.append((image, mask, by_train, [place for place, value in enumerate(numbers) if value in values]))
    used = sorted({place for *_pair, seen in pairs for place in seen})
    classes = [names[place] for place in used]
    codings = {by_train: _coding(used, by_train=by_train) for by_train in (False, True)}
    collector = Collector(files, report)
    for image, mask, by_train, seen in pairs:
        shown = tuple(used.index(place) for place in seen)
        kind = files.kind_of(image.path) or files.kind_of(mask.path)
        collector.add(image, Position(mask.path), kind=kind, mask=MaskFile(mask, codings[by_train], shown))
    paired = {image.path for image, *_rest in pairs}
    for file in files.images:
        if stem(file.path).endswith(_IMAGE) and file.path not in paired:
            report.fault("missing_mask", messages.NO_MASK_FOR_IMAGE(path=file.path), file.path)
    # Outline, instance and color files repeat the masks.
    repeated = [file.path for file in files.source.files if _OTHER.search(stem(file.path))]
    files.read_paths.update(repeated)
    collector.warn_of_others([*repeated, *(file.path for file in files.images if stem(file.path).endswith(_IMAGE))])
    return Layout(NAME, ["masks"], classes, collector.images(), [mask.path for _image, mask, *_rest in pairs])


def _image(files: Files, mask: SourceFile, name: str) -> SourceFile | None:
    same = files.with_stem(name + _IMAGE) or files.with_stem(name)
    folder = re.sub(r"(?i)gt(Fine|Coarse)", "leftImg8bit", mask.path.rpartition("/")[0])
    return best_match(same, folder, files.kind_of(mask.path))


def _coding(used: list[int], *, by_train: bool) -> MaskCoding:
    """Every value without a class is void, including -1 (license plate), which PNG stores as 255."""
    targets = dict.fromkeys(range(256), IGNORED)
    numbers = range(len(LABEL_IDS)) if by_train else list(LABEL_IDS)
    targets |= {number: used.index(place) for place, number in enumerate(numbers) if place in used}
    return MaskCoding.of(targets)
