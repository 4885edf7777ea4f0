"""Errors in annotations are reported with file and line; they refuse the import, or are left out if selected."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers import annotated
from tests.helpers.annotated import IMAGES, Annotated, Tree, imported_boxes
from tests.helpers.sources import assert_refused, codes, image, write_tree
from trainingapp.datasets.importing.importer import run_import
from trainingapp.datasets.importing.inspection import run_inspection
from trainingapp.datasets.sources import files
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]
Change = Callable[[Any], object]


def coco_with(change: Change) -> Tree:
    content: Any = annotated.coco("train")
    change(content)
    return annotated.coco_tree() | {"train/_annotations.coco.json": json.dumps(content, indent=1).encode()}


def first(**values: Any) -> Change:
    """Change the first annotation."""
    return lambda content: content["annotations"][0].update(values)


def line_of(tree: Tree, path: str, text: str) -> int:
    content = (tree[path] or b"").decode()
    return content[: content.index(text)].count("\n") + 1


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (first(bbox=[5, 5, 3]), "bad_annotation", "bbox must be four numbers"),
        (first(bbox=[5, 5, "three", 4]), "bad_annotation", "bbox must be four numbers"),
        (first(bbox=[5, 5, 1e400, 4]), "bad_annotation", "bbox must be four numbers"),
        (first(bbox=None), "bad_annotation", "needs a bbox or a segmentation"),
        (first(category_id=77), "unknown_class", "there is no category 77"),
        (first(image_id=77), "unknown_image", "no image with the id 77"),
        (first(segmentation=[[1, 2, 3]]), "bad_annotation", "segmentation must be"),
        (first(segmentation={"size": [40, 60], "counts": "x"}, bbox=None), "bad_annotation", "do not fill"),
        (first(segmentation={"size": [4, 6], "counts": [24]}, bbox=None), "mask_size", "6 x 4"),
    ],
)
def test_coco_objects(import_tree: ImportTree, data_dir: Path, change: Change, code: str, text: str) -> None:
    tree = coco_with(change)
    line = line_of(tree, "train/_annotations.coco.json", '"annotations"') + 1
    assert_refused(import_tree(tree), data_dir, code, f"train/_annotations.coco.json line {line}", text)


def test_coco_images(import_tree: ImportTree, data_dir: Path) -> None:
    def change(content: Any) -> None:
        content["images"][0]["file_name"] = "nowhere.png"
        content["images"][1]["width"] = 61
        content["images"][2]["id"] = content["images"][3]["id"]

    dataset = import_tree(coco_with(change))
    assert_refused(dataset, data_dir, "missing_image", "train/_annotations.coco.json line 3", "nowhere.png")
    assert_refused(dataset, data_dir, "bad_annotation", "the image id 4 occurs twice")


def test_an_image_in_two_splits(import_tree: ImportTree, data_dir: Path) -> None:
    """Two splits have annotations of the image that differ, so the correct ones are unknown."""
    dataset = import_tree(coco_with(lambda content: content["images"][2].update(file_name="../val/p5.png")))
    assert_refused(dataset, data_dir, "duplicate_name", "val/p5.png is already annotated")


def test_an_image_with_equal_annotations_in_two_splits_is_held_out(import_tree: ImportTree) -> None:
    def both(content: Any) -> None:
        content["images"].append({"id": 99, "file_name": "../val/p5.png", "width": 60, "height": 40})
        boxes = [[1, 2, 32, 32], [40, 20, 18, 18]]
        content["annotations"] += [{"image_id": 99, "category_id": 10, "bbox": box} for box in boxes]

    dataset = import_tree(coco_with(both))
    assert (dataset.status, codes(dataset, "warning")) == ("ready", ["leak"])
    assert annotated.imported_boxes(dataset) == annotated.expected_boxes()


def test_a_wrong_declared_image_size_is_reported(import_tree: ImportTree, data_dir: Path) -> None:
    dataset = import_tree(coco_with(lambda content: content["images"][1].update(width=61)))
    assert_refused(dataset, data_dir, "size_mismatch", "line 9", "61 x 40", "train/p2.png has 60 x 40")


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.95])
def test_truncated_json_is_reported(import_tree: ImportTree, data_dir: Path, cut: float) -> None:
    tree = annotated.coco_tree()
    content = tree["train/_annotations.coco.json"] or b""
    tree["train/_annotations.coco.json"] = content[: int(len(content) * cut)]
    assert_refused(import_tree(tree), data_dir, "annotations_broken", "train/_annotations.coco.json line ")


@pytest.mark.parametrize(
    ("lines", "code", "text"),
    [
        ("0 0.5 0.5 0.2\n", "bad_annotation", "line 1: a class and four numbers"),
        ("0 .5 .5 .2 .2\n\n1 .5 x .2 .2", "bad_annotation", "line 3"),
        ("9 0.5 0.5 0.2 0.2", "unknown_class", "line 1: there is no class 9"),
        ("-1 0.5 0.5 0.2 0.2", "unknown_class", "line 1: there is no class -1"),
        ("0 nan 0.5 0.1 0.2", "bad_annotation", "line 1"),
    ],
)
def test_yolo_lines(import_tree: ImportTree, data_dir: Path, lines: str, code: str, text: str) -> None:
    dataset = import_tree(annotated.yolo_tree() | {"labels/train/p1.txt": lines.encode()})
    assert_refused(dataset, data_dir, code, f"labels/train/p1.txt {text.split(':')[0]}", text)


def test_yolo_text_without_an_image(import_tree: ImportTree, data_dir: Path) -> None:
    dataset = import_tree(annotated.yolo_tree() | {"labels/train/p9.txt": b"0 .5 .5 .1 .1"})
    assert_refused(dataset, data_dir, "missing_image", "no image for labels/train/p9.txt")


def test_invalid_yaml_is_reported(import_tree: ImportTree, data_dir: Path) -> None:
    dataset = import_tree(annotated.yolo_tree() | {"data.yaml": b"names:\n  - cat\n - dog: ["})
    assert_refused(dataset, data_dir, "annotations_broken", "data.yaml line 3 is not valid YAML")


@pytest.mark.parametrize(
    ("old", "new", "code", "text"),
    [
        ("<xmax>20</xmax>", "<xmax>wide</xmax>", "bad_annotation", "Annotations/p1.xml line 4"),
        ("<name>cat</name>", "<name> </name>", "unknown_class", "Annotations/p1.xml line 4"),
        ("</bndbox>", "</box>", "annotations_broken", "Annotations/p1.xml line 6"),
        ("<width>60</width>", "<width>50</width>", "size_mismatch", "50 x 40"),
        ("<annotation>", '<!DOCTYPE a [<!ENTITY b "b">]><annotation>', "annotations_broken", "defines entities"),
    ],
)
def test_voc(import_tree: ImportTree, data_dir: Path, old: str, new: str, code: str, text: str) -> None:
    xml = annotated.voc_xml(IMAGES[0]).replace(old, new)
    dataset = import_tree(annotated.voc_tree() | {"Annotations/p1.xml": xml.encode()})
    assert_refused(dataset, data_dir, code, text)


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"train/masks/p1.png": annotated.png(Image.new("L", (30, 40)))}, "mask_size", "p1.png has 30 x 40"),
        ({"train/masks/p1.png": annotated.png(Image.new("L", (60, 40), 9))}, "unknown_class", "train/masks/p1.png"),
        ({"train/masks/p1.png": image(1, (60, 40))}, "colours_unknown", "class_dict.csv"),
        ({"train/masks/p1.png": b"text"}, "not_an_image", "train/masks/p1.png"),
        ({"train/masks/p1.png": None}, "missing_mask", "train/images/p1.png"),
        ({"train/images/p1.png": None}, "missing_image", "train/masks/p1.png"),
    ],
)  # fmt: skip
def test_masks(import_tree: ImportTree, data_dir: Path, change: Tree, code: str, text: str) -> None:
    tree = annotated.mask_tree() | change
    dataset = import_tree({path: content for path, content in tree.items() if content is not None})
    assert_refused(dataset, data_dir, code, text)


def test_colors_without_a_class_are_reported(import_tree: ImportTree, data_dir: Path) -> None:
    tree = annotated.mask_tree("colour") | {"train/masks/p1.png": annotated.png(Image.new("RGB", (60, 40), (1, 2, 3)))}
    assert_refused(import_tree(tree), data_dir, "unknown_class", "train/masks/p1.png", "color 1,2,3")


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("nowhere.png,cat,train", "missing_image", "labels.csv line 2: there is no image nowhere.png"),
        ("../../etc/p1.png,,train", "unknown_class", "labels.csv line 2: the class is missing"),
        ("p1.png", "bad_annotation", "labels.csv line 2: there is only 1 column."),
        ("p1.png,cat,maybe", "bad_annotation", "'maybe' is not a split"),
        ("p2.png,cat,train", "several_labels", "labels.csv line 3: images/p2.png has the class"),
        ("p2.png,owl,train", "duplicate_name", "labels.csv line 3: the image images/p2.png"),
    ],
)
def test_csv(import_tree: ImportTree, data_dir: Path, line: str, code: str, text: str) -> None:
    tree = annotated.csv_tree()
    lines = (tree["labels.csv"] or b"").decode().splitlines()
    tree["labels.csv"] = "\n".join([lines[0], line, *lines[2:]]).encode()
    assert_refused(import_tree(tree), data_dir, code, text)


def test_scenes(import_tree: ImportTree, data_dir: Path) -> None:
    tree = annotated.scenes_tree()
    content = json.loads(tree["annotations.json"] or b"")
    content["images"][0]["labels"] = [7, 0]
    tree["annotations.json"] = json.dumps(content, indent=1).encode()
    line = line_of(tree, "annotations.json", '"path"') - 1
    assert_refused(import_tree(tree), data_dir, "unknown_class", f"annotations.json line {line}:")


def test_annotation_files_have_a_size_limit(
    import_tree: ImportTree, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_ANNOTATION_BYTES", 1000)
    assert_refused(
        import_tree(annotated.coco_tree()), data_dir, "annotations_too_large", "train/_annotations.coco.json"
    )


def test_paths_outside_the_source_are_not_followed(
    new_dataset: Callable[..., Dataset], data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(image(1, (60, 40)))
    tree = coco_with(lambda content: content["images"][0].update(file_name="../../secret.png"))
    dataset = new_dataset(write_tree(tmp_path / "source", tree))
    run_import(dataset)
    assert_refused(dataset, data_dir, "missing_image", "secret.png")


# Leaving out


@pytest.fixture
def import_leaving_out(new_dataset: Callable[..., Dataset], tmp_path: Path) -> ImportTree:
    def import_(tree: Tree) -> Dataset:
        dataset = new_dataset(write_tree(tmp_path / "source", tree))
        Dataset.objects.filter(pk=dataset.pk).update(options={"on_error": "leave_out"})
        dataset.refresh_from_db()
        run_import(dataset)
        return dataset

    return import_


def test_single_objects_are_left_out(import_leaving_out: ImportTree) -> None:
    tree = annotated.yolo_tree() | {"labels/train/p1.txt": b"0 .5 .5 .1 .1\n0 5 5 1 1\n9 .5 .5 .1 .1\nx"}
    dataset = import_leaving_out(tree)
    assert dataset.status == "ready"
    assert {"bad_annotation", "box_outside", "unknown_class"} <= set(codes(dataset, "warning"))
    assert imported_boxes(dataset)["p1"] == ("train", [("cat", (27.0, 18.0, 33.0, 22.0))])
    message = next(item["message"] for item in dataset.report if item["code"] == "box_outside")
    assert message.startswith("Left out: labels/train/p1.txt line 2")


def test_images_are_left_out_with_their_files(import_leaving_out: ImportTree) -> None:
    tree = annotated.coco_tree() | {"train/p1.png": b"text", "val/p6.png": image(6, (10, 10))}
    dataset = import_leaving_out(tree)
    assert (dataset.status, dataset.count("train"), dataset.count("val")) == ("ready", 3, 1)
    assert not list(dataset.folder.rglob("p1.png")) + list(dataset.folder.rglob("p6.png"))


def test_an_empty_class_folder_is_left_out(import_leaving_out: ImportTree) -> None:
    tree = {f"{name}/{number}.png": image(number + ord(name)) for name in "ab" for number in range(3)}
    dataset = import_leaving_out({**tree, "empty": None})
    assert (dataset.status, dataset.classes) == ("ready", ["a", "b"])


def test_a_source_without_enough_usable_images_is_refused(import_leaving_out: ImportTree, data_dir: Path) -> None:
    tree = {path: b"text" if path.endswith(".png") else content for path, content in annotated.coco_tree().items()}
    assert_refused(import_leaving_out(tree), data_dir, "no_train")


# Corrections with a warning


def test_boxes_a_little_outside_are_clipped(import_tree: ImportTree) -> None:
    dataset = import_tree(coco_with(first(bbox=[-1.5, -0.2, 20, 10])))
    assert imported_boxes(dataset)["p1"][1][0] == ("cat", (0.0, 0.0, 18.5, 9.8))
    assert codes(dataset, "warning") == ["box_clipped"]


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (coco_with(first(bbox=[50, -30, 40, 40])), ("cat", (50.0, 0.0, 60.0, 10.0))),
        (annotated.yolo_tree() | {"labels/train/p1.txt": b"0 0.9 0.5 0.5 0.2"}, ("cat", (39.0, 16.0, 60.0, 24.0))),
        (
            annotated.yolo_tree() | {"labels/train/p1.txt": b"0 0.5 -1 1.5 0.5 0.5 2 -0.5 0.5"},
            ("cat", (0.0, 0.0, 60.0, 40.0)),
        ),
        (
            annotated.yolo_tree() | {"labels/train/p1.txt": b"0 1.2 0.1 0.8 0.5 1.2 0.9"},
            ("cat", (48.0, 12.0, 60.0, 28.0)),
        ),
        (
            annotated.voc_tree()
            | {"Annotations/p1.xml": annotated.voc_xml(Annotated("p1", "train", [("cat", (-70, 5, 9, 90))])).encode()},
            ("cat", (0.0, 5.0, 9.0, 40.0)),
        ),
    ],
)
def test_the_part_of_an_object_inside_the_image_is_kept(
    import_tree: ImportTree, tree: Tree, expected: tuple[str, tuple[float, ...]]
) -> None:
    """The visible part of a triangle with corners right of the image is smaller than that of its box."""
    dataset = import_tree(tree)
    assert dataset.status == "ready"
    assert expected in imported_boxes(dataset)["p1"][1]
    message = next(item["message"] for item in dataset.report if item["code"] == "box_clipped")
    assert message.startswith("1 box that exceeds its image by")
    assert "p1" in message or "line" in message


@pytest.mark.parametrize(
    ("tree", "code", "text"),
    [
        (coco_with(first(bbox=[61, 0, 20, 10])), "box_outside", "lies outside the image of 60 x 40"),
        (coco_with(first(bbox=[5, 5, 0, 10])), "box_without_area", "has no area"),
        (coco_with(first(bbox=[5, 5, -3, 10])), "box_without_area", "has no area"),
        (
            annotated.yolo_tree() | {"labels/train/p1.txt": b"0 0.5 0.5 0 0.2\n1 .5 .5 .1 .1"},
            "box_without_area",
            "labels/train/p1.txt line 1",
        ),
        (
            annotated.yolo_tree() | {"labels/train/p1.txt": b"1 .5 .5 .1 .1\n0 30 20 10 10"},
            "box_outside",
            "labels/train/p1.txt line 2",
        ),
    ],
)
def test_objects_that_cannot_be_used_are_left_out(import_tree: ImportTree, tree: Tree, code: str, text: str) -> None:
    dataset = import_tree(tree)
    assert (dataset.status, codes(dataset, "warning")) == ("ready", [code])
    assert [name for name, _box in imported_boxes(dataset)["p1"][1]] == ["dog"]
    assert dataset.report[0]["message"].startswith("Left out: ")
    assert text in dataset.report[0]["message"]


def test_an_image_without_usable_objects_is_not_a_background(import_tree: ImportTree) -> None:
    """p2 has one object, which is outside the image; p3 has none."""
    dataset = import_tree(annotated.yolo_tree() | {"labels/train/p2.txt": b"2 3 3 .1 .1"})
    assert dataset.status == "ready"
    assert set(imported_boxes(dataset)) == {"p1", "p3", "p4", "p5", "p6"}
    message = next(item["message"] for item in dataset.report if item["code"] == "objects_lost")
    assert "images/train/p2.png" in message
    assert not list(dataset.folder.rglob("p2.png"))


def test_an_image_whose_lines_are_left_out_is_not_a_background(import_leaving_out: ImportTree) -> None:
    dataset = import_leaving_out(annotated.yolo_tree() | {"labels/train/p2.txt": b"9 .5 .5 .1 .1"})
    assert set(imported_boxes(dataset)) == {"p1", "p3", "p4", "p5", "p6"}
    assert {"unknown_class", "objects_lost"} <= set(codes(dataset, "warning"))


def test_a_set_that_loses_most_objects_is_refused(import_tree: ImportTree, data_dir: Path) -> None:
    far: Tree = {
        f"labels/{split}/{stem}.txt": b"0 1.9 1.9 .1 .1\n0 1.8 1.9 .1 .1\n"
        for split, stem in (("train", "p4"), ("val", "p5"))
    }
    far["labels/train/p1.txt"] = b"0 1.5 1.5 .1 .1\n0 1.6 1.5 .1 .1\n"
    dataset = import_tree(annotated.yolo_tree() | far)
    assert_refused(dataset, data_dir, "box_outside", "6 of 9 objects have no area or lie outside")


def test_swapped_corners_are_reordered(import_tree: ImportTree) -> None:
    box = ("cat", (20, 30, 5, 10))
    xml = (
        annotated.voc_xml(Annotated("p2", "train", [box]))
        .replace("<xmin>21", "<xmin>20")
        .replace("<ymin>31", "<ymin>30")
    )
    dataset = import_tree(annotated.voc_tree() | {"Annotations/p4.xml": xml.encode()})
    assert imported_boxes(dataset)["p4"] == ("train", [("cat", (4.0, 9.0, 20.0, 30.0))])
    assert codes(dataset, "warning") == ["corners_swapped"]


def turned_jpeg(pixels_HWC: "np.ndarray[Any, np.dtype[np.uint8]]", orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("outlined", [True, False])
def test_annotations_of_the_stored_image_are_rotated(import_tree: ImportTree, orientation: int, outlined: bool) -> None:
    """The imported box must match the bright rectangle of the stored image after Pillow's rotation."""
    pixels_HWC = np.full((40, 60, 3), 30, np.uint8)
    pixels_HWC[8:24, 8:40] = 220
    pixels_HWC[30:38, 50:58] = 120
    entry = {"id": 1, "image_id": 1, "category_id": 10, "bbox": [8, 8, 32, 16]}
    if outlined:
        entry["segmentation"] = [[8, 8, 40, 8, 40, 24, 8, 24]]
    content: Any = annotated.coco("train", outlined=outlined)
    content["images"][0] = {"id": 1, "file_name": "p1.jpg", "width": 60, "height": 40}
    content["annotations"] = [entry, *(item for item in content["annotations"] if item["image_id"] != 1)]
    tree = annotated.coco_tree(outlined=outlined)
    del tree["train/p1.png"]
    tree["train/p1.jpg"] = turned_jpeg(pixels_HWC, orientation)
    dataset = import_tree(tree | {"train/_annotations.coco.json": json.dumps(content).encode()})
    assert "annotation_turned" in codes(dataset, "warning")
    upright = Image.open(io.BytesIO(tree["train/p1.jpg"] or b""))
    turned_HW = np.asarray(upright.transpose(getattr(Image.Transpose, TURNS[orientation])).convert("L")) > 170
    rows, columns = np.flatnonzero(turned_HW.any(axis=1)), np.flatnonzero(turned_HW.any(axis=0))
    expected = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    assert imported_boxes(dataset)["p1"] == ("train", [("cat", expected)])
    if outlined:
        assert ((annotated.imported_mask(dataset, "p1") == 1) == turned_HW).all()


TURNS = {5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}


# Inspection


def test_inspection_of_a_source_with_errors_gives_a_proposal(
    new_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    tree = annotated.yolo_tree() | {"labels/train/p1.txt": b"9 .5 .5 .1 .1\n0 .5 .5 .1 .1", "data/notes.md": b""}
    dataset = new_dataset(write_tree(tmp_path / "source", tree))
    Dataset.objects.update(status="inspecting")
    dataset.refresh_from_db()
    run_inspection(dataset)
    assert (dataset.status, dataset.format, dataset.tasks) == ("proposed", "yolo", ["detection"])
    proposal = dataset.proposal
    assert proposal["classes"][0] == {"name": "cat", "images": 2, "objects": 3}
    assert (proposal["images"], proposal["has_splits"]) == ({"train": 4, "val": 2, "none": 0}, True)
    assert proposal["files"][0] == "data.yaml"
    assert [(item["level"], item["code"]) for item in proposal["report"]] == [("error", "unknown_class")]


def test_inspection_of_an_empty_source_is_refused(
    new_dataset: Callable[..., Dataset], data_dir: Path, tmp_path: Path
) -> None:
    dataset = new_dataset(write_tree(tmp_path / "source", {"notes.txt": b"x", "images/a.png": image(1)}))
    Dataset.objects.update(status="inspecting")
    dataset.refresh_from_db()
    run_inspection(dataset)
    assert_refused(dataset, data_dir, "not_classes", "images")
