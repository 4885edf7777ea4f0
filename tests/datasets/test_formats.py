"""Every supported format and layout becomes the same dataset."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

from tests.helpers import annotated
from tests.helpers.annotated import CLASSES, IMAGES, SIZE, Tree, expected_boxes, imported_boxes, imported_mask
from tests.helpers.sources import codes, image, write_zip
from trainingapp.datasets.images.geometry import unpack_counts
from trainingapp.datasets.importing.importer import check_upload
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.formats.registry import read_layout
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]


def moved(tree: Tree, **places: str) -> Tree:
    """The tree with parts of its paths replaced."""
    found = {}
    for path, content in tree.items():
        for old, new in places.items():
            path = path.replace(old.replace("__", "/"), new)
        found[path] = content
    return found


@pytest.mark.parametrize("tree", [annotated.coco_tree(), annotated.yolo_tree(), annotated.voc_tree()])
def test_boxes_of_every_format(import_tree: ImportTree, tree: Tree) -> None:
    dataset = import_tree(tree)
    assert (dataset.status, dataset.report) == ("ready", [])
    assert (dataset.classes, dataset.tasks) == (CLASSES, ["detection"])
    assert imported_boxes(dataset) == expected_boxes()


@pytest.mark.parametrize(
    ("tree", "name"),
    [(annotated.coco_tree(outlined=True), "coco"), (annotated.yolo_tree(polygons=True), "yolo")],
)
def test_outlines_support_detection_and_segmentation(import_tree: ImportTree, tree: Tree, name: str) -> None:
    dataset = import_tree(tree)
    assert (dataset.format, dataset.tasks, dataset.classes) == (
        name,
        ["detection", "segmentation", "instances"],
        CLASSES,
    )
    assert imported_boxes(dataset) == expected_boxes()
    for item in IMAGES:
        assert (imported_mask(dataset, item.stem) == annotated.mask_values(item)).all()


@pytest.mark.parametrize("kind", ["grey", "indexed", "colour"])
def test_masks(import_tree: ImportTree, kind: str) -> None:
    dataset = import_tree(annotated.mask_tree(kind))
    assert (dataset.status, dataset.report) == ("ready", [])
    assert (dataset.format, dataset.tasks, dataset.classes) == ("masks", ["segmentation"], CLASSES)
    assert (dataset.count("train"), dataset.count("val")) == (4, 2)
    for item in IMAGES:
        assert (imported_mask(dataset, item.stem) == annotated.mask_values(item)).all()


def test_csv(import_tree: ImportTree) -> None:
    dataset = import_tree(annotated.csv_tree() | {"images/p7.png": image(70)})
    assert (dataset.format, dataset.tasks, dataset.classes) == ("csv", ["classification"], CLASSES)
    assert dataset.counts == {"train": {"cat": 1, "dog": 1, "owl": 1}, "val": {"cat": 1, "dog": 0, "owl": 1}}
    assert sorted(codes(dataset, "warning")) == ["class_without_val", "not_annotated"]


def test_scenes_of_version_0_1(import_tree: ImportTree) -> None:
    tree = annotated.scenes_tree()
    content = json.loads(tree["annotations.json"] or b"")
    content["pictures"] = content.pop("images")
    tree["annotations.json"] = json.dumps(content).encode()
    old, new = import_tree(tree), import_tree(annotated.scenes_tree())
    assert (old.format, old.status) == ("scenes", "ready")
    assert old.fingerprint == new.fingerprint


def test_scenes(import_tree: ImportTree) -> None:
    dataset = import_tree(annotated.scenes_tree())
    assert (dataset.format, dataset.status) == ("scenes", "ready")
    assert imported_boxes(dataset) == {stem: found for stem, found in expected_boxes().items() if found[1]}
    assert (imported_mask(dataset, "p1") == annotated.mask_values(IMAGES[0])).all()
    assert dataset.counts["train"] == {"cat": 1, "dog": 2, "owl": 1}


@pytest.mark.parametrize(
    "places",
    [
        {"train/": "train2017/", "val/": "val2017/", "train2017/_annotations.coco": "annotations/instances_train2017",
         "val2017/_annotations.coco": "annotations/instances_val2017"},
        {"train/p": "images/p", "val/p": "images/p", "train/_annotations.coco": "annotations/train",
         "val/_annotations.coco": "annotations/val"},
        {"train/": "my export/train/", "val/": "my export/valid/"},
    ],
)  # fmt: skip
def test_layouts_of_coco(import_tree: ImportTree, places: dict[str, str]) -> None:
    dataset = import_tree(moved(annotated.coco_tree(), **places))
    assert (dataset.format, dataset.report) == ("coco", [])
    assert imported_boxes(dataset) == expected_boxes()


def test_coco_without_splits(import_tree: ImportTree) -> None:
    content = annotated.coco("train")
    tree: Tree = {f"images/{item.stem}.png": item.content() for item in IMAGES if item.split == "train"}
    dataset = import_tree(tree | {"labels.json": json.dumps(content).encode()})
    assert dataset.status == "ready"
    assert {stem: boxes for stem, (_split, boxes) in imported_boxes(dataset).items()} == {
        stem: boxes for stem, (split, boxes) in expected_boxes().items() if split == "train"
    }


def test_roboflows_category_for_the_dataset_is_not_a_class(import_tree: ImportTree) -> None:
    tree = annotated.coco_tree()
    for split in ("train", "val"):
        content: Any = annotated.coco(split)
        for category in content["categories"]:
            category["supercategory"] = "pets"
        content["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
        tree[f"{split}/_annotations.coco.json"] = json.dumps(content).encode()
    assert import_tree(tree).classes == CLASSES


def test_run_lengths_and_crowds(import_tree: ImportTree) -> None:
    """Packed and plain run lengths written by pycocotools; a crowd remains a crowd."""
    tree = annotated.coco_tree()
    for split in ("train", "val"):
        content: Any = annotated.coco(split)
        for entry in content["annotations"]:
            mask_HW = np.zeros((SIZE[1], SIZE[0]), np.uint8, order="F")
            left, top, width, height = entry.pop("bbox")
            mask_HW[top : top + height, left : left + width] = 1
            packed = coco_masks.encode(mask_HW)
            counts = unpack_counts(packed["counts"].decode())
            plain = entry["id"] % 2 == 0
            entry["segmentation"] = {
                "size": list(packed["size"]),
                "counts": counts if plain else packed["counts"].decode(),
            }
            entry["iscrowd"] = int(entry["category_id"] == 30)
        tree[f"{split}/_annotations.coco.json"] = json.dumps(content).encode()
    dataset = import_tree(tree)
    assert dataset.tasks == ["detection", "segmentation", "instances"]
    assert imported_boxes(dataset) == expected_boxes()
    assert (imported_mask(dataset, "p1") == annotated.mask_values(IMAGES[0])).all()
    assert dataset.statistics["classes"][2]["objects"] == {"train": 0, "val": 0}


@pytest.mark.parametrize(
    ("places", "about"),
    [
        ({"images/train": "train/images", "images/val": "valid/images", "labels/train": "train/labels",
          "labels/val": "valid/labels"}, "train: ../train/images\nval: ../valid/images\nnames: [cat, dog, owl]\n"),
        ({}, "train: train.txt\nval: val.txt\nnames: [cat, dog, owl]\n"),
        ({}, "names: {0: cat, 1: dog, 2: owl}\n"),
    ],
)  # fmt: skip
def test_layouts_of_yolo(import_tree: ImportTree, places: dict[str, str], about: str) -> None:
    tree = moved(annotated.yolo_tree(), **places) | {"data.yaml": about.encode()}
    for split in ("train", "val") if "train.txt" in about else ():
        lines = [f"./images/{item.split}/{item.stem}.png" for item in IMAGES if item.split == split]
        tree[f"{split}.txt"] = "\n".join(lines).encode()
    dataset = import_tree(tree)
    assert (dataset.format, dataset.report, dataset.classes) == ("yolo", [], CLASSES)
    assert imported_boxes(dataset) == expected_boxes()


@pytest.mark.parametrize("names", [b"cat\ndog\nowl\n", None])
def test_yolo_without_yaml(import_tree: ImportTree, names: bytes | None) -> None:
    tree: Tree = {}
    for item in IMAGES:
        tree[f"{item.split}/{item.stem}.png"] = item.content()
        tree[f"{item.split}/{item.stem}.txt"] = annotated.yolo_lines(item).encode()
    dataset = import_tree(tree | ({"classes.txt": names} if names else {}))
    assert dataset.format == "yolo"
    assert dataset.classes == (CLASSES if names else ["0", "1", "2"])
    assert [len(boxes) for _split, boxes in imported_boxes(dataset).values()] == [2, 1, 0, 1, 2, 2]


def test_yolo_image_without_a_text_file_has_no_objects(import_tree: ImportTree) -> None:
    dataset = import_tree({path: content for path, content in annotated.yolo_tree().items() if "p3.txt" not in path})
    assert codes(dataset, "warning") == ["no_label_file"]
    assert imported_boxes(dataset)["p3"] == ("train", [])


def test_voc_beside_the_images(import_tree: ImportTree) -> None:
    tree: Tree = {}
    for item in IMAGES:
        tree[f"{item.split}/{item.stem}.png"] = item.content()
        tree[f"{item.split}/{item.stem}.xml"] = annotated.voc_xml(item).encode()
    assert imported_boxes(import_tree(tree)) == expected_boxes()


def test_masks_with_the_split_below_and_a_map_of_cvat(import_tree: ImportTree) -> None:
    tree: Tree = {"labelmap.txt": b"# label:color_rgb:parts:actions\nbackground:0,0,0::\n"}
    for number, name in enumerate(CLASSES, start=1):
        tree["labelmap.txt"] = (
            tree["labelmap.txt"] or b""
        ) + f"{name}:{','.join(map(str, annotated.COLOURS[number]))}::\n".encode()
    for path, content in annotated.mask_tree("colour").items():
        split, _, name = path.rpartition("/")[0].partition("/")
        folder = {"images": "JPEGImages", "masks": "SegmentationClass"}.get(name)
        if folder:
            tree[f"{folder}/{split}/{path.rpartition('/')[2]}"] = content
    dataset = import_tree(tree)
    assert (dataset.classes, dataset.count("val")) == (CLASSES, 2)
    assert (imported_mask(dataset, "p5") == annotated.mask_values(IMAGES[4])).all()


def test_void_pixels_are_unknown(import_tree: ImportTree) -> None:
    tree = annotated.mask_tree()
    values_HW = annotated.mask_values(IMAGES[0]).copy()
    values_HW[:2] = 255
    tree["train/masks/p1.png"] = annotated.png(Image.fromarray(values_HW))
    assert (imported_mask(import_tree(tree), "p1")[:2] == 255).all()


def test_black_and_white_masks_have_one_class(import_tree: ImportTree) -> None:
    tree: Tree = {}
    for item in IMAGES:
        tree[f"images/{item.stem}.png"] = item.content()
        tree[f"masks/{item.stem}_mask.png"] = annotated.png(
            Image.fromarray((annotated.mask_values(item) > 0).astype(np.uint8) * 255)
        )
    dataset = import_tree(tree)
    assert (dataset.status, dataset.classes) == ("ready", ["foreground"])
    assert (imported_mask(dataset, "p1") == (annotated.mask_values(IMAGES[0]) > 0)).all()


def test_names_that_do_not_list_the_background(import_tree: ImportTree) -> None:
    tree = annotated.mask_tree() | {"classes.txt": "\n".join(CLASSES).encode()}
    dataset = import_tree(tree)
    assert dataset.classes == CLASSES
    assert (imported_mask(dataset, "p1") == annotated.mask_values(IMAGES[0])).all()


@pytest.mark.parametrize("table", ["path;class\n", "Image\tTarget\n"])
def test_csv_with_other_headers(import_tree: ImportTree, table: str) -> None:
    delimiter = ";" if ";" in table else "\t"
    lines = [f"images/{item.stem}.png{delimiter}{item.boxes[0][0]}" for item in IMAGES if item.boxes]
    tree = annotated.csv_tree() | {"labels.csv": (table + "\n".join(lines)).encode()}
    dataset = import_tree(tree)
    assert (dataset.format, dataset.classes) == ("csv", CLASSES)
    assert dataset.count("train") + dataset.count("val") == 5


@pytest.mark.parametrize("name", annotated.TREES)
def test_format_is_recognized(name: str) -> None:
    layout = read_layout(annotated.source_of(annotated.TREES[name]()), Report())
    assert (layout.format, sorted(layout.classes)) == (name, CLASSES)


@pytest.mark.parametrize("name", annotated.TREES)
def test_zips_of_every_format(import_zip: ImportTree, tmp_path: Path, name: str) -> None:
    tree = {f"export/{path}": content for path, content in annotated.TREES[name]().items()}
    check_upload(write_zip(tmp_path / "upload.zip", tree))
    dataset = import_zip(tree)
    assert (dataset.status, dataset.format) == ("ready", name)


def test_a_source_with_only_a_validation_split_is_refused(import_tree: ImportTree) -> None:
    tree = {path: content for path, content in annotated.coco_tree().items() if path.startswith("val/")}
    dataset = import_tree(tree)
    assert (dataset.status, codes(dataset)) == ("refused", ["no_train"])


def test_suffixes_in_another_case(import_tree: ImportTree) -> None:
    tree = {path.replace(".png", ".PNG"): content for path, content in annotated.coco_tree().items()}
    assert imported_boxes(import_tree(tree)) == expected_boxes()


def test_packed_run_lengths_equal_those_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask_HW = np.asfortranarray(rng.random((rng.integers(1, 70), rng.integers(1, 70))) < rng.random()).astype(
            np.uint8
        )
        packed = coco_masks.encode(np.asfortranarray(mask_HW))["counts"].decode()
        flat = mask_HW.T.ravel()
        edges = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *edges, flat.size]).tolist()
        assert unpack_counts(packed) == ([0, *runs] if flat[0] else runs)


def test_painted_polygons_are_close_to_those_of_pycocotools(import_tree: ImportTree) -> None:
    angles = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    outline = np.stack([30 + 22 * np.cos(angles), 20 + 14 * np.sin(angles)], axis=1).ravel().tolist()
    tree = annotated.coco_tree(outlined=True)
    content: Any = annotated.coco("train", outlined=True)
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 1]
    entry = {"id": 99, "image_id": 1, "category_id": 10, "segmentation": [outline], "bbox": [8, 6, 44, 28]}
    content["annotations"].append(entry)
    tree["train/_annotations.coco.json"] = json.dumps(content).encode()
    painted_HW = imported_mask(import_tree(tree), "p1") == 1
    reference_HW = coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects([outline], SIZE[1], SIZE[0]))) == 1
    assert (painted_HW & reference_HW).sum() / (painted_HW | reference_HW).sum() > 0.97
