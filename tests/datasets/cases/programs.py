"""Exports of annotation programs and layouts of published datasets."""

from functools import partial

import numpy as np

from tests.datasets.cases.kit import Case, Ready, Refused, Tree, as_json, encoded, lines, numbered, painted, photo

TRIANGLE = [[5, 5], [25, 5], [25, 25]]
CORNER_BOX = (5.0, 5.0, 25.0, 25.0)


def labelme(folders: tuple[str, ...], count: int, shape: dict[str, object]) -> Tree:
    tree: Tree = {}
    for folder in folders:
        tree |= numbered(f"{folder}/p{{}}.jpg", count)
        for number in range(count):
            content = {"version": "5.2.1", "flags": {}, "shapes": [{"label": "widget", "group_id": None, **shape}]}
            size = {"imagePath": f"p{number}.jpg", "imageData": None, "imageHeight": 40, "imageWidth": 48}
            tree[f"{folder}/p{number}.json"] = as_json(content | size)
    return tree


def cvat() -> Tree:
    entries = [
        f'<image id="{number}" name="p{number}.jpg" width="48" height="40"><box label="car" occluded="0" xtl="5.0" '
        'ytl="5.0" xbr="25.0" ybr="25.0" z_order="0"></box></image>'
        for number in range(6)
    ]
    head = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations><version>1.1</version>"]
    return numbered("images/p{}.jpg", 6) | {"annotations.xml": lines(*head, *entries, "</annotations>")}


def one_hot() -> Tree:
    tree: Tree = {}
    for part, count in (("train", 6), ("valid", 4)):
        tree |= numbered(f"{part}/{part}{{}}.jpg", count)
        rows = [f"{part}{number}.jpg, {number % 2}, {1 - number % 2}" for number in range(count)]
        tree[f"{part}/_classes.csv"] = lines("filename, cat, dog", *rows)
    return tree


def table_of_boxes() -> Tree:
    rows = [f"p{number}.jpg,48,40,{box}" for number in range(6) for box in ("car,5,5,25,25", "bus,20,8,40,30")]
    header = "filename,width,height,class,xmin,ymin,xmax,ymax"
    return numbered("train/p{}.jpg", 6) | {"train/_annotations.csv": lines(header, *rows)}


def cityscapes() -> Tree:
    tree: Tree = {}
    classes = painted(7, 26)
    for part, count in (("train", 5), ("val", 2)):
        for number in range(count):
            stem = f"{part}/bonn/bonn_0000{number:02}_000019"
            fine = f"gtFine/{stem}_gtFine"
            tree[f"leftImg8bit/{stem}_leftImg8bit.png"] = photo(f"{stem}.png")
            tree[f"{fine}_labelIds.png"] = encoded(classes)
            tree[f"{fine}_instanceIds.png"] = encoded(painted(7000, 26000, dtype=np.uint16))
            tree[f"{fine}_color.png"] = encoded(classes.convert("RGBA"))
            tree[f"{fine}_polygons.json"] = as_json({"imgHeight": 40, "imgWidth": 48, "objects": []})
    return tree


def image_folder() -> Tree:
    rows = [as_json({"file_name": f"p{number}.jpg", "label": number % 2}).decode() for number in range(8)]
    return numbered("train/p{}.jpg", 8) | {"train/metadata.jsonl": lines(*rows)}


def label_studio() -> Tree:
    box = {"x": 10, "y": 10, "width": 30, "height": 30, "rotation": 0, "rectanglelabels": ["car"]}
    entries = [
        {
            "image": f"/data/upload/1/p{number}.jpg",
            "id": number,
            "label": [box | {"original_width": 48, "original_height": 40}],
        }
        for number in range(6)
    ]
    return numbered("images/p{}.jpg", 6) | {"project-1.json": as_json(entries)}


def create_ml() -> Tree:
    box = {"label": "car", "coordinates": {"x": 15, "y": 15, "width": 20, "height": 20}}
    entries = [{"image": f"p{number}.jpg", "annotations": [box]} for number in range(6)]
    return numbered("train/p{}.jpg", 6) | {"train/_annotations.createml.json": as_json(entries)}


def unread(path: str) -> Refused:
    return Refused("unread_annotations", (path, "not recognized", "Export the annotations as COCO JSON"))


CASES = [
    Case(
        "s11_cvat_images_xml",
        cvat,
        Ready("cvat", "detection", ["car"], 5, 1, boxes={"p0": [("car", CORNER_BOX)]}),
    ),
    Case(
        "s13_roboflow_multilabel_csv",
        one_hot,
        Ready("one_hot", "classification", ["cat", "dog"], 6, 4, val_stems="valid0 valid1 valid2 valid3"),
    ),
    Case(
        "s18_labelme",
        partial(labelme, ("pics",), 6, {"points": TRIANGLE, "shape_type": "polygon"}),
        Ready("labelme", "detection segmentation instances", ["widget"], 5, 1, boxes={"p0": [("widget", CORNER_BOX)]}),
    ),
    Case(
        "s18b_labelme_two_folders",
        partial(labelme, ("day1", "day2"), 4, {"points": TRIANGLE[::2], "shape_type": "rectangle"}),
        Ready("labelme", "detection", ["widget"], 6, 2, boxes={"day2/p0": [("widget", CORNER_BOX)]}),
    ),
    Case(
        "s24_csv_boxes",
        table_of_boxes,
        Ready(
            "csv_boxes",
            "detection",
            ["bus", "car"],
            5,
            1,
            "val_set_aside",
            boxes={"p0": [("bus", (20, 8, 40, 30)), ("car", CORNER_BOX)]},
        ),
    ),
    Case(
        "s30_cityscapes",
        cityscapes,
        Refused("not_classes", ("gtFine", "leftImg8bit", "named like splits, images, labels or masks")),
        (Ready("cityscapes", "segmentation", ["road", "car"], 5, 2),),
    ),
    Case(
        "o_hf_metadata_jsonl",
        image_folder,
        unread("train/metadata.jsonl"),
        (Ready("imagefolder", "classification", ["0", "1"], 6, 2, "val_set_aside"),),
    ),
    Case(
        "o_label_studio_json",
        label_studio,
        Ready("label_studio", "detection", ["car"], 5, 1, boxes={"p0": [("car", (4.8, 4, 19.2, 16))]}),
    ),
    Case(
        "o_createml",
        create_ml,
        Ready("createml", "detection", ["car"], 5, 1, "val_set_aside", boxes={"p0": [("car", CORNER_BOX)]}),
    ),
]
