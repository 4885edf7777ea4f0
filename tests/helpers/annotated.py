"""A small annotated dataset, handwritten in every format, and helpers that examine its import."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image

from tests.helpers.sources import image
from trainingapp.contract.dataset_index import read_index
from trainingapp.datasets.sources.source import Source, SourceFile
from trainingapp.models import Dataset

CLASSES = ["cat", "dog", "owl"]
SIZE = (60, 40)

Corners = tuple[int, int, int, int]


@dataclass(frozen=True)
class Annotated:
    """An image by its stem, with boxes (class, left, top, right, bottom) in pixels."""

    stem: str
    split: str
    boxes: list[tuple[str, Corners]] = field(default_factory=list)

    def content(self, format_: str = "PNG") -> bytes:
        return _photo(self.stem, format_)


@cache
def _photo(stem: str, format_: str) -> bytes:
    number = int(re.findall(r"\d+", stem)[-1])
    return image(sum(map(ord, stem)) * 7 + number, SIZE, format_)


IMAGES = [
    Annotated("p1", "train", [("cat", (0, 0, 20, 10)), ("dog", (30, 5, 60, 40))]),
    Annotated("p2", "train", [("owl", (5, 5, 15, 25))]),
    Annotated("p3", "train", []),
    Annotated("p4", "train", [("dog", (10, 10, 50, 30))]),
    Annotated("p5", "val", [("cat", (1, 2, 33, 34)), ("cat", (40, 20, 58, 38))]),
    Annotated("p6", "val", [("owl", (20, 0, 40, 20)), ("dog", (0, 25, 15, 40))]),
]
Tree = dict[str, bytes | None]


def by_split(items: Sequence[Annotated] = IMAGES) -> dict[str, list[Annotated]]:
    return {split: [item for item in items if item.split == split] for split in dict.fromkeys(i.split for i in items)}


def coco(split: str, *, outlined: bool = False, items: Sequence[Annotated] = IMAGES) -> dict[str, object]:
    """The JSON of one split; `outlined` adds the rectangle of each box as a polygon."""
    images, annotations = [], []
    for number, item in enumerate(by_split(items)[split], start=1):
        images.append({"id": number, "file_name": f"{item.stem}.png", "width": SIZE[0], "height": SIZE[1]})
        for name, (left, top, right, bottom) in item.boxes:
            entry: dict[str, object] = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": 10 * (1 + CLASSES.index(name)),
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": 0,
            }
            if outlined:
                entry["segmentation"] = [[left, top, right, top, right, bottom, left, bottom]]
            annotations.append(entry)
    categories = [{"id": 10 * number, "name": name} for number, name in enumerate(CLASSES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_tree(*, outlined: bool = False, items: Sequence[Annotated] = IMAGES) -> Tree:
    """COCO in the layout of Roboflow."""
    tree: Tree = {f"{item.split}/{item.stem}.png": item.content() for item in items}
    for split in by_split(items):
        text = json.dumps(coco(split, outlined=outlined, items=items), indent=1)
        tree[f"{split}/_annotations.coco.json"] = text.encode()
    return tree


def yolo_lines(item: Annotated, *, polygons: bool = False) -> str:
    lines = []
    for name, (left, top, right, bottom) in item.boxes:
        if polygons:
            points = [(left, top), (right, top), (right, bottom), (left, bottom)]
            values = [value for x, y in points for value in (x / SIZE[0], y / SIZE[1])]
        else:
            x, y = (left + right) / 2 / SIZE[0], (top + bottom) / 2 / SIZE[1]
            values = [x, y, (right - left) / SIZE[0], (bottom - top) / SIZE[1]]
        lines.append(" ".join([str(CLASSES.index(name)), *(f"{value:.8f}" for value in values)]))
    return "\n".join(lines)


def yolo_tree(*, polygons: bool = False, items: Sequence[Annotated] = IMAGES) -> Tree:
    """YOLO in the layout of Ultralytics."""
    splits = "".join(f"{split}: images/{split}\n" for split in by_split(items))
    tree: Tree = {"data.yaml": f"path: .\n{splits}names:\n  0: cat\n  1: dog\n  2: owl\n".encode()}
    for item in items:
        tree[f"images/{item.split}/{item.stem}.png"] = item.content()
        tree[f"labels/{item.split}/{item.stem}.txt"] = yolo_lines(item, polygons=polygons).encode()
    return tree


def voc_xml(item: Annotated) -> str:
    objects = "".join(
        f"<object>\n<name>{name}</name>\n<bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox>\n</object>\n"
        for name, (left, top, right, bottom) in item.boxes
    )
    size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height><depth>3</depth></size>"
    return f"<annotation>\n<filename>{item.stem}.png</filename>\n{size}\n{objects}</annotation>\n"


def voc_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    tree: Tree = {}
    for split, same in by_split(items).items():
        tree[f"ImageSets/Main/{split}.txt"] = "\n".join(item.stem for item in same).encode()
    for item in items:
        tree[f"JPEGImages/{item.stem}.png"] = item.content()
        tree[f"Annotations/{item.stem}.xml"] = voc_xml(item).encode()
    return tree


def mask_values(item: Annotated) -> "np.ndarray[tuple[int, int], np.dtype[np.uint8]]":
    values_HW = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    for name, (left, top, right, bottom) in item.boxes:
        values_HW[top:bottom, left:right] = CLASSES.index(name) + 1
    return values_HW


COLOURS = [(0, 0, 0), (200, 10, 10), (10, 200, 10), (10, 10, 200)]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def mask(item: Annotated, kind: str = "grey") -> Image.Image:
    """A mask of kind grey, indexed, colour or binary."""
    values_HW = mask_values(item)
    if kind == "indexed":
        image = Image.frombytes("P", SIZE, values_HW.tobytes())
        image.putpalette([value for colour in COLOURS for value in colour])
        return image
    return Image.fromarray(
        {
            "grey": values_HW,
            "colour": np.array(COLOURS, np.uint8)[values_HW],
            "binary": np.where(values_HW > 0, 255, 0).astype(np.uint8),
        }[kind]
    )


def class_dict() -> bytes:
    """class_dict.csv for color masks."""
    pairs = zip(["background", *CLASSES], COLOURS, strict=True)
    lines = [f"{name},{red},{green},{blue}" for name, (red, green, blue) in pairs]
    return "\n".join(["name,r,g,b", *lines]).encode()


def mask_tree(kind: str = "grey", items: Sequence[Annotated] = IMAGES) -> Tree:
    """Masks of kind grey, indexed or colour, with the file that names their classes."""
    tree: Tree = {}
    for item in items:
        tree[f"{item.split}/images/{item.stem}.png"] = item.content()
        tree[f"{item.split}/masks/{item.stem}.png"] = png(mask(item, kind))
    if kind == "colour":
        tree["class_dict.csv"] = class_dict()
    else:
        tree["classes.txt"] = "\n".join(["background", *CLASSES]).encode()
    return tree


def csv_tree(*, with_split: bool = True, items: Sequence[Annotated] = IMAGES) -> Tree:
    """Each image with boxes has the class of its first one."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["filename", "label", *(["split"] if with_split else [])])
    tree: Tree = {}
    for item in items:
        tree[f"images/{item.stem}.png"] = item.content()
        if item.boxes:
            writer.writerow([f"{item.stem}.png", item.boxes[0][0], *([item.split] if with_split else [])])
    tree["labels.csv"] = buffer.getvalue().encode()
    return tree


def scenes_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    tree: Tree = {}
    records = []
    for item in items:
        if not item.boxes:
            continue
        instances_HW = np.zeros((SIZE[1], SIZE[0]), np.uint8)
        for number, (_name, (left, top, right, bottom)) in enumerate(item.boxes, start=1):
            instances_HW[top:bottom, left:right] = number
        path, mask = f"images/{item.split}/{item.stem}.png", f"masks/{item.split}/{item.stem}.png"
        tree[path], tree[mask] = item.content(), png(Image.fromarray(instances_HW))
        labels = [CLASSES.index(name) for name, _corners in item.boxes]
        records.append({"path": path, "mask": mask, "labels": labels, "boxes_xyxy": [box for _name, box in item.boxes]})
    content = {"format": 1, "classes": CLASSES, "seed": 0, "images": records}
    tree["annotations.json"] = json.dumps(content).encode()
    return tree


TREES = {
    "coco": coco_tree,
    "yolo": yolo_tree,
    "voc": voc_tree,
    "masks": mask_tree,
    "csv": csv_tree,
    "scenes": scenes_tree,
}


def source_of(tree: Tree) -> Source:
    """The files as an opened source in memory."""
    files = [SourceFile(path, len(content), _opener(content)) for path, content in tree.items() if content is not None]
    folders = {"/".join(path.split("/")[:depth]) for path in tree for depth in range(1, path.count("/") + 1)}
    return Source(files, folders)


def _opener(content: bytes):  # type: ignore[no-untyped-def]
    return lambda: io.BytesIO(content)


def expected_boxes() -> dict[str, tuple[str, list[tuple[str, Corners]]]]:
    return {item.stem: (item.split, sorted(item.boxes)) for item in IMAGES}


def imported_boxes(dataset: Dataset) -> dict[str, tuple[str, list[tuple[str, tuple[float, ...]]]]]:
    """(split, boxes) by stem; coordinates that are whole numbers are integers."""
    found = {}
    for sample in read_index(dataset.folder).samples:
        boxes = [
            (dataset.classes[box.label], tuple(round(value, 2) for value in (box.left, box.top, box.right, box.bottom)))
            for box in sample.boxes
        ]
        found[sample.path.rpartition("/")[2].partition(".")[0]] = (sample.split, sorted(boxes))
    return found


def imported_mask(dataset: Dataset, stem: str) -> "np.ndarray[tuple[int, int], np.dtype[np.uint8]]":
    sample = next(item for item in read_index(dataset.folder).samples if f"/{stem}." in item.path)
    with Image.open(dataset.folder / sample.mask) as image:
        assert image.mode == "L"
        return np.asarray(image)
