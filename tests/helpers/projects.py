"""The known dataset as projects and datasets with several files."""

import json
from collections.abc import Callable, Sequence

from tests.helpers.annotated import CLASSES, IMAGES, SIZE, Annotated, Tree, by_split


def via3(split: str, *, type_: int = 2, items: Sequence[Annotated] = IMAGES) -> bytes:
    """A project of the images of one split."""
    files: dict[str, object] = {}
    views: dict[str, object] = {}
    regions: dict[str, object] = {}
    for number, item in enumerate(by_split(items)[split], start=1):
        files[f"{number}"] = {"fid": f"{number}", "fname": f"{item.stem}.png", "type": type_, "loc": 1, "src": ""}
        views[f"{number}"] = {"fid_list": [f"{number}"]}
        for place, (name, (left, top, right, bottom)) in enumerate(item.boxes):
            xy = [2, left, top, right - left, bottom - top]
            regions[f"{number}_{place}"] = {"vid": f"{number}", "xy": xy, "av": {"7": str(CLASSES.index(name))}}
    attribute = {"7": {"aname": "class", "options": {str(place): name for place, name in enumerate(CLASSES)}}}
    project = {"data_format_version": "3.1.1", "vid_list": list(views)}
    content = {"project": project, "attribute": attribute, "file": files, "metadata": regions, "view": views}
    return json.dumps(content).encode()


def via3_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    tree: Tree = {f"{item.split}/{item.stem}.png": item.content() for item in items}
    return tree | {f"{split}/via_project.json": via3(split, items=items) for split in by_split(items)}


def supervisely_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    def rectangle(box: tuple[int, int, int, int]) -> dict[str, object]:
        left, top, right, bottom = box
        corners = {"exterior": [[right, bottom], [left, top]], "interior": []}
        return {"geometryType": "rectangle", "points": corners}

    return supervisely(items, rectangle, "project/")


def supervisely(
    items: Sequence[Annotated], geometry: Callable[[tuple[int, int, int, int]], dict[str, object]], root: str
) -> Tree:
    """A project in the folder `root`, with the fields that `geometry` returns for a box."""
    tree: Tree = {f"{root}meta.json": b'{"classes": [], "tags": []}'}
    for item in items:
        objects = [{"classTitle": name, **geometry(box)} for name, box in item.boxes]
        content = {"tags": [], "size": {"width": SIZE[0], "height": SIZE[1]}, "objects": objects}
        tree[f"{root}{item.split}/img/{item.stem}.png"] = item.content()
        tree[f"{root}{item.split}/ann/{item.stem}.png.json"] = json.dumps(content).encode()
    return tree


def kitti_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    tree: Tree = {}
    for item in items:
        lines = [
            f"{name} 0.00 0 -1.57 {box[0]:.2f} {box[1]:.2f} {box[2]:.2f} {box[3]:.2f} 1.5 1.6 3.7 2.0 1.5 10.0 -1.5"
            for name, box in item.boxes
        ]
        tree[f"{item.split}/image_2/{item.stem}.png"] = item.content()
        tree[f"{item.split}/label_2/{item.stem}.txt"] = "\n".join(lines).encode()
    return tree


def open_images_tree(items: Sequence[Annotated] = IMAGES) -> Tree:
    tree: Tree = {f"{item.split}/{item.stem}.png": item.content() for item in items}
    for split, same in by_split(items).items():
        rows = ["ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf"]
        for item in same:
            for name, (left, top, right, bottom) in item.boxes:
                xs, ys = f"{left / SIZE[0]},{right / SIZE[0]}", f"{top / SIZE[1]},{bottom / SIZE[1]}"
                rows.append(f"{item.stem},xclick,/m/{CLASSES.index(name)},1,{xs},{ys},0,0")
            if not item.boxes:
                rows.append(f"{item.stem},xclick,,,,,,,,")
        tree[f"{split}-annotations-bbox.csv"] = "\n".join(rows).encode()
    names = "\n".join(f"/m/{place},{name}" for place, name in enumerate(CLASSES))
    return tree | {"class-descriptions-boxable.csv": names.encode()}
