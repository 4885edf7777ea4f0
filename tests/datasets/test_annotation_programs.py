"""Exports of annotation programs: shapes other than boxes, and errors that name the cause."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.annotated import SIZE, Tree, imported_boxes
from tests.helpers.sources import assert_refused, codes, image
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]


def labelme_file(shapes: list[object]) -> bytes:
    return json.dumps({"shapes": shapes, "imagePath": "a.png", "imageHeight": 40, "imageWidth": 60}, indent=1).encode()


def first_box(dataset: Dataset) -> tuple[float, ...]:
    ((_split, ((_name, box),)),) = [found for found in imported_boxes(dataset).values() if found[1]]
    return box


BACKGROUND: Tree = {f"b{number}.png": image(number + 50, SIZE) for number in range(3)}


def with_labelme(shape: dict[str, object]) -> Tree:
    others = {path.replace(".png", ".json"): labelme_file([]) for path in BACKGROUND}
    return {"a.png": image(1, SIZE), "a.json": labelme_file([shape]), **BACKGROUND, **others}


def with_cvat(element: str) -> Tree:
    entries = [f'<image id="9" name="{path}" width="60" height="40"/>' for path in BACKGROUND]
    first = f'<image id="0" name="a.png" width="60" height="40">\n{element}\n</image>'
    text = "\n".join(["<annotations>", first, *entries, "</annotations>"])
    return {"a.png": image(1, SIZE), **BACKGROUND, "annotations.xml": text.encode()}


def with_label_studio(kind: str, value: dict[str, object]) -> Tree:
    result = [{"type": kind, "value": value, "from_name": "x", "original_width": SIZE[0], "original_height": SIZE[1]}]
    tasks: list[dict[str, object]] = [{"data": {"image": path}, "annotations": [{"result": []}]} for path in BACKGROUND]
    tasks.append({"data": {"image": "a.png"}, "annotations": [{"result": result}]})
    return {"a.png": image(1, SIZE), **BACKGROUND, "export.json": json.dumps(tasks).encode()}


def with_via(outline: dict[str, object]) -> Tree:
    entries: dict[str, object] = {path: {"filename": path, "regions": []} for path in BACKGROUND}
    region = {"shape_attributes": outline, "region_attributes": {"class": "cat"}}
    entries["a"] = {"filename": "a.png", "regions": [region]}
    return {"a.png": image(1, SIZE), **BACKGROUND, "via.json": json.dumps(entries).encode()}


TURNED = {"x": 50, "y": 25, "width": 20, "height": 10, "rotation": 90, "rectanglelabels": ["cat"]}


@pytest.mark.parametrize(
    ("tree", "box"),
    [
        (with_labelme({"label": "cat", "points": [[20, 20], [20, 30]], "shape_type": "circle"}), (10, 10, 30, 30)),
        (with_labelme({"label": "cat", "points": [[20, 10], [30, 20], [20, 30], [10, 20]], "shape_type": "rotation"}),
         (10, 10, 30, 30)),
        (with_cvat('<ellipse label="cat" cx="20" cy="20" rx="10" ry="5"/>'), (10, 15, 30, 25)),
        (with_cvat('<box label="cat" xtl="10" ytl="15" xbr="30" ybr="25" rotation="90"/>'), (15, 10, 25, 30)),
        (with_label_studio("ellipselabels", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "ellipselabels": ["cat"]}),
         (24, 12, 36, 28)),
        (with_label_studio("rectanglelabels", TURNED), (26, 10, 30, 22)),
        (with_via({"name": "circle", "cx": 20, "cy": 20, "r": 10}), (10, 10, 30, 30)),
        (with_via({"name": "ellipse", "cx": 20, "cy": 20, "rx": 10, "ry": 5, "theta": 1.5707963267948966}),
         (15, 10, 25, 30)),
    ],
)  # fmt: skip
def test_round_and_rotated_objects(import_tree: ImportTree, tree: Tree, box: tuple[int, ...]) -> None:
    dataset = import_tree(tree)
    assert (dataset.status, dataset.classes) == ("ready", ["cat"])
    assert first_box(dataset) == pytest.approx(box, abs=0.1)


@pytest.mark.parametrize(
    ("tree", "code", "texts"),
    [
        (with_labelme({"label": "cat", "points": [[1, 1]], "shape_type": "point"}), "bad_annotation",
         ["a.json line 3", "type point", "polygon, rectangle"]),
        (with_labelme({"label": "cat", "points": [[1, "x"], [2, 2]], "shape_type": "rectangle"}), "bad_annotation",
         ["a.json line 3", "points"]),
        (with_labelme({"label": " ", "points": [[1, 1], [2, 2]], "shape_type": "rectangle"}), "bad_annotation",
         ["a.json line 3", "label"]),
        (with_cvat('<polyline label="cat" points="1,1;2,2"/>'), "bad_annotation", ["line 3", "polyline"]),
        (with_cvat('<box label="cat" xtl="nan" ytl="0" xbr="9" ybr="9"/>'), "bad_annotation", ["line 3", "xtl"]),
        (with_cvat('<mask label="cat" rle="1, 2" left="1" top="1" width="2" height="2"/>'), "bad_annotation",
         ["line 3", "rle"]),
        (with_cvat("<box"), "annotations_broken", ["annotations.xml line 4"]),
        (with_label_studio("keypointlabels", {"x": 1, "y": 1}), "bad_annotation", ["line 1", "keypointlabels"]),
        (with_label_studio("rectanglelabels", {"x": 1, "rectanglelabels": ["cat"]}), "bad_annotation", ["value"]),
        (with_label_studio("rectanglelabels", {**TURNED, "rectanglelabels": ["cat", "dog"]}), "unknown_class",
         ["several classes: cat, dog"]),
        (with_via({"name": "polyline", "all_points_x": [1], "all_points_y": [1]}), "bad_annotation", ["polyline"]),
        (with_via({"name": "rect", "x": "left"}), "bad_annotation", ["via.json line 1", "shape_attributes"]),
        ({**BACKGROUND, "boxes.csv": b"image,xmin,ymin,xmax,ymax,class\nb0,1,2,3,4,cat\nb1,1,2,x,4,cat\n"},
         "bad_annotation", ["boxes.csv line 3", "1, 2, x, 4"]),
        ({**BACKGROUND, "boxes.csv": b"image,xmin,ymin,xmax,ymax,class\nb7,1,2,3,4,cat\n"}, "missing_image",
         ["boxes.csv line 2", "b7"]),
        ({**BACKGROUND, "a.createml.json": b'[{"image": "b0.png", "annotations": [{"label": "cat"}]}]'},
         "bad_annotation", ["a.createml.json line 1", "coordinates"]),
    ],
)  # fmt: skip
def test_refusals_name_file_line_and_field(
    import_tree: ImportTree, data_dir: Path, tree: Tree, code: str, texts: list[str]
) -> None:
    assert_refused(import_tree(tree), data_dir, code, *texts)


def test_entities_of_cvat_are_not_expanded(import_tree: ImportTree, data_dir: Path) -> None:
    tree = with_cvat("&big;")
    text = tree["annotations.xml"] or b""
    tree["annotations.xml"] = b'<!DOCTYPE a [<!ENTITY big "aaaaaaaaaa">]>\n' + text
    assert_refused(import_tree(tree), data_dir, "annotations_broken", "only plain XML")


def test_choices_of_label_studio_become_classes(import_tree: ImportTree) -> None:
    tasks = [
        {"data": {"image": path}, "annotations": [{"result": [{"type": "choices", "from_name": "c", "value": value}]}]}
        for path, value in zip(
            BACKGROUND, [{"choices": ["cat"]}, {"choices": ["dog"]}, {"choices": ["cat"]}], strict=True
        )
    ]
    dataset = import_tree({**BACKGROUND, "export.json": json.dumps(tasks).encode()})
    assert (dataset.format, dataset.tasks, dataset.classes) == ("label_studio", ["classification"], ["cat", "dog"])


def test_tags_of_cvat_and_objects_without_a_class(import_tree: ImportTree) -> None:
    tags = "".join(
        f'<image name="{path}"><tag label="{name}"/></image>' for path, name in zip(BACKGROUND, "xyx", strict=True)
    )
    dataset = import_tree({**BACKGROUND, "annotations.xml": f"<annotations>{tags}</annotations>".encode()})
    assert (dataset.tasks, dataset.classes) == (["classification"], ["x", "y"])
    dataset = import_tree({**BACKGROUND, "boxes.csv": b'image,bbox\nb0,"[1, 2, 30, 30]"\nb1,"[4, 4, 20, 20]"\nb2,\n'})
    assert (dataset.status, dataset.classes) == ("ready", ["object"])
    assert "one_class" in codes(dataset, "warning")


def test_images_without_a_finished_annotation_are_left_out(import_tree: ImportTree, data_dir: Path) -> None:
    region = {"x": 10, "y": 10, "width": 30, "height": 30, "rectanglelabels": ["cat"]}
    result = [{"type": "rectanglelabels", "value": region, "from_name": "x"}]
    unfinished: list[dict[str, object]] = [
        {"data": {"image": "b0.png"}, "annotations": [], "predictions": [{"result": result}]},
        {"data": {"image": "b1.png"}, "annotations": [{"was_cancelled": True, "result": []}]},
    ]
    finished = [{"data": {"image": f"c{number}.png"}, "annotations": [{"result": result}]} for number in range(3)]
    pictures = {**BACKGROUND, **{f"c{number}.png": image(number + 70, SIZE) for number in range(3)}}
    dataset = import_tree({**pictures, "export.json": json.dumps([*unfinished, *finished]).encode()})
    assert (dataset.status, sorted(imported_boxes(dataset))) == ("ready", ["c0", "c1", "c2"])
    assert codes(dataset, "warning") == ["not_annotated", "not_annotated"]
    dataset = import_tree({**pictures, "export.json": json.dumps(unfinished).encode()})
    assert (dataset.status, set(codes(dataset))) == ("refused", {"not_annotated", "no_images"})


def test_labels_of_label_studio_give_classes_to_objects_of_the_same_id(import_tree: ImportTree) -> None:
    place = {"x": 10, "y": 10, "width": 30, "height": 30}
    result = [
        {"id": "a", "type": "rectangle", "from_name": "shape", "value": place},
        {"id": "a", "type": "labels", "from_name": "class", "value": {**place, "labels": ["cat"]}},
    ]
    tasks = [{"data": {"image": path}, "annotations": [{"result": result}]} for path in BACKGROUND]
    dataset = import_tree({**BACKGROUND, "export.json": json.dumps(tasks).encode()})
    assert (dataset.status, dataset.classes) == ("ready", ["cat"])
    assert imported_boxes(dataset)["b0"][1] == [("cat", (6, 4, 24, 16))]
