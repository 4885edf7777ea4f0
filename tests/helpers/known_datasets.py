"""The known dataset in layouts of well-known datasets, libraries and competitions."""

import io
import json
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image
from pycocotools import mask as coco_masks

from tests.helpers.annotated import (
    CLASSES,
    COLOURS,
    IMAGES,
    SIZE,
    Annotated,
    Tree,
    by_split,
    class_dict,
    coco,
    mask,
    mask_values,
    png,
    voc_xml,
    yolo_lines,
)
from tests.helpers.annotation_programs import images, table

ROOT = "VisDrone2019-DET-"


def visdrone_tree(lines: str = "", items: Sequence[Annotated] = IMAGES) -> Tree:
    """The classes stand for pedestrian, people and bicycle; `lines` are added to the first image."""
    tree: Tree = {}
    for item in items:
        tree[f"{ROOT}{item.split}/images/{item.stem}.png"] = item.content()
        text = "".join(
            f"{left},{top},{right - left},{bottom - top},1,{CLASSES.index(name) + 1},0,0\n"
            for name, (left, top, right, bottom) in item.boxes
        )
        content = lines + text if item.stem == "p1" else text
        tree[f"{ROOT}{item.split}/annotations/{item.stem}.txt"] = content.encode()
    return tree


def cityscapes_tree(items: Sequence[Annotated] = IMAGES, *, sky: bool = True) -> Tree:
    """Cat, dog and owl are road, car and bicycle; the background is ego vehicle (1), and sky in the first row."""
    tree: Tree = {}
    for item in items:
        name = f"bonn_{item.stem}_000019"
        values_HW = mask_values(item)
        labels_HW = np.choose(values_HW, [1, 7, 26, 33]).astype(np.uint8)
        if sky:
            labels_HW[0] = 23
        folder = f"{item.split}/bonn/{name}"
        tree[f"set/leftImg8bit/{folder}_leftImg8bit.png"] = item.content()
        tree[f"set/gtFine/{folder}_gtFine_labelIds.png"] = png(Image.fromarray(labels_HW))
        tree[f"set/gtFine/{folder}_gtFine_color.png"] = png(Image.fromarray(np.array(COLOURS, np.uint8)[values_HW]))
        tree[f"set/gtFine/{folder}_gtFine_polygons.json"] = b'{"imgHeight": 40, "imgWidth": 60, "objects": []}'
    return tree


def imagefolder_tree(*, as_list: bool, items: Sequence[Annotated] = IMAGES) -> Tree:
    tree: Tree = {f"{item.split}/{item.stem}.png": item.content() for item in items}
    for split, same in by_split(items).items():
        lines = []
        for item in same:
            boxes = [[box[0], box[1], box[2] - box[0], box[3] - box[1]] for _name, box in item.boxes]
            names = [name for name, _box in item.boxes]
            objects: object = {"id": [1], "bbox": boxes, "categories": names}
            if as_list:
                objects = [{"bbox": box, "category": name} for box, name in zip(boxes, names, strict=True)]
            lines.append(json.dumps({"file_name": f"{item.stem}.png", "objects": objects}))
        tree[f"{split}/metadata.jsonl"] = "\n".join(lines).encode()
    return tree


def datumaro_tree(kind: str, items: Sequence[Annotated] = IMAGES) -> Tree:
    tree: Tree = {}
    labels = [{"name": name, "parent": "", "attributes": []} for name in CLASSES]
    for split, same in by_split(items).items():
        entries_of_split = []
        for item in same:
            tree[f"images/{split}/{item.stem}.png"] = item.content()
            entries = []
            for name, (left, top, right, bottom) in item.boxes:
                values_HW = np.zeros((SIZE[1], SIZE[0]), np.uint8, order="F")
                values_HW[top:bottom, left:right] = 1
                rle = coco_masks.encode(values_HW)
                shapes: dict[str, dict[str, object]] = {
                    "bbox": {"bbox": [left, top, right - left, bottom - top]},
                    "polygon": {"points": [left, top, right, top, right, bottom, left, bottom]},
                    "mask": {"rle": {"size": rle["size"], "counts": rle["counts"].decode()}},
                }
                entries.append({"type": kind, "label_id": CLASSES.index(name), "group": 0, **shapes[kind]})
            about = {"path": f"{item.stem}.png", "size": [SIZE[1], SIZE[0]]}
            entries_of_split.append({"id": item.stem, "annotations": entries, "image": about})
        content = {"info": {}, "categories": {"label": {"labels": labels, "attributes": []}}, "items": entries_of_split}
        tree[f"annotations/{split}.json"] = json.dumps(content).encode()
    return tree


def coco_lists_tree(*, as_rle: bool = False, items: Sequence[Annotated] = IMAGES) -> Tree:
    """The original layout of COCO: all images in one folder, one JSON file per split; `as_rle` adds masks."""
    tree: Tree = {f"images/{item.stem}.png": item.content() for item in items}
    for split, same in by_split(items).items():
        content = coco(split, items=items)
        if as_rle:
            boxes = [box for item in same for _name, box in item.boxes]
            annotations = content["annotations"]
            assert isinstance(annotations, list)
            for entry, (left, top, right, bottom) in zip(annotations, boxes, strict=True):
                inside_HW = np.zeros((SIZE[1], SIZE[0]), np.uint8, order="F")
                inside_HW[top:bottom, left:right] = 1
                rle = coco_masks.encode(inside_HW)
                entry["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
        tree[f"annotations/instances_{split}.json"] = json.dumps(content).encode()
    return tree


def yolo_outlines_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    """Outlines of six points, in the layout of Roboflow; four points would be oriented boxes."""
    splits = "".join(f"{split}: ../{split}/images\n" for split in by_split(items))
    tree: Tree = {"data.yaml": f"{splits}nc: 3\nnames: ['cat', 'dog', 'owl']\n".encode()}
    for item in items:
        lines = []
        for name, (left, top, right, bottom) in item.boxes:
            middle = (top + bottom) / 2
            points = [(left, top), (right, top), (right, middle), (right, bottom), (left, bottom), (left, middle)]
            shares = [f"{value:.8f}" for x, y in points for value in (x / SIZE[0], y / SIZE[1])]
            lines.append(" ".join([str(CLASSES.index(name)), *shares]))
        tree[f"{item.split}/images/{item.stem}.png"] = item.content()
        tree[f"{item.split}/labels/{item.stem}.txt"] = "\n".join(lines).encode()
    return tree


def pose_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    """YOLO pose: a box and two key points per object."""
    splits = "".join(f"{split}: {split}/images\n" for split in by_split(items))
    tree: Tree = {"data.yaml": f"{splits}kpt_shape: [2, 3]\nnames: [cat, dog, owl]\n".encode()}
    for item in items:
        lines = yolo_lines(item).splitlines()
        tree[f"{item.split}/images/{item.stem}.png"] = item.content()
        tree[f"{item.split}/labels/{item.stem}.txt"] = "\n".join(f"{line} .2 .3 2 .4 .5 1" for line in lines).encode()
    return tree


def darknet_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    """Images and labels in one folder, and one image list per split."""
    splits = "".join(f"{'valid' if split == 'val' else split} = data/{split}.txt\n" for split in by_split(items))
    tree: Tree = {"data/obj.data": f"classes = 3\n{splits}names = data/obj.names\n".encode()}
    tree["data/obj.names"] = "\n".join(CLASSES).encode()
    for item in items:
        tree[f"data/obj/{item.stem}.png"] = item.content()
        tree[f"data/obj/{item.stem}.txt"] = yolo_lines(item).encode()
    for split, same in by_split(items).items():
        tree[f"data/{split}.txt"] = "".join(f"data/obj/{item.stem}.png\n" for item in same).encode()
    return tree


def voc_folders_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    """Pascal VOC by Roboflow: an XML file next to each image."""
    return {**images(items), **{f"{item.split}/{item.stem}.xml": voc_xml(item).encode() for item in items}}


# Masks


def isic_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    """Masks of one class, in folders named for the split and the role."""
    names = {"train": "Training", "val": "Validation", "test": "Test_v2"}
    tree: Tree = {}
    for item in items:
        name = f"ISIC-2017_{names[item.split]}"
        tree[f"{name}_Data/{item.stem}.jpg"] = item.content("JPEG")
        tree[f"{name}_Part1_GroundTruth/{item.stem}_segmentation.png"] = png(mask(item, "binary"))
    return tree


def camvid_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    """Masks in color with a table of colors."""
    tree: Tree = {"class_dict.csv": class_dict()}
    for item in items:
        tree[f"{item.split}/{item.stem}.png"] = item.content()
        tree[f"{item.split}_labels/{item.stem}_L.png"] = png(mask(item, "colour"))
    return tree


def segnet_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    """CamVid in the layout of SegNet's tutorial: masks of class numbers without names."""
    tree: Tree = {}
    for item in items:
        tree[f"{item.split}/{item.stem}.png"] = item.content()
        tree[f"{item.split}annot/{item.stem}.png"] = png(mask(item))
    return tree


def carvana_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    """Masks of one class as GIF."""
    tree: Tree = {}
    for item in items:
        buffer = io.BytesIO()
        mask(item, "binary").save(buffer, "GIF")
        tree[f"{item.split}/{item.stem}.jpg"] = item.content("JPEG")
        tree[f"{item.split}_masks/{item.stem}_mask.gif"] = buffer.getvalue()
    return tree


def voc_masks_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    """Pascal VOC masks as exported by CVAT, with a color table and one list per split."""
    pairs = zip(["background", *CLASSES], COLOURS, strict=True)
    rows = [f"{name}:{','.join(map(str, colour))}::" for name, colour in pairs]
    tree: Tree = {"labelmap.txt": "\n".join(["# label:color_rgb:parts:actions", *rows]).encode()}
    for item in items:
        tree[f"JPEGImages/{item.stem}.png"] = item.content()
        tree[f"SegmentationClass/{item.stem}.png"] = png(mask(item, "colour"))
    for split, same in by_split(items).items():
        tree[f"ImageSets/Segmentation/{split}.txt"] = "\n".join(item.stem for item in same).encode()
    return tree


def roboflow_masks_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    """Roboflow masks next to the images, with a table of pixel values in each folder."""
    tree: Tree = {}
    for item in items:
        tree[f"{item.split}/{item.stem}_jpg.rf.{'0' * 32}.jpg"] = item.content("JPEG")
        tree[f"{item.split}/{item.stem}_jpg.rf.{'0' * 32}_mask.png"] = png(mask(item))
    rows = [f"{value}, {name}" for value, name in enumerate(["background", *CLASSES])]
    for split in by_split(items):
        tree[f"{split}/_classes.csv"] = "\n".join(["Pixel Value, Class", *rows]).encode()
    return tree


# Labels of whole images


def labels_of(item: Annotated) -> list[str]:
    """The classes of the objects, in order of first occurrence."""
    return list(dict.fromkeys(name for name, _box in item.boxes))


def folders_tree(pattern: str, items: Sequence[Annotated] = IMAGES) -> Tree:
    """The images with objects at paths given by `pattern`, in which {split}, {label} and {stem} are replaced."""
    return {
        pattern.format(split=item.split, label=item.boxes[0][0], stem=item.stem): item.content()
        for item in items
        if item.boxes
    }


def class_in_name_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    """Classes in file names, such as cat.101.png."""
    tree: Tree = {}
    for item in items:
        if item.boxes:
            number = zlib.crc32(item.stem.encode()) % 100_000
            tree[f"{item.split}/{item.boxes[0][0]}.{number}.png"] = item.content()
    return tree


def one_hot_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    tree = images(items)
    for split, same in by_split(items).items():
        rows: list[list[object]] = [["filename", *CLASSES]]
        rows += [[f"{item.stem}.png", *(int(name in labels_of(item)) for name in CLASSES)] for item in same]
        tree[f"{split}/_classes.csv"] = table(rows)
    return tree


def label_lists_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    """A CSV file with lists of labels and a column for the split."""
    rows: list[list[object]] = [["image", "labels", "subset"]]
    rows += [[f"{item.stem}.png", "|".join(labels_of(item)), item.split] for item in items]
    return {**{f"all/{item.stem}.png": item.content() for item in items}, "index.csv": table(rows)}


def box_table_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    """A CSV file with the boxes of all splits and a column for the split."""
    rows: list[list[object]] = [["filename", "split", "class", "xmin", "ymin", "xmax", "ymax"]]
    for item in items:
        rows += [[f"{item.stem}.png", item.split, name, *box] for name, box in item.boxes]
        if not item.boxes:
            rows.append([f"{item.stem}.png", item.split, *[""] * 5])
    return {**{f"all/{item.stem}.png": item.content() for item in items}, "boxes.csv": table(rows)}


def metadata_tree(kind: str, items: Sequence[Annotated] = IMAGES) -> Tree:
    """Labels in the metadata.jsonl or metadata.csv of an imagefolder."""
    kept = [item for item in items if item.boxes]
    tree = images(kept)
    for split, same in by_split(kept).items():
        rows: list[list[object]] = [[f"{item.stem}.png", item.boxes[0][0]] for item in same]
        lines = [json.dumps({"file_name": name, "label": label}) for name, label in rows]
        content = table([["file_name", "label"], *rows]) if kind == "csv" else "\n".join(lines).encode()
        tree[f"{split}/metadata.{kind}"] = content
    return tree
