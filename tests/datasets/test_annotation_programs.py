"""The exports of annotation programs, written here by hand, become the same objects and splits."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.annotated import (
    CLASSES,
    IMAGES,
    SIZE,
    Annotated,
    Tree,
    expected_boxes,
    imported_boxes,
    imported_mask,
)
from tests.helpers.annotated import mask_values as expected_mask
from tests.helpers.sources import assert_refused, codes, image
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]
Point = tuple[float, float]


def images(folder: str = "") -> Tree:
    """The images of the known dataset, in a folder for each split."""
    return {f"{folder}{item.split}/{item.stem}.png": item.content() for item in IMAGES}


def by_split() -> dict[str, list[Annotated]]:
    return {split: [item for item in IMAGES if item.split == split] for split in ("train", "val")}


def table(rows: list[list[object]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode()


def corner_points(box: tuple[int, int, int, int]) -> list[Point]:
    left, top, right, bottom = box
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def labelme_tree(*, outlined: bool = False) -> Tree:
    tree = images()
    for item in IMAGES:
        shapes = [
            {"label": name, "points": corner_points(box), "shape_type": "polygon"}
            if outlined
            else {"label": name, "points": [[box[2], box[3]], [box[0], box[1]]], "shape_type": "rectangle"}
            for name, box in item.boxes
        ]
        content = {
            "version": "5.2.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": f"..\\raw\\{item.stem}.png",
            "imageData": "QUJD" * 2_000_000 if item.stem == "p1" else None,
            "imageHeight": SIZE[1],
            "imageWidth": SIZE[0],
        }
        tree[f"{item.split}/{item.stem}.json"] = json.dumps(content, indent=1).encode()
    return tree


def cvat_tree(*, outlined: bool = False) -> Tree:
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "<version>1.1</version>", "<meta></meta>"]
    for number, item in enumerate(IMAGES):
        lines.append(
            f'<image id="{number}" name="{item.stem}.png" subset="{item.split}" width="{SIZE[0]}" height="{SIZE[1]}">'
        )
        for name, box in item.boxes:
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corner_points(box))
            corners = " ".join(f'{key}="{value}"' for key, value in zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True))
            lines.append(
                f'<polygon label="{name}" points="{points}"></polygon>'
                if outlined
                else f'<box label="{name}" {corners}/>'
            )
        lines.append("</image>")
    tree: Tree = {f"images/{item.stem}.png": item.content() for item in IMAGES}
    return {**tree, "annotations.xml": "\n".join([*lines, "</annotations>"]).encode()}


def percent_region(name: str, box: tuple[int, int, int, int], *, outlined: bool) -> tuple[str, dict[str, object]]:
    shares = [(100 * x / SIZE[0], 100 * y / SIZE[1]) for x, y in corner_points(box)]
    if outlined:
        return "polygonlabels", {"points": shares, "polygonlabels": [name]}
    (left, top), _, (right, bottom), _ = shares
    place: dict[str, object] = {"x": left, "y": top, "width": right - left, "height": bottom - top, "rotation": 0}
    return "rectanglelabels", {**place, "rectanglelabels": [name]}


def label_studio_tree(*, outlined: bool = False) -> Tree:
    tree = images()
    for split, items in by_split().items():
        tasks = []
        for number, item in enumerate(items):
            regions = [percent_region(name, box, outlined=outlined) for name, box in item.boxes]
            result = [
                {
                    "type": kind,
                    "value": value,
                    "from_name": "label",
                    "original_width": SIZE[0],
                    "original_height": SIZE[1],
                }
                for kind, value in regions
            ]
            annotations = [{"was_cancelled": True, "result": []}, {"was_cancelled": False, "result": result}]
            data = {"image": f"/data/upload/1/{number:08x}-{item.stem}.png"}
            tasks.append({"id": number, "annotations": annotations, "data": data, "predictions": []})
        tree[f"{split}/project-1.json"] = json.dumps(tasks).encode()
    return tree


def label_studio_min(split: str, items: list[Annotated]) -> list[dict[str, object]]:
    return [
        {
            "image": f"/data/local-files/?d={split}/{item.stem}.png",
            "id": number,
            "label": [percent_region(name, box, outlined=False)[1] for name, box in item.boxes],
            "annotator": 1,
            "annotation_id": number,
            "lead_time": 1.5,
        }
        for number, item in enumerate(items)
    ]


def label_studio_min_tree() -> Tree:
    tree = images()
    for split, items in by_split().items():
        tree[f"{split}.json"] = json.dumps(label_studio_min(split, items)).encode()
    return tree


def label_studio_csv_tree() -> Tree:
    tree = images()
    for split, items in by_split().items():
        entries = label_studio_min(split, items)
        rows = [list(entries[0]), *([json.dumps(v) if v.__class__ is list else v for v in e.values()] for e in entries)]
        tree[f"{split}.csv"] = table(rows)
    return tree


def csv_boxes_tree(form: str) -> Tree:
    headers: dict[str, list[object]] = {
        "tensorflow": ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"],
        "start": ["Image", "X", "Y", "W", "H", "Label"],
        "kaggle": ["image_id", "width", "height", "bbox", "label"],
        "open_images": ["ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax"],
        "centre": ["file_name", "label", "x_center", "y_center", "width", "height"],
        "retinanet": [],
    }
    tree = images()
    for split, items in by_split().items():
        rows: list[list[object]] = [headers[form]] if headers[form] else []
        for item in items:
            name, (width, height) = f"{item.stem}.png", SIZE
            for label, (left, top, right, bottom) in item.boxes:
                rows.append(
                    {
                        "tensorflow": [name, width, height, label, left, top, right, bottom],
                        "start": [name, left, top, right - left, bottom - top, label],
                        "kaggle": [item.stem, width, height, f"[{left}, {top}, {right - left}, {bottom - top}]", label],
                        "open_images": [item.stem, label, left / width, right / width, top / height, bottom / height],
                        "centre": [name, label, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top],
                        "retinanet": [f"{split}/{name}", left, top, right, bottom, label],
                    }[form]
                )
            if not item.boxes:
                rows.append([name, *[""] * (len(rows[0]) - 1)])
        tree[f"{split}/_annotations.csv"] = table(rows)
    return tree


def via_regions(item: Annotated, *, outlined: bool) -> list[dict[str, object]]:
    regions: list[dict[str, object]] = []
    for name, box in item.boxes:
        left, top, right, bottom = box
        outline: dict[str, object] = {
            "name": "rect",
            "x": left,
            "y": top,
            "width": right - left,
            "height": bottom - top,
        }
        if outlined:
            xs, ys = zip(*corner_points(box), strict=True)
            outline = {"name": "polygon", "all_points_x": xs, "all_points_y": ys}
        regions.append({"shape_attributes": outline, "region_attributes": {"class": name, "quality": {"good": True}}})
    return regions


def via_tree(*, outlined: bool = False, is_project: bool = True) -> Tree:
    tree = images()
    for split, items in by_split().items():
        entries: dict[str, object] = {}
        for item in items:
            regions: object = via_regions(item, outlined=outlined)
            if not is_project:  # version 1 wrote an object
                regions = {str(number): one for number, one in enumerate(via_regions(item, outlined=outlined))}
            entries[f"{item.stem}.png99"] = {"filename": f"{item.stem}.png", "size": 99, "regions": regions}
        content = {"_via_settings": {"core": {}}, "_via_img_metadata": entries} if is_project else entries
        tree[f"{split}/via_region_data.json"] = json.dumps(content).encode()
    return tree


def via_csv_tree() -> Tree:
    tree = images()
    for split, items in by_split().items():
        rows: list[list[object]] = [
            ["filename", "file_size", "region_count", "region_id", "region_shape_attributes", "region_attributes"]
        ]
        for item in items:
            for number, region in enumerate(via_regions(item, outlined=False)):
                cells = [json.dumps(region[key]) for key in ("shape_attributes", "region_attributes")]
                rows.append([f"{item.stem}.png", 99, len(item.boxes), number, *cells])
            if not item.boxes:
                rows.append([f"{item.stem}.png", 99, 0, 0, "{}", "{}"])
        tree[f"{split}/via_export.csv"] = table(rows)
    return tree


def createml_tree() -> Tree:
    tree = images()
    for split, items in by_split().items():
        content = [
            {
                "image": f"{item.stem}.png",
                "annotations": [
                    {
                        "label": name,
                        "coordinates": {
                            "x": (left + right) / 2,
                            "y": (top + bottom) / 2,
                            "width": right - left,
                            "height": bottom - top,
                        },
                    }
                    for name, (left, top, right, bottom) in item.boxes
                ],
            }
            for item in items
        ]
        tree[f"{split}/_annotations.createml.json"] = json.dumps(content).encode()
    return tree


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        (labelme_tree(), "labelme"),
        (cvat_tree(), "cvat"),
        (label_studio_tree(), "label_studio"),
        (label_studio_min_tree(), "label_studio"),
        (label_studio_csv_tree(), "label_studio"),
        (csv_boxes_tree("tensorflow"), "csv_boxes"),
        (csv_boxes_tree("start"), "csv_boxes"),
        (csv_boxes_tree("kaggle"), "csv_boxes"),
        (csv_boxes_tree("open_images"), "csv_boxes"),
        (csv_boxes_tree("centre"), "csv_boxes"),
        (csv_boxes_tree("retinanet"), "csv_boxes"),
        (via_tree(), "via"),
        (via_tree(is_project=False), "via"),
        (via_csv_tree(), "via"),
        (createml_tree(), "createml"),
    ],
)
def test_boxes_of_every_program(import_tree: ImportTree, tree: Tree, name: str) -> None:
    dataset = import_tree(tree)
    assert (dataset.status, dataset.report) == ("ready", [])
    assert (dataset.format, dataset.tasks, dataset.classes) == (name, ["detection"], CLASSES)
    assert imported_boxes(dataset) == expected_boxes()


@pytest.mark.parametrize(
    "tree",
    [
        labelme_tree(outlined=True),
        cvat_tree(outlined=True),
        label_studio_tree(outlined=True),
        via_tree(outlined=True),
    ],
)
def test_outlines_of_every_program(import_tree: ImportTree, tree: Tree) -> None:
    dataset = import_tree(tree)
    assert (dataset.status, dataset.report) == ("ready", [])
    assert dataset.tasks == ["detection", "segmentation"]
    assert imported_boxes(dataset) == expected_boxes()
    for item in IMAGES:
        assert (imported_mask(dataset, item.stem) == expected_mask(item)).all()


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
    tasks = [{"data": {"image": path}, "annotations": []} for path in BACKGROUND]
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
        (with_cvat("</image><track id='0'></track><image>"), "bad_annotation", ["tracks are not read", "COCO"]),
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
