"""The known dataset written by other libraries has the same objects, classes and splits when imported."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from PIL import Image
from pycocotools.coco import COCO

from tests.helpers.annotated import (
    CLASSES,
    IMAGES,
    SIZE,
    Annotated,
    by_split,
    expected_boxes,
    imported_boxes,
    imported_mask,
    mask_values,
)
from tests.helpers.annotation_programs import corner_points
from tests.helpers.sources import codes
from trainingapp.contract.dataset_index import read_index
from trainingapp.datasets.importing.importer import run_import
from trainingapp.models import Dataset


def detections(item: Annotated) -> sv.Detections:
    """Boxes with four corners, like oriented boxes."""
    boxes = [box for _name, box in item.boxes]
    numbers = np.array([CLASSES.index(name) for name, _box in item.boxes], int)
    turned = np.array([corner_points(box) for box in boxes], np.float32).reshape(-1, 4, 2)
    return sv.Detections(np.array(boxes, np.float32).reshape(-1, 4), class_id=numbers, data={"xyxyxyxy": turned})


def outlined(item: Annotated) -> sv.Detections:
    """Boxes with one mask each."""
    masks_NHW = np.zeros((len(item.boxes), SIZE[1], SIZE[0]), bool)
    for mask_HW, (_name, (left, top, right, bottom)) in zip(masks_NHW, item.boxes, strict=True):
        mask_HW[top:bottom, left:right] = True
    found = detections(item)
    found.mask = masks_NHW
    return found


Sets = dict[str, sv.DetectionDataset]


def held(folder: Path, make: Callable[[Annotated], sv.Detections]) -> Sets:
    """The dataset as supervision objects, by split."""
    found = {}
    for split, items in by_split().items():
        annotations = {}
        for item in items:
            path = folder / split / f"{item.stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(item.content())
            annotations[str(path)] = make(item)
        found[split] = sv.DetectionDataset(classes=CLASSES, images=list(annotations), annotations=annotations)
    return found


@pytest.fixture
def images(tmp_path: Path) -> Sets:
    return held(tmp_path / "written", detections)


def write_coco(images: Sets, folder: Path) -> None:
    for split, content in images.items():
        content.as_coco(str(folder / split), str(folder / "annotations" / f"instances_{split}.json"))


def write_yolo(images: Sets, folder: Path) -> None:
    for split, content in images.items():
        content.as_yolo(str(folder / split / "images"), str(folder / split / "labels"), str(folder / "data.yaml"))


def write_oriented_yolo(images: Sets, folder: Path) -> None:
    for split, content in images.items():
        place = folder / split
        content.as_yolo(str(place / "images"), str(place / "labels"), str(folder / "data.yaml"), is_obb=True)


def write_voc(images: Sets, folder: Path) -> None:
    for split, content in images.items():
        content.as_pascal_voc(str(folder / split), str(folder / split))


def write_labelme(images: Sets, folder: Path) -> None:
    for split, content in images.items():
        content.as_labelme(str(folder / split), str(folder / split))


def write_createml(images: Sets, folder: Path) -> None:
    for split, content in images.items():
        content.as_createml(str(folder / split), str(folder / split / "_annotations.createml.json"))


def check_boxes(dataset: Dataset, within: float) -> None:
    """Compare boxes; `within` is the deviation of corners, in pixels, that the writer causes."""
    assert dataset.classes == CLASSES
    found = imported_boxes(dataset)
    assert found.keys() == expected_boxes().keys()
    for stem, (split, boxes) in expected_boxes().items():
        assert found[stem][0] == split
        assert [name for name, _corners in found[stem][1]] == [name for name, _corners in boxes]
        for (_name, corners), (_same, expected) in zip(found[stem][1], boxes, strict=True):
            assert corners == pytest.approx(expected, abs=within)


@pytest.mark.parametrize(
    ("write", "format_", "warnings"),
    [
        (write_coco, "coco", []),
        (write_yolo, "yolo", []),
        (write_oriented_yolo, "yolo", ["oriented_boxes"]),
        (write_voc, "voc", []),
        (write_labelme, "labelme", []),
        (write_createml, "createml", []),
    ],
)
def test_equal_boxes_and_classes(
    write: Callable[[Sets, Path], None],
    format_: str,
    warnings: list[str],
    images: Sets,
    new_dataset: Callable[..., Dataset],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    write(images, folder)
    dataset = new_dataset(folder)
    run_import(dataset)
    assert (dataset.status, codes(dataset), codes(dataset, "warning")) == ("ready", [], warnings)
    assert dataset.format == format_
    check_boxes(dataset, 0.01)


@pytest.mark.parametrize("write", [write_coco, write_yolo, write_labelme])
def test_equal_outlines(
    write: Callable[[Sets, Path], None], new_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    write(held(tmp_path / "written", outlined), folder)
    dataset = new_dataset(folder)
    run_import(dataset)
    assert (dataset.status, codes(dataset), dataset.tasks) == ("ready", [], ["detection", "segmentation", "instances"])
    # The library writes the centers of the outermost pixels as the corners of an outline.
    check_boxes(dataset, 1.01)
    for item in IMAGES:
        found_HW, expected_HW = imported_mask(dataset, item.stem), mask_values(item)
        assert set(found_HW[found_HW != expected_HW].tolist()) <= {0}
        assert (found_HW == expected_HW).mean() > 0.9


def test_equal_classes_of_folders(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    labelled = [item for item in IMAGES if item.boxes]
    for split, items in by_split(labelled).items():
        annotations = {}
        for item in items:
            path = tmp_path / f"{item.stem}.png"
            path.write_bytes(item.content())
            annotations[str(path)] = sv.Classifications(np.array([CLASSES.index(item.boxes[0][0])]))
        content = sv.ClassificationDataset(CLASSES, list(annotations), annotations)
        content.as_folder_structure(str(tmp_path / "export" / split))
    dataset = new_dataset(tmp_path / "export")
    run_import(dataset)
    assert (dataset.status, dataset.format) == ("ready", "class_folders")
    found = {Path(one.path).stem: (one.split, dataset.classes[one.label]) for one in read_index(dataset.folder).samples}
    assert found == {item.stem: (item.split, item.boxes[0][0]) for item in labelled}


def test_pycocotools_reads_the_same_annotations(
    images: Sets, new_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    write_coco(images, tmp_path / "export")
    dataset = new_dataset(tmp_path / "export")
    run_import(dataset)
    found = imported_boxes(dataset)
    for split in ("train", "val"):
        reader = COCO(str(tmp_path / "export" / "annotations" / f"instances_{split}.json"))
        for image in reader.loadImgs(reader.getImgIds()):
            assert (image["width"], image["height"]) == SIZE
            entries = reader.loadAnns(reader.getAnnIds(imgIds=image["id"]))
            boxes = [
                (reader.cats[entry["category_id"]]["name"], tuple(map(float, (x, y, x + width, y + height))))
                for entry in entries
                for x, y, width, height in [entry["bbox"]]
            ]
            assert found[Path(image["file_name"]).stem] == (split, sorted(boxes))


def test_images_are_as_written(images: Sets) -> None:
    """The library reads the same images that the tests compare."""
    path = next(iter(images["train"].image_paths))
    with Image.open(path) as image:
        assert image.size == SIZE
