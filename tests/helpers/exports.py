"""The known dataset in every supported format, and its comparison with an import.

Images are identified by their content, regardless of their names in the dataset.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from tests.helpers import annotated, annotation_programs, known_datasets, mask_encodings, projects
from tests.helpers.annotated import CLASSES, IMAGES, Annotated, Tree, mask_values
from trainingapp.contract.dataset_index import Sample, read_index
from trainingapp.datasets.sources.formats.visdrone import CATEGORIES
from trainingapp.models import Dataset

Holds = Literal["boxes", "outlines", "masks", "label", "labels", "all"]
TASKS: Mapping[Holds, list[str]] = {
    "boxes": ["detection"],
    "outlines": ["detection", "segmentation", "instances"],
    "masks": ["segmentation"],
    "label": ["classification"],
    "labels": ["classification"],
    "all": ["detection", "segmentation", "classification", "instances"],
}
ITEMS = (
    *IMAGES,
    Annotated("p7", "test", [("owl", (3, 4, 30, 20)), ("cat", (31, 21, 60, 40))]),
    Annotated("p8", "test", [("dog", (0, 0, 60, 20))]),
)
"""The known dataset with images for testing."""
FOLDERS = "folders"
_STEMS = {
    "plain": "p{}",
    "other": "q{}",
    "screenshot": "Screenshot 2026-01-0{}\N{NARROW NO-BREAK SPACE}AM",
    "chinese": "照片{}",
}
"""How images are called; a narrow no-break space stands in the names that macOS gives to screenshots."""


@dataclass(frozen=True)
class Export:
    """A format as written by one program.

    `given_by` is the file that defines the split, with {split} in place of its name; FOLDERS if the image folders
    define it; "" if nothing does. `names` are the class names after import, in the order of CLASSES; a single name if
    the masks have one class. `warnings` are those of a complete import.
    """

    name: str
    format: str
    holds: Holds
    tree: Callable[..., Tree]
    given_by: str = FOLDERS
    names: tuple[str, ...] = tuple(CLASSES)
    warnings: tuple[str, ...] = ()
    reading: Mapping[str, str] | None = None

    def items(self, stems: str = "plain", *, with_test: bool = False) -> list[Annotated]:
        """The images that the export contains."""
        found = ITEMS if with_test else IMAGES
        named = [replace(item, stem=_STEMS[stems].format(item.stem[1:])) for item in found]
        return [item for item in named if item.boxes or self.holds not in ("label", "all")]

    def files(self, stems: str = "plain", *, with_test: bool = False) -> Tree:
        return _files(self, stems, with_test)


@cache
def _files_of(name: str, stems: str, with_test: bool) -> Tree:
    export = EXPORTS[name]
    return export.tree(items=export.items(stems, with_test=with_test))


def _files(export: Export, stems: str, with_test: bool) -> Tree:
    return _files_of(export.name, stems, with_test)


_NUMBERS = ("class 1", "class 2", "class 3")
CODES = ("/m/0", "/m/1", "/m/2")
"""The classes in the tables of Open Images, which a table of its own gives names."""
_FOREGROUND = ("foreground",)
programs, known = annotation_programs, known_datasets


def _exports() -> Iterator[Export]:
    json_of_split = "annotations/instances_{split}.json"
    yield Export("labelme", "labelme", "boxes", programs.labelme_tree)
    yield Export("labelme outlined", "labelme", "outlines", partial(programs.labelme_tree, outlined=True))
    yield Export("cvat", "cvat", "boxes", programs.cvat_tree, "annotations.xml")
    yield Export("cvat outlined", "cvat", "outlines", partial(programs.cvat_tree, outlined=True), "annotations.xml")
    yield Export("label studio", "label_studio", "boxes", programs.label_studio_tree)
    yield Export(
        "label studio outlined", "label_studio", "outlines", partial(programs.label_studio_tree, outlined=True)
    )
    yield Export("label studio min", "label_studio", "boxes", programs.label_studio_min_tree)
    yield Export("label studio csv", "label_studio", "boxes", programs.label_studio_csv_tree)
    yield Export("via", "via", "boxes", programs.via_tree)
    yield Export("via outlined", "via", "outlines", partial(programs.via_tree, outlined=True))
    yield Export("via version 1", "via", "boxes", partial(programs.via_tree, is_project=False))
    yield Export("via csv", "via", "boxes", programs.via_csv_tree)
    yield Export("createml", "createml", "boxes", programs.createml_tree)
    for form in ("tensorflow", "start", "kaggle", "open_images", "centre", "retinanet"):
        yield Export(f"csv boxes {form}", "csv_boxes", "boxes", partial(programs.csv_boxes_tree, form))
    yield Export("csv boxes with split", "csv_boxes", "boxes", known.box_table_tree, "boxes.csv")
    yield Export("datumaro boxes", "datumaro", "boxes", partial(known.datumaro_tree, "bbox"))
    yield Export("datumaro polygons", "datumaro", "outlines", partial(known.datumaro_tree, "polygon"))
    yield Export("datumaro masks", "datumaro", "outlines", partial(known.datumaro_tree, "mask"))
    yield Export("visdrone", "visdrone", "boxes", known.visdrone_tree, names=CATEGORIES[1:4])
    yield Export(
        "cityscapes", "cityscapes", "masks", partial(known.cityscapes_tree, sky=False), names=("road", "car", "bicycle")
    )
    yield Export("supervisely", "supervisely", "boxes", projects.supervisely_tree)
    yield Export("supervisely masks", "supervisely", "outlines", mask_encodings.supervisely_tree)
    yield Export("via version 3", "via", "boxes", projects.via3_tree)
    yield Export("kitti", "kitti", "boxes", projects.kitti_tree)
    yield Export("open images", "csv_boxes", "boxes", projects.open_images_tree)
    yield Export("cvat masks", "cvat", "outlines", mask_encodings.cvat_tree, "annotations.xml")
    yield Export("label studio brush", "label_studio", "outlines", mask_encodings.label_studio_tree)
    yield Export("labelme masks", "labelme", "outlines", mask_encodings.labelme_tree)
    for form in ("class", "joined", "rows"):
        yield Export(f"csv runs {form}", "csv_runs", "outlines", partial(mask_encodings.kaggle_tree, form))
    yield Export("imagefolder", "imagefolder", "boxes", partial(known.imagefolder_tree, as_list=False))
    yield Export("imagefolder lists", "imagefolder", "boxes", partial(known.imagefolder_tree, as_list=True))
    yield Export("imagefolder labels", "imagefolder", "label", partial(known.metadata_tree, "jsonl"))
    yield Export("imagefolder csv", "csv", "label", partial(known.metadata_tree, "csv"))
    yield Export("coco", "coco", "boxes", annotated.coco_tree)
    yield Export("coco outlined", "coco", "outlines", partial(annotated.coco_tree, outlined=True))
    yield Export("coco lists", "coco", "boxes", known.coco_lists_tree, json_of_split)
    yield Export("coco run lengths", "coco", "outlines", partial(known.coco_lists_tree, as_rle=True), json_of_split)
    yield Export("yolo", "yolo", "boxes", annotated.yolo_tree)
    yield Export(
        "yolo corners", "yolo", "outlines", partial(annotated.yolo_tree, polygons=True), warnings=("oriented_boxes",)
    )
    yield Export("yolo polygons", "yolo", "outlines", known.yolo_outlines_tree)
    yield Export("yolo pose", "yolo", "boxes", known.pose_tree, warnings=("columns_ignored",))
    yield Export("yolo darknet", "yolo", "boxes", known.darknet_tree, "data/{split}.txt")
    yield Export("voc", "voc", "boxes", annotated.voc_tree, "ImageSets/Main/{split}.txt")
    yield Export("voc folders", "voc", "boxes", known.voc_folders_tree)
    yield Export("masks grey", "masks", "masks", annotated.mask_tree)
    yield Export("masks indexed", "masks", "masks", partial(annotated.mask_tree, "indexed"))
    yield Export("masks colour", "masks", "masks", partial(annotated.mask_tree, "colour"))
    yield Export("isic", "masks", "masks", known.isic_tree, names=_FOREGROUND)
    yield Export("camvid", "masks", "masks", known.camvid_tree)
    yield Export("segnet", "masks", "masks", known.segnet_tree, names=_NUMBERS)
    yield Export("carvana", "masks", "masks", known.carvana_tree, names=("class 1",))
    yield Export("voc masks", "masks", "masks", known.voc_masks_tree, "ImageSets/Segmentation/{split}.txt")
    yield Export("roboflow masks", "masks", "masks", known.roboflow_masks_tree)
    yield Export(
        "folders in splits", "class_folders", "label", partial(known.folders_tree, "{split}/{label}/{stem}.png")
    )
    yield Export(
        "splits in folders", "class_folders", "label", partial(known.folders_tree, "{label}/{split}/{stem}.png")
    )
    yield Export("folders", "class_folders", "label", partial(known.folders_tree, "{label}/{stem}.png"), "")
    yield Export("index", "csv", "label", annotated.csv_tree, "labels.csv")
    yield Export("index without split", "csv", "label", partial(annotated.csv_tree, with_split=False), "")
    yield Export("label lists", "csv", "labels", known.label_lists_tree, "index.csv")
    yield Export("one-hot", "one_hot", "labels", known.one_hot_tree)
    yield Export("class in name", "file_name", "label", known.class_in_name_tree, reading={"class_from": "file_name"})
    yield Export("scenes", "scenes", "all", annotated.scenes_tree)


EXPORTS: Mapping[str, Export] = {export.name: export for export in _exports()}


@cache
def digests(stems: str) -> Mapping[str, Annotated]:
    """The images by the SHA-256 of their content as PNG and as JPEG."""
    export = EXPORTS["coco"]
    return {
        hashlib.sha256(item.content(format_)).hexdigest(): item
        for item in export.items(stems, with_test=True)
        for format_ in ("PNG", "JPEG")
    }


@dataclass(frozen=True)
class Imported:
    """An image of the dataset and its original image; None for an image of another origin."""

    sample: Sample
    origin: Annotated | None


def imported(dataset: Dataset, stems: Sequence[str]) -> list[Imported]:
    """The images of a dataset whose source used these name patterns."""
    origins = {digest: item for one in stems for digest, item in digests(one).items()}
    return [
        Imported(sample, origins.get(hashlib.sha256((dataset.folder / sample.path).read_bytes()).hexdigest()))
        for sample in read_index(dataset.folder).samples
    ]


def plain_names(classes: Sequence[str], format_: str) -> list[str]:
    """The corresponding names in CLASSES, or foreground; other names are unchanged."""
    if format_ == "masks" and list(classes) == ["class 1"]:
        return ["foreground"]
    aliases = dict(zip((*CATEGORIES[1:4], "road", "car"), (*CLASSES, "cat", "dog"), strict=True))
    aliases |= dict(zip(_NUMBERS, CLASSES, strict=True)) if format_ == "masks" else {}
    aliases |= dict(zip("012", CLASSES, strict=True)) if format_ == "yolo" else {}
    aliases |= dict(zip(CODES, CLASSES, strict=True)) if format_ == "csv_boxes" else {}
    return [aliases.get(name, name) for name in classes]


def differences(found: Imported, folder: Path, classes: Sequence[str], *, partly: bool = False) -> list[str]:
    """The differences from the written annotations: labels, boxes, masks. `classes` are names of CLASSES.

    `partly`: single objects and labels may be left out, with a finding.
    """
    sample, item = found.sample, found.origin
    if item is None:
        return []
    faults = []
    # Images without their annotations may be read as classes that are named like the folders of the datasets.
    name = classes[sample.label] if sample.label >= 0 else ""
    if name in CLASSES and name != item.boxes[0][0]:
        faults.append(f"label {name}")
    labels, expected = {classes[label] for label in sample.labels or ()}, {name for name, _box in item.boxes}
    if sample.labels is not None and not (labels <= expected if partly else labels == expected):
        faults.append(f"labels {labels}")
    boxes = sorted(
        (classes[box.label], (round(box.left), round(box.top), round(box.right), round(box.bottom)))
        for box in sample.boxes
    )
    if boxes and not (set(boxes) <= set(item.boxes) if partly else boxes == sorted(item.boxes)):
        faults.append(f"boxes {boxes}")
    if sample.mask and not partly and not same_mask(folder / sample.mask, item, classes):
        faults.append("mask")
    return faults


def same_mask(path: Path, item: Annotated, classes: Sequence[str]) -> bool:
    with Image.open(path) as image:
        found_HW = np.asarray(image)
    expected_HW = mask_values(item)
    if list(classes) == ["foreground"]:
        return bool(((found_HW == 1) == (expected_HW > 0)).all())
    return all(
        ((found_HW == label) == (expected_HW == CLASSES.index(name) + 1)).all()
        for label, name in enumerate(classes, start=1)
        if name in CLASSES
    )
