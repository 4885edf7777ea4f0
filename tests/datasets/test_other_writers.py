"""The same annotated dataset, written by other libraries, has the same boxes and classes when imported."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from PIL import Image
from pycocotools.coco import COCO

from tests.helpers.annotated import CLASSES, IMAGES, SIZE, Annotated, expected_boxes, imported_boxes
from tests.helpers.sources import codes
from trainingapp.datasets.importing.importer import run_import
from trainingapp.models import Dataset


def detections(item: Annotated) -> sv.Detections:
    corners = np.array([box for _name, box in item.boxes], np.float32).reshape(-1, 4)
    numbers = np.array([CLASSES.index(name) for name, _box in item.boxes], int)
    return sv.Detections(xyxy=corners, class_id=numbers)


@pytest.fixture
def images(tmp_path: Path) -> dict[str, sv.DetectionDataset]:
    """The set as supervision holds it, by split."""
    found = {}
    for split in ("train", "val"):
        annotations = {}
        for item in IMAGES:
            if item.split == split:
                path = tmp_path / "written" / split / f"{item.stem}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(item.content())
                annotations[str(path)] = detections(item)
        found[split] = sv.DetectionDataset(classes=CLASSES, images=list(annotations), annotations=annotations)
    return found


def write_coco(images: dict[str, sv.DetectionDataset], folder: Path) -> None:
    for split, content in images.items():
        content.as_coco(str(folder / split), str(folder / "annotations" / f"instances_{split}.json"))


def write_yolo(images: dict[str, sv.DetectionDataset], folder: Path) -> None:
    for split, content in images.items():
        content.as_yolo(str(folder / split / "images"), str(folder / split / "labels"), str(folder / "data.yaml"))


def write_voc(images: dict[str, sv.DetectionDataset], folder: Path) -> None:
    for split, content in images.items():
        content.as_pascal_voc(str(folder / split), str(folder / split))


@pytest.mark.parametrize("write", [write_coco, write_yolo, write_voc])
def test_equal_boxes_and_classes(
    write: Callable[[dict[str, sv.DetectionDataset], Path], None],
    images: dict[str, sv.DetectionDataset],
    new_dataset: Callable[..., Dataset],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    write(images, folder)
    dataset = new_dataset(folder)
    run_import(dataset)
    assert (dataset.status, codes(dataset)) == ("ready", [])
    assert dataset.format == write.__name__.removeprefix("write_")
    assert dataset.classes == CLASSES
    found = imported_boxes(dataset)
    assert found.keys() == expected_boxes().keys()
    for stem, (split, boxes) in expected_boxes().items():
        assert found[stem][0] == split
        assert [name for name, _corners in found[stem][1]] == [name for name, _corners in boxes]
        for (_name, corners), (_same, expected) in zip(found[stem][1], boxes, strict=True):
            assert corners == pytest.approx(expected, abs=0.01)


def test_pycocotools_reads_the_same(
    images: dict[str, sv.DetectionDataset], new_dataset: Callable[..., Dataset], tmp_path: Path
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


def test_images_are_as_written(images: dict[str, sv.DetectionDataset]) -> None:
    """The library read the same images that the tests compare."""
    path = next(iter(images["train"].image_paths))
    with Image.open(path) as image:
        assert image.size == SIZE
