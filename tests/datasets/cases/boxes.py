"""COCO, YOLO and Pascal VOC as written by other programs."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from pycocotools import mask as coco_masks

from tests.datasets.cases.kit import Case, Ready, Refused, Tree, as_json, lines, numbered, photo

Entries = list[dict[str, Any]]
DETECTION = "detection"
BOTH = "detection segmentation instances"
CENTRE = (14.4, 12, 33.6, 28)
"""0.5 0.5 0.4 0.4 of YOLO in an image of 48 x 40 pixels."""

# COCO


def coco(
    edit: Callable[[Entries, Entries], None] = lambda images, annotations: None,
    *,
    path: str = "annotations.json",
    name: str = "widget",
    encoding: str = "utf-8",
) -> Tree:
    """Six images with one box of 20 x 20 pixels each, after `edit` has modified their entries."""
    images: Entries = [{"id": i + 1, "file_name": f"p{i}.jpg", "width": 48, "height": 40} for i in range(6)]
    annotations: Entries = [
        {"id": i + 1, "image_id": i + 1, "category_id": 1, "bbox": [8 + i, 6, 20, 20], "area": 400, "iscrowd": 0}
        for i in range(6)
    ]
    edit(images, annotations)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": name}]}
    return numbered("images/p{}.jpg", 6) | {path: json.dumps(content).encode(encoding)}


def outline(annotation: dict[str, Any]) -> list[float]:
    left, top, width, height = annotation["bbox"]
    return [left, top, left + width, top, left + width, top + height, left, top + height]


def each_annotation(**values: object) -> Callable[[Entries, Entries], None]:
    """An edit that sets these fields of every annotation."""

    def edit(_images: Entries, annotations: Entries) -> None:
        for annotation in annotations:
            annotation.update(values)

    return edit


def ids(of_image: Callable[[int], object], of_annotation: Callable[[int], object]) -> Tree:
    def edit(images: Entries, annotations: Entries) -> None:
        for image in images:
            image["id"] = of_image(image["id"])
        for annotation in annotations:
            annotation["image_id"] = of_annotation(annotation["image_id"])

    return coco(edit)


def beyond_the_edge() -> Tree:
    def edit(_images: Entries, annotations: Entries) -> None:
        annotations[0]["bbox"], annotations[1]["bbox"] = [-6, 5, 20, 20], [34, 5, 20, 20]

    return coco(edit)


def without_height() -> Tree:
    def edit(_images: Entries, annotations: Entries) -> None:
        for annotation in annotations:
            annotation["segmentation"] = [outline(annotation)]
        flat = [9.98, 18.56, 15.52, 18.56, 15.52, 18.56, 11.09, 18.56]
        entry = {"id": 99, "image_id": 2, "category_id": 1, "bbox": [9.98, 18.56, 5.54, 0.0], "segmentation": [flat]}
        annotations.append(entry)

    return coco(edit, path="annotations/instances_train2014.json")


def sparse_categories() -> Tree:
    def edit(_images: Entries, annotations: Entries) -> None:
        for number, annotation in enumerate(annotations):
            annotation |= {"category_id": 90 * (number % 2), "segmentation": []}
            del annotation["area"], annotation["iscrowd"]

    tree = coco(edit)
    content = json.loads(tree["annotations.json"] or b"")
    content["categories"] = [{"id": 0, "name": "a"}, {"id": 90, "name": "b"}]
    return tree | {"annotations.json": as_json(content)}


def run_lengths() -> Tree:
    """A square of 10 x 10 pixels at (5, 8) as counts, as packed text and as a crowd."""
    counts = [5 * 40 + 8, 10, *([30, 10] * 9), 0]
    counts[-1] = 48 * 40 - sum(counts)
    packed = coco_masks.frPyObjects({"size": [40, 48], "counts": counts}, 40, 48)["counts"].decode()

    def edit(_images: Entries, annotations: Entries) -> None:
        for annotation in annotations:
            annotation |= {"bbox": [5, 8, 10, 10], "segmentation": {"size": [40, 48], "counts": counts}}
        annotations[1]["segmentation"] = {"size": [40, 48], "counts": packed}
        annotations[2]["iscrowd"] = 1

    return coco(edit)


def urls(pattern: str, file: str) -> Tree:
    def edit(images: Entries, _annotations: Entries) -> None:
        for number, image in enumerate(images):
            image["file_name"] = pattern.format(number) + ("?X-Amz-Date=2026&sig=ab" if number % 2 else "")

    tree = coco(edit)
    return numbered(file, 6) | {"annotations.json": tree["annotations.json"]}


def flat_outlines() -> Tree:
    def edit(_images: Entries, annotations: Entries) -> None:
        for annotation in annotations:
            annotation["segmentation"] = outline(annotation)

    return coco(edit)


def all_but_one_outlined() -> Tree:
    def edit(_images: Entries, annotations: Entries) -> None:
        for annotation in annotations[1:]:
            annotation["segmentation"] = [outline(annotation)]

    return coco(edit)


def without(tree: Tree, *paths: str) -> Tree:
    return {path: content for path, content in tree.items() if path not in paths}


def unannotated_test_images() -> Tree:
    tree = coco()
    whole = json.loads(tree.pop("annotations.json") or b"")
    for name, start, end in (("instances_train", 0, 3), ("instances_val", 3, 5)):
        part = {"images": whole["images"][start:end], "annotations": whole["annotations"][start:end]}
        tree[f"annotations/{name}.json"] = as_json(part | {"categories": whole["categories"]})
    rest = {"images": whole["images"][5:], "categories": whole["categories"]}
    return tree | {"annotations/image_info_test.json": as_json(rest)}


def null_fields() -> Tree:
    def edit(images: Entries, annotations: Entries) -> None:
        for image in images:
            image["width"] = image["height"] = None
        each_annotation(segmentation=None)(images, annotations)

    return coco(edit)


def numbers_as_text() -> Tree:
    def edit(_images: Entries, annotations: Entries) -> None:
        for annotation in annotations:
            annotation["bbox"] = [str(value) for value in annotation["bbox"]]

    return coco(edit)


def one_image_twice() -> Tree:
    def edit(images: Entries, annotations: Entries) -> None:
        images.append(images[0] | {"id": 7})
        annotations.append({"id": 7, "image_id": 7, "category_id": 1, "bbox": [1, 1, 8, 8], "iscrowd": 0})

    return coco(edit)


KEYPOINTS = {"keypoints": [10, 10, 2] * 17, "num_keypoints": 17}
SIX = {f"p{i}": [("widget", (8.0 + i, 6.0, 28.0 + i, 26.0))] for i in range(6)}
SIX_BOXES = Ready("coco", DETECTION, ["widget"], 5, 1, boxes=SIX)
SIX_OUTLINES = Ready("coco", BOTH, ["widget"], 5, 1, boxes=SIX)
MISSING = Ready("coco", DETECTION, ["widget"], 3, 1, "missing_image")

COCO = [
    Case(
        "s05_coco_boxes_beyond_edge",
        beyond_the_edge,
        Ready(
            "coco",
            DETECTION,
            ["widget"],
            5,
            1,
            "box_clipped",
            boxes={"p0": [("widget", (0, 5, 14, 25))], "p1": [("widget", (34, 5, 48, 25))]},
        ),
    ),
    Case("s15_coco_image_id_strings", partial(ids, int, str), SIX_BOXES),
    Case("s15b_coco_string_ids_both", partial(ids, "img_{}".format, "img_{}".format), SIX_BOXES),
    Case(
        "s26_coco_zero_area",
        without_height,
        Ready("coco", BOTH, ["widget"], 5, 1, "box_without_area val_set_aside", boxes=SIX),
    ),
    Case(
        "s29_coco_keypoint_only",
        partial(coco, each_annotation(**KEYPOINTS), path="annotations/person_keypoints_train2017.json", name="person"),
        Ready("coco", DETECTION, ["person"], 5, 1, "columns_ignored val_set_aside"),
    ),
    Case("o_coco_float_ids", partial(ids, float, float), SIX_BOXES),
    Case(
        "o_coco_sparse_ids_no_info",
        sparse_categories,
        Ready(
            "coco",
            DETECTION,
            ["a", "b"],
            4,
            2,
            boxes={"p0": [("a", (8, 6, 28, 26))], "p1": [("b", (9, 6, 29, 26))]},
        ),
    ),
    Case(
        "o_coco_rle_both",
        run_lengths,
        Ready(
            "coco",
            BOTH,
            ["widget"],
            5,
            1,
            boxes={f"p{i}": [("crowd of widget" if i == 2 else "widget", (5, 8, 15, 18))] for i in range(4)},
        ),
    ),
    Case(
        "o_coco_url_names",
        partial(urls, "https://ex.org/bucket/a/my%20photo%20{}.jpg", "images/my photo {}.jpg"),
        Ready("coco", DETECTION, ["widget"], 5, 1),
    ),
    Case("o_coco_url_query_plain", partial(urls, "https://ex.org/bucket/p{}.jpg", "images/p{}.jpg"), SIX_BOXES),
    Case("o_coco_flat_segmentation", flat_outlines, SIX_OUTLINES),
    Case(
        "o_coco_missing_pictures",
        lambda: without(coco(), "images/p1.jpg", "images/p4.jpg"),
        Refused("missing_image", ("p1.jpg", "p4.jpg"), MISSING),
    ),
    Case(
        "o_coco_test_without_annotations",
        unannotated_test_images,
        Ready("coco", DETECTION, ["widget"], 3, 2, "ignored_file not_annotated", "p3 p4"),
    ),
    Case("o_coco_utf16", partial(coco, encoding="utf-16"), SIX_BOXES),
    Case(
        "o_coco_no_images",
        lambda: without(coco(), *(f"images/p{i}.jpg" for i in range(6))),
        Refused("no_images", ("The images are not in the source", ".json")),
    ),
    Case("o_coco_null_fields", null_fields, SIX_BOXES),
    Case(
        "o_coco_numbers_as_text",
        numbers_as_text,
        Refused("bad_annotation no_objects", ("['8', '6', '20', '20']",)),
        (SIX_BOXES,),
    ),
    Case(
        "o_coco_duplicate_pictures",
        one_image_twice,
        Ready(
            "coco",
            DETECTION,
            ["widget"],
            5,
            1,
            "duplicate_name",
            boxes={"p0": [("widget", (1, 1, 9, 9)), ("widget", (8, 6, 28, 26))]},
        ),
    ),
    Case(
        "o_coco_partly_outlined_leave",
        all_but_one_outlined,
        Ready("coco", DETECTION, ["widget"], 5, 1, "partly_outlined", boxes=SIX),
    ),
]

# YOLO

CENTRED = "0 0.5 0.5 0.4 0.4"


def yolo(
    line: Callable[[int], str] = lambda number: CENTRED,
    about: str = "names: [widget]",
    *,
    encoding: str = "utf-8",
    end: str = "\n",
) -> Tree:
    """Six images with one label line each."""
    tree = numbered("images/p{}.jpg", 6) | {"data.yaml": lines(about)}
    return tree | {f"labels/p{i}.txt": (line(i) + end).encode(encoding) for i in range(6)}


def pose(line: str, shape: str) -> Tree:
    return yolo(lambda _number: line, f"kpt_shape: {shape}\nnc: 1\nnames: [plate]")


def darknet() -> Tree:
    tree = numbered("data/obj/p{}.jpg", 8)
    tree |= {f"data/obj/p{i}.txt": lines(CENTRED) for i in range(8)}
    tree["data/train.txt"] = lines(*(f"data/obj/p{i}.jpg" for i in range(6)))
    tree["data/valid.txt"] = lines("data/obj/p6.jpg", "data/obj/p7.jpg")
    about = lines("classes=2", "train=data/train.txt", "valid=data/valid.txt", "names=data/obj.names")
    return tree | {"data/obj.data": about, "data/obj.names": lines("car", "bus")}


def same_names_in_two_folders() -> Tree:
    tree: Tree = {"classes.txt": lines("bolt", "nut")}
    for folder, line in (("dir_1", CENTRED), ("dir_2", "1 0.5 0.5 0.2 0.2")):
        tree |= numbered(f"images/{folder}/image_{{}}.png", 4)
        tree |= {f"labels/{folder}/image_{i}.txt": lines(line) for i in range(4)}
    return tree


def split_folders(train: str, val: str, about: bytes, first_line: str = CENTRED, line: str = CENTRED) -> Tree:
    tree: Tree = {"data.yaml": about}
    for number in range(6):
        folder = train if number < 4 else val
        tree |= photos_of(folder, number)
        tree[f"labels/{folder}/p{number}.txt"] = (line if number else first_line).encode()
    return tree


def photos_of(folder: str, number: int) -> Tree:
    return {f"images/{folder}/p{number}.jpg": photo(f"images/p{number}.jpg")}


def absolute_lists() -> Tree:
    listed = {
        f"{name}.txt": lines(*(f"D:\\ds\\images\\p{i}.jpg" for i in range(first, 6, 2)), end="\r\n")
        for name, first in (("train", 0), ("val", 1))
    }
    return yolo(about="train: train.txt\nval: val.txt\nnames: [w]") | listed


WINDOWS_YAML = lines(
    "path: D:\\work\\ds",
    "train: D:\\work\\ds\\images\\train",
    "val: D:\\work\\ds\\images\\val",
    "names:",
    "  0: cat",
    "  1: dog",
)
PLATES = Ready("yolo", DETECTION, ["plate"], 5, 1, "columns_ignored", boxes={"p0": [("plate", CENTRE)]})
UPPER_PLATES = Ready(
    "yolo", DETECTION, ["plate"], 5, 1, "columns_ignored", boxes={"p0": [("plate", (27.84, 22.6, 37.44, 25.4))]}
)
CENTRED_WIDGETS = {f"p{i}": [("widget", CENTRE)] for i in range(6)}

YOLO = [
    Case(
        "s03_yolo_pose_4x3",
        partial(pose, f"{CENTRED} 0.35 0.35 2 0.65 0.35 2 0.65 0.65 2 0.35 0.65 2", "[4, 3]"),
        PLATES,
    ),
    Case(
        "s03b_yolo_pose_2d",
        partial(pose, "0 0.68 0.60 0.20 0.07 0.58 0.63 0.69 0.61 0.75 0.59 0.78 0.56 0.63 0.60", "[5, 2]"),
        UPPER_PLATES,
    ),
    Case(
        "s04_yolo_mixed_boxes_polygons",
        partial(yolo, lambda number: CENTRED if number % 2 else "0 0.3 0.3 0.7 0.3 0.7 0.7 0.3 0.7"),
        Ready("yolo", DETECTION, ["widget"], 5, 1, "partly_outlined", boxes=CENTRED_WIDGETS),
    ),
    Case(
        "s07b_darknet_lists",
        darknet,
        Ready("yolo", DETECTION, ["car", "bus"], 6, 2, "empty_class", "p6 p7", {"p7": [("car", CENTRE)]}),
    ),
    Case(
        "s27_label_studio_yolo_dup",
        same_names_in_two_folders,
        Ready(
            "yolo",
            DETECTION,
            ["bolt", "nut"],
            6,
            2,
            boxes={"dir_1/image_0": [("bolt", CENTRE)], "dir_2/image_0": [("nut", (19.2, 16, 28.8, 24))]},
        ),
    ),
    Case(
        "o_yolo_names_dict_path",
        partial(split_folders, "train", "val", WINDOWS_YAML, "", "1 0.5 0.5 0.4 0.4\r\n"),
        Ready(
            "yolo",
            DETECTION,
            ["cat", "dog"],
            4,
            2,
            "empty_class",
            "p4 p5",
            {"p0": [], "p1": [("dog", CENTRE)]},
        ),
    ),
    Case(
        "o_yolo_custom_split_folders",
        partial(
            split_folders,
            "monday",
            "friday",
            lines("train: /home/me/ds/images/monday", "val: /home/me/ds/images/friday", "nc: 1", "names: ['cat']"),
        ),
        Ready("yolo", DETECTION, ["cat"], 4, 2, val_stems="p4 p5"),
    ),
    Case(
        "o_yolo_nc_only",
        partial(yolo, lambda number: f"{number % 3} 0.5 0.5 0.4 0.4", "train: images\nval: images\nnc: 3"),
        Ready("yolo", DETECTION, ["0", "1", "2"], 3, 3, boxes={"p4": [("1", CENTRE)]}),
    ),
    Case(
        "o_yolo_obb9",
        partial(yolo, lambda _number: "0 0.5 0.2 0.8 0.5 0.5 0.8 0.2 0.5"),
        Ready("yolo", BOTH, ["widget"], 5, 1, "oriented_boxes", boxes={"p0": [("widget", (9.6, 8, 38.4, 32))]}),
    ),
    Case(
        "o_yolo_prediction_conf",
        partial(yolo, lambda _number: f"{CENTRED} 0.93"),
        Ready("yolo", DETECTION, ["widget"], 5, 1, "columns_ignored", boxes=CENTRED_WIDGETS),
    ),
    Case(
        "o_yolo_pixels",
        partial(yolo, lambda _number: "0 24 20 18 16"),
        Refused("bad_annotation", ("labels/p0.txt line 1", "not a share of the image", "6 lines")),
    ),
    Case(
        "o_yolo_class_too_high",
        partial(yolo, lambda number: "2 0.5 0.5 0.4 0.4" if number == 3 else CENTRED, "nc: 2\nnames: [a, b]"),
        Refused(
            "unknown_class",
            ("labels/p3.txt line 1", "no class 2"),
            Ready("yolo", DETECTION, ["a", "b"], 4, 1, "empty_class objects_lost unknown_class"),
        ),
    ),
    Case(
        "o_yolo_yes_no_names",
        partial(yolo, lambda number: f"{number % 2} 0.5 0.5 0.4 0.4", "names: [yes, no]"),
        Ready("yolo", DETECTION, ["yes", "no"], 4, 2, boxes={"p1": [("no", CENTRE)]}),
    ),
    Case(
        "o_yolo_utf16_labels",
        partial(yolo, encoding="utf-16", end="\r\n"),
        Ready("yolo", DETECTION, ["widget"], 5, 1, boxes=CENTRED_WIDGETS),
    ),
    Case(
        "o_yolo_labels_no_images",
        lambda: {f"labels/p{i}.txt": lines(CENTRED) for i in range(6)} | {"images": None, "classes.txt": b"car\n"},
        Refused("no_images", ("The images are not in the source", ".txt")),
    ),
    Case("o_yolo_lists_absolute", absolute_lists, Ready("yolo", DETECTION, ["w"], 3, 3, val_stems="p1 p3 p5")),
]

# Pascal VOC


def annotation(
    stem: str,
    name: str = "widget",
    corners: tuple[float, float, float, float] = (5, 5, 25, 25),
    *,
    head: str = "",
    size: str = "<size><width>48</width><height>40</height><depth>3</depth></size>",
    file_name: str = "",
) -> str:
    left, top, right, bottom = corners
    return (
        f"{head}<annotation><filename>{file_name or f'{stem}.jpg'}</filename>{size}\n<object><name>{name}</name>"
        f"<bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>\n"
        "</annotation>\n"
    )


def voc(
    write: Callable[[str], str] = annotation, *, images: str = "", annotations: str = "", encoding: str = "utf-8"
) -> Tree:
    """Six images with one XML file each, in these folders."""
    tree = numbered(f"{images}p{{}}.jpg", 6)
    return tree | {f"{annotations}p{i}.xml": write(f"p{i}").encode(encoding) for i in range(6)}


def voc2007(stems: list[str], **lists: list[str]) -> Tree:
    tree = {f"JPEGImages/{stem}.jpg": photo(f"{stem}.jpg") for stem in stems}
    tree |= {f"Annotations/{stem}.xml": annotation(stem).encode() for stem in stems}
    return tree | {f"ImageSets/Main/{name}.txt": lines(*listed) for name, listed in lists.items()}


def cut_short() -> Tree:
    tree = voc()
    return tree | {"p2.xml": (tree["p2.xml"] or b"")[:-20]}


def with_head(encoding: str, name: str) -> Callable[[str], str]:
    return partial(annotation, name=name, head=f'<?xml version="1.0" encoding="{encoding}"?>\n')


SCREENSHOTS = [f"screenshot 2020-12-16 16.42.2{number}" for number in range(6)]
STEMS = [f"p{number}" for number in range(6)]
#: Pascal VOC counts pixels from 1 and includes the last one.
WIDGET = {f"p{i}": [("widget", (4.0, 4.0, 25.0, 25.0))] for i in range(6)}

VOC = [
    Case(
        "s08_voc_gb2312",
        partial(voc, with_head("gb2312", "汽车"), images="JPEGImages/", annotations="Annotations/", encoding="gb2312"),
        Ready("voc", DETECTION, ["汽车"], 5, 1),
    ),
    Case(
        "s08b_voc_utf8_bom",
        partial(voc, with_head("utf-8", "Vögel"), encoding="utf-8-sig"),
        Ready("voc", DETECTION, ["Vögel"], 5, 1),
    ),
    Case(
        "s10_voc_list_names_with_spaces",
        partial(voc2007, SCREENSHOTS, train=SCREENSHOTS[:4], val=SCREENSHOTS[4:]),
        Ready("voc", DETECTION, ["widget"], 4, 2, val_stems=";".join(SCREENSHOTS[4:])),
    ),
    Case(
        "s10b_voc_trainval_and_test_lists",
        partial(voc2007, STEMS, trainval=STEMS[:4], test=STEMS[4:]),
        Ready("voc", DETECTION, ["widget"], 4, 2, "test_as_val", "p4 p5", WIDGET),
    ),
    Case(
        "o_voc_odd",
        lambda: {
            path.replace(".jpg", ".JPG"): content
            for path, content in voc(
                partial(
                    annotation,
                    name=" traffic light ",
                    corners=(4.5, 5.25, 25.5, 25.75),
                    size="",
                    file_name="C:\\Users\\me\\pics\\renamed.jpg",
                ),
                images="pics/",
                annotations="xml/",
            ).items()
        },
        Ready(
            "voc",
            DETECTION,
            ["traffic light"],
            5,
            1,
            boxes={f"p{i}": [("traffic light", (3.5, 4.25, 25.5, 25.75))] for i in range(6)},
        ),
    ),
    Case(
        "o_voc_swapped",
        lambda: voc() | {"p0.xml": annotation("p0", corners=(25, 25, 5, 5)).encode()},
        Ready("voc", DETECTION, ["widget"], 5, 1, "corners_swapped", boxes=WIDGET),
    ),
    Case(
        "o_voc_zero_based_edge",
        partial(voc, partial(annotation, corners=(0, 0, 48, 40))),
        Ready("voc", DETECTION, ["widget"], 5, 1, "first_pixel", boxes={"p0": [("widget", (0, 0, 48, 40))]}),
    ),
    Case(
        "o_voc_gbk_declared_utf8",
        partial(voc, with_head("utf-8", "汽车"), encoding="gbk"),
        Refused("no_images not_text", ("p0.xml line 3", "declares the encoding utf-8", "gb18030")),
    ),
    Case(
        "o_voc_cut",
        cut_short,
        Refused(
            "annotations_broken",
            ("p2.xml line 2 is not valid XML",),
            Ready("voc", DETECTION, ["widget"], 4, 1, "annotations_broken not_annotated"),
        ),
    ),
]

CASES = [*COCO, *YOLO, *VOC]
