"""The known dataset as exports of annotation programs, as described in their documentation."""

import csv
import io
import json
from collections.abc import Sequence

from tests.helpers.annotated import IMAGES, SIZE, Annotated, Corners, Tree, by_split

Point = tuple[float, float]


def images(items: Sequence[Annotated] = IMAGES) -> Tree:
    """The images in one folder per split."""
    return {f"{item.split}/{item.stem}.png": item.content() for item in items}


def table(rows: list[list[object]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode()


def corner_points(box: Corners) -> list[Point]:
    left, top, right, bottom = box
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def labelme_tree(*, outlined: bool = False, image_data: str | None = None, items: Sequence[Annotated] = IMAGES) -> Tree:
    tree = images(items)
    for item in items:
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
            "imageData": image_data if item.stem == "p1" else None,
            "imageHeight": SIZE[1],
            "imageWidth": SIZE[0],
        }
        tree[f"{item.split}/{item.stem}.json"] = json.dumps(content, indent=1).encode()
    return tree


def cvat_tree(*, outlined: bool = False, items: Sequence[Annotated] = IMAGES) -> Tree:
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "<version>1.1</version>", "<meta></meta>"]
    for number, item in enumerate(items):
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
    tree: Tree = {f"images/{item.stem}.png": item.content() for item in items}
    return {**tree, "annotations.xml": "\n".join([*lines, "</annotations>"]).encode()}


def percent_region(name: str, box: Corners, *, outlined: bool) -> tuple[str, dict[str, object]]:
    shares = [(100 * x / SIZE[0], 100 * y / SIZE[1]) for x, y in corner_points(box)]
    if outlined:
        return "polygonlabels", {"points": shares, "polygonlabels": [name]}
    (left, top), _, (right, bottom), _ = shares
    place: dict[str, object] = {"x": left, "y": top, "width": right - left, "height": bottom - top, "rotation": 0}
    return "rectanglelabels", {**place, "rectanglelabels": [name]}


def label_studio_tree(*, outlined: bool = False, items: Sequence[Annotated] = IMAGES) -> Tree:
    tree = images(items)
    for split, same in by_split(items).items():
        tasks = []
        for number, item in enumerate(same):
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


def label_studio_min_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    tree = images(items)
    for split, same in by_split(items).items():
        tree[f"{split}.json"] = json.dumps(label_studio_min(split, same)).encode()
    return tree


def label_studio_csv_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    tree = images(items)
    for split, same in by_split(items).items():
        entries = label_studio_min(split, same)
        rows = [list(entries[0]), *([json.dumps(v) if v.__class__ is list else v for v in e.values()] for e in entries)]
        tree[f"{split}.csv"] = table(rows)
    return tree


def csv_boxes_tree(form: str, items: Sequence[Annotated] = IMAGES) -> Tree:
    headers: dict[str, list[object]] = {
        "tensorflow": ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"],
        "start": ["Image", "X", "Y", "W", "H", "Label"],
        "kaggle": ["image_id", "width", "height", "bbox", "label"],
        "open_images": ["ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax"],
        "centre": ["file_name", "label", "x_center", "y_center", "width", "height"],
        "retinanet": [],
    }
    tree = images(items)
    for split, same in by_split(items).items():
        rows: list[list[object]] = [headers[form]] if headers[form] else []
        for item in same:
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


def via_tree(*, outlined: bool = False, is_project: bool = True, items: Sequence[Annotated] = IMAGES) -> Tree:
    tree = images(items)
    for split, same in by_split(items).items():
        entries: dict[str, object] = {}
        for item in same:
            regions: object = via_regions(item, outlined=outlined)
            if not is_project:  # version 1 wrote an object
                regions = {str(number): one for number, one in enumerate(via_regions(item, outlined=outlined))}
            entries[f"{item.stem}.png99"] = {"filename": f"{item.stem}.png", "size": 99, "regions": regions}
        content = {"_via_settings": {"core": {}}, "_via_img_metadata": entries} if is_project else entries
        tree[f"{split}/via_region_data.json"] = json.dumps(content).encode()
    return tree


def via_csv_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    tree = images(items)
    for split, same in by_split(items).items():
        rows: list[list[object]] = [
            ["filename", "file_size", "region_count", "region_id", "region_shape_attributes", "region_attributes"]
        ]
        for item in same:
            for number, region in enumerate(via_regions(item, outlined=False)):
                cells = [json.dumps(region[key]) for key in ("shape_attributes", "region_attributes")]
                rows.append([f"{item.stem}.png", 99, len(item.boxes), number, *cells])
            if not item.boxes:
                rows.append([f"{item.stem}.png", 99, 0, 0, "{}", "{}"])
        tree[f"{split}/via_export.csv"] = table(rows)
    return tree


def createml_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    tree = images(items)
    for split, same in by_split(items).items():
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
            for item in same
        ]
        tree[f"{split}/_annotations.createml.json"] = json.dumps(content).encode()
    return tree
