"""The known dataset with one mask per object, in the encodings of annotation programs."""

import base64
import io
import json
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tests.helpers import projects
from tests.helpers.annotated import IMAGES, SIZE, Annotated, Tree, by_split
from tests.helpers.annotation_programs import images

Corners = tuple[int, int, int, int]
WIDTH, HEIGHT = SIZE


def columns(box: Corners) -> str:
    """Pairs of start and length in column-major order, counted from 1."""
    left, top, right, bottom = box
    return " ".join(f"{x * HEIGHT + top + 1} {bottom - top}" for x in range(left, right))


def by_rows(box: Corners) -> str:
    left, top, right, bottom = box
    return " ".join(f"{y * WIDTH + left + 1} {right - left}" for y in range(top, bottom))


def kaggle_tree(form: str, items: Sequence[Annotated] = IMAGES) -> Tree:
    tree = images(items)
    for split, same in by_split(items).items():
        rows = [
            {
                "class": "ImageId,ClassId,EncodedPixels",
                "joined": "Image_Label,EncodedPixels",
                "rows": "id,annotation,width,height,cell_type",
            }[form]
        ]
        for item in same:
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


def cvat_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    lines = ["<annotations>"]
    for number, item in enumerate(items):
        lines.append(f'<image id="{number}" name="{item.stem}.png" subset="{item.split}" width="60" height="40">')
        for name, (left, top, right, bottom) in item.boxes:
            width, height = right - left, bottom - top
            place = f'left="{left}" top="{top}" width="{width}" height="{height}"'
            lines.append(f'<mask label="{name}" rle="0, {width * height}" {place} z_order="0"></mask>')
        lines.append("</image>")
    tree: Tree = {f"images/{item.stem}.png": item.content() for item in items}
    return {**tree, "annotations.xml": "\n".join([*lines, "</annotations>"]).encode()}


def packed_brush(values: list[int]) -> list[int]:
    """Values encoded as rle-pack, each run with a 16-bit length, and the last four values as literals."""
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


def label_studio_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    tree = images(items)
    for split, same in by_split(items).items():
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
            for item in same
        ]
        tree[f"{split}/export.json"] = json.dumps(tasks).encode()
    return tree


def png(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", size, 1).save(buffer, "PNG")
    return buffer.getvalue()


def labelme_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    tree = images(items)
    for item in items:
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


def supervisely_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    def bitmap(box: tuple[int, int, int, int]) -> dict[str, object]:
        left, top, right, bottom = box
        data = base64.b64encode(zlib.compress(png((right - left, bottom - top)))).decode()
        return {"geometryType": "bitmap", "bitmap": {"origin": [left, top], "data": data}}

    return projects.supervisely(items, bitmap, "")
