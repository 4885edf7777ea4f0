"""Masks as annotation programs store them: run lengths, brushes and small images become the same boxes and masks."""

import base64
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

from tests.helpers.annotated import (
    CLASSES,
    IMAGES,
    SIZE,
    Annotated,
    Tree,
    expected_boxes,
    imported_boxes,
    imported_mask,
    mask_values,
)
from tests.helpers.sources import assert_refused, codes, image
from trainingapp.datasets.sources.formats.run_lengths import brush_alpha, counts_of_pairs, crop_of_png, of_crop
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]
Corners = tuple[int, int, int, int]
WIDTH, HEIGHT = SIZE


def images() -> Tree:
    return {f"{item.split}/{item.stem}.png": item.content() for item in IMAGES}


def by_split() -> Iterator[tuple[str, list[Annotated]]]:
    for split in ("train", "val"):
        yield split, [item for item in IMAGES if item.split == split]


def columns(box: Corners) -> str:
    """Pairs of start and length down the columns, counted from 1."""
    left, top, right, bottom = box
    return " ".join(f"{x * HEIGHT + top + 1} {bottom - top}" for x in range(left, right))


def by_rows(box: Corners) -> str:
    left, top, right, bottom = box
    return " ".join(f"{y * WIDTH + left + 1} {right - left}" for y in range(top, bottom))


def kaggle(form: str) -> Tree:
    tree = images()
    for split, items in by_split():
        rows = [
            {
                "class": "ImageId,ClassId,EncodedPixels",
                "joined": "Image_Label,EncodedPixels",
                "rows": "id,annotation,width,height,cell_type",
            }[form]
        ]
        for item in items:
            for name, box in item.boxes:
                rows.append(
                    {
                        "class": f"{item.stem}.png,{name},{columns(box)}",
                        "joined": f"{item.stem}.png_{name},{columns(box)}",
                        "rows": f"{item.stem},{by_rows(box)},60,40,{name}",
                    }[form]
                )
            if not item.boxes:
                rows.append(
                    {"class": f"{item.stem}.png,,", "joined": f"{item.stem}.png_cat,"}.get(form, f"{item.stem},,60,40,")
                )
        tree[f"{split}.csv"] = "\n".join(rows).encode()
    return tree


def cvat() -> Tree:
    lines = ["<annotations>"]
    for number, item in enumerate(IMAGES):
        lines.append(f'<image id="{number}" name="{item.stem}.png" subset="{item.split}" width="60" height="40">')
        for name, (left, top, right, bottom) in item.boxes:
            width, height = right - left, bottom - top
            place = f'left="{left}" top="{top}" width="{width}" height="{height}"'
            lines.append(f'<mask label="{name}" rle="0, {width * height}" {place} z_order="0"></mask>')
        lines.append("</image>")
    tree: Tree = {f"images/{item.stem}.png": item.content() for item in IMAGES}
    return {**tree, "annotations.xml": "\n".join([*lines, "</annotations>"]).encode()}


def packed_brush(values: list[int]) -> list[int]:
    """Values in the form of rle-pack, each run with its length in 16 bits, and the last four values as they are."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    at = 0
    while at < len(values) - 4:
        end = at
        while end < len(values) - 4 and values[end] == values[at]:
            end += 1
        bits += f"111{end - at - 1:016b}{values[at]:08b}"
        at = end
    bits += f"000{3:03b}" + "".join(f"{value:08b}" for value in values[-4:])
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def brush(box: Corners) -> list[int]:
    values_HWC = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    values_HWC[box[1] : box[3], box[0] : box[2]] = (9, 9, 9, 255)
    return packed_brush(values_HWC.ravel().tolist())


def label_studio() -> Tree:
    tree = images()
    for split, items in by_split():
        tasks = [
            {
                "data": {"image": f"/data/upload/1/{item.stem}.png"},
                "annotations": [
                    {
                        "result": [
                            {
                                "type": "brushlabels",
                                "value": {"format": "rle", "rle": brush(box), "brushlabels": [name]},
                                "from_name": "x",
                                "original_width": WIDTH,
                                "original_height": HEIGHT,
                            }
                            for name, box in item.boxes
                        ]
                    }
                ],
            }
            for item in items
        ]
        tree[f"{split}/export.json"] = json.dumps(tasks).encode()
    return tree


def png(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", size, 1).save(buffer, "PNG")
    return buffer.getvalue()


def labelme() -> Tree:
    tree = images()
    for item in IMAGES:
        shapes = [
            {
                "label": name,
                "points": [[left, top], [right - 1, bottom - 1]],
                "shape_type": "mask",
                "mask": base64.b64encode(png((right - left, bottom - top))).decode(),
            }
            for name, (left, top, right, bottom) in item.boxes
        ]
        content = {"shapes": shapes, "imagePath": f"{item.stem}.png", "imageHeight": HEIGHT, "imageWidth": WIDTH}
        tree[f"{item.split}/{item.stem}.json"] = json.dumps(content).encode()
    return tree


def supervisely() -> Tree:
    tree: Tree = {"meta.json": b'{"classes": [], "tags": []}'}
    for item in IMAGES:
        objects = [
            {
                "classTitle": name,
                "geometryType": "bitmap",
                "bitmap": {
                    "origin": [left, top],
                    "data": base64.b64encode(zlib.compress(png((right - left, bottom - top)))).decode(),
                },
            }
            for name, (left, top, right, bottom) in item.boxes
        ]
        content = {"size": {"width": WIDTH, "height": HEIGHT}, "tags": [], "objects": objects}
        tree[f"{item.split}/img/{item.stem}.png"] = item.content()
        tree[f"{item.split}/ann/{item.stem}.png.json"] = json.dumps(content).encode()
    return tree


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        (kaggle("class"), "csv_runs"),
        (kaggle("joined"), "csv_runs"),
        (kaggle("rows"), "csv_runs"),
        (cvat(), "cvat"),
        (label_studio(), "label_studio"),
        (labelme(), "labelme"),
        (supervisely(), "supervisely"),
    ],
)
def test_masks_of_every_program(import_tree: ImportTree, tree: Tree, name: str) -> None:
    dataset = import_tree(tree)
    assert (dataset.status, dataset.report) == ("ready", [])
    assert (dataset.format, dataset.tasks, dataset.classes) == (name, ["detection", "segmentation"], CLASSES)
    assert imported_boxes(dataset) == expected_boxes()
    for item in IMAGES:
        assert (imported_mask(dataset, item.stem) == mask_values(item)).all()


def test_masks_without_a_class_are_one_class(import_tree: ImportTree) -> None:
    rows = ["id,rle_mask", *(f"p{number},{columns((1, 1, 9, 9)) if number else ''}" for number in range(5))]
    pictures = {f"images/p{number}.png": image(number, SIZE) for number in range(5)}
    dataset = import_tree({**pictures, "masks.csv": "\n".join(rows).encode()})
    assert (dataset.status, dataset.format, dataset.classes) == ("ready", "csv_runs", ["object"])
    assert codes(dataset, "warning") == ["one_class"]
    assert sorted(map(len, (boxes for _split, boxes in imported_boxes(dataset).values()))) == [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("runs", "text"),
    [("5 3 x", "line 2"), ("0 4", "encodedpixels"), ("5 3 6 2", "without overlap"), ("2390 40", "run lengths")],
)
def test_runs_that_are_no_mask_are_named(import_tree: ImportTree, data_dir: Path, runs: str, text: str) -> None:
    rows = ["ImageId,EncodedPixels", f"p0.png,{runs}", *(f"p{number}.png,5 3" for number in range(1, 4))]
    pictures = {f"train/p{number}.png": image(number, SIZE) for number in range(4)}
    assert_refused(import_tree({**pictures, "a.csv": "\n".join(rows).encode()}), data_dir, "bad_annotation", text)


@pytest.mark.parametrize(("left", "top"), [(0, 0), (7, 3), (-2, -1), (25, 18)])
def test_a_crop_has_the_run_lengths_of_pycocotools(left: int, top: int) -> None:
    random = np.random.default_rng(abs(left + 10 * top))
    crop_HW = random.random((5, 6)) < 0.5
    whole_HW = np.zeros((40, 50), bool)
    whole_HW[10 + top : 15 + top, 10 + left : 16 + left] = crop_HW
    visible_HW = whole_HW[10:30, 10:38]
    rle = of_crop(crop_HW, left, top, (28, 20))
    assert rle is not None
    packed = coco_masks.frPyObjects([{"size": [20, 28], "counts": list(rle.counts)}], 20, 28)
    assert (coco_masks.decode(packed)[..., 0] == visible_HW).all()


def test_a_crop_outside_of_the_image_is_no_mask() -> None:
    assert of_crop(np.ones((3, 3), bool), 30, 0, (28, 20)) is None
    assert of_crop(np.zeros((3, 3), bool), 3, 3, (28, 20)) is None


@pytest.mark.parametrize(
    "found",
    [
        brush_alpha(packed_brush([0] * 40), 3, 3),
        brush_alpha(packed_brush([0] * 36)[:-3], 3, 3),
        brush_alpha([300, 1], 3, 3),
        crop_of_png("no base64"),
        crop_of_png(base64.b64encode(b"\x89PNG no image").decode()),
        crop_of_png(base64.b64encode(zlib.compress(b"a" * 100)).decode()),
        counts_of_pairs(""),
        counts_of_pairs("1"),
    ],
)
def test_broken_masks_are_none(found: object) -> None:
    assert found is None
