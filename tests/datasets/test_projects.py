"""Projects and datasets with several files: VIA 3, Supervisely, KITTI, Open Images and CVAT videos."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import projects
from tests.helpers.annotated import CLASSES, IMAGES, SIZE, Tree, expected_boxes, imported_boxes, imported_mask
from tests.helpers.sources import assert_refused, codes, image
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        (projects.via3_tree(), "via"),
        (projects.supervisely_tree(), "supervisely"),
        (projects.kitti_tree(), "kitti"),
        (projects.open_images_tree(), "csv_boxes"),
    ],
)
def test_boxes_of_every_project(import_tree: ImportTree, tree: Tree, name: str) -> None:
    dataset = import_tree(tree)
    assert (dataset.status, dataset.report) == ("ready", [])
    assert (dataset.format, dataset.tasks, dataset.classes) == (name, ["detection"], CLASSES)
    assert imported_boxes(dataset) == expected_boxes()


def test_a_hole_of_supervisely_is_background(import_tree: ImportTree) -> None:
    square = [[10, 10], [30, 10], [30, 30], [10, 30]]
    hole = [[15, 15], [25, 15], [25, 25], [15, 25]]
    objects = [{"classTitle": "a", "geometryType": "polygon", "points": {"exterior": square, "interior": [hole]}}]
    tree: Tree = {"meta.json": b"{}"}
    for number in range(4):
        content = {"tags": [], "size": {"width": SIZE[0], "height": SIZE[1]}, "objects": objects}
        tree |= {f"d/img/{number}.png": image(number, SIZE), f"d/ann/{number}.png.json": json.dumps(content).encode()}
    dataset = import_tree(tree)
    assert dataset.status == "ready", dataset.report
    mask_HW = imported_mask(dataset, "0")
    assert (mask_HW[10:30, 10:30].sum(), mask_HW.sum(), mask_HW[15:25, 15:25].sum()) == (300, 300, 0)


def test_regions_that_kitti_does_not_evaluate_are_left_out(import_tree: ImportTree) -> None:
    tree = projects.kitti_tree()
    lines = [tree["train/label_2/p1.txt"] or b"", b"DontCare -1 -1 -10 1.0 1.0 9.0 9.0 -1 -1 -1 -1000 -1000 -1000 -10"]
    dataset = import_tree(tree | {"train/label_2/p1.txt": b"\n".join(lines)})
    assert (dataset.status, codes(dataset, "warning")) == ("ready", ["ignored_object"])
    assert imported_boxes(dataset) == expected_boxes()


def test_a_project_of_videos_is_refused(import_tree: ImportTree, data_dir: Path) -> None:
    tree: Tree = {f"{item.split}/{item.stem}.png": item.content() for item in IMAGES}
    assert_refused(
        import_tree({**tree, "p.json": projects.via3("train", type_=4)}), data_dir, "bad_annotation", "type video"
    )


# Videos of CVAT


def track(label: str, *elements: str) -> str:
    return "\n".join([f'<track id="0" label="{label}" source="manual">', *elements, "</track>"])


def box(frame: int, left: int, *, outside: int = 0) -> str:
    corners = f'xtl="{left}" ytl="5" xbr="{left + 10}" ybr="25"'
    return f'<box frame="{frame}" outside="{outside}" occluded="0" keyframe="1" {corners} z_order="0"></box>'


def video(*tracks: str, frames: int = 6) -> Tree:
    meta = "<meta><task><name>v</name><mode>interpolation</mode></task></meta>"
    text = "\n".join(["<annotations>", meta, *tracks, "</annotations>"])
    tree: Tree = {f"images/frame_{number:06}.PNG": image(number, SIZE) for number in range(frames)}
    return tree | {"annotations.xml": text.encode()}


def lefts(dataset: Dataset) -> dict[str, list[tuple[str, float]]]:
    """Class and left side of the boxes of each frame."""
    found = imported_boxes(dataset).items()
    return {stem[-1]: sorted((name, corners[0]) for name, corners in boxes) for stem, (_split, boxes) in found}


def test_tracks_become_boxes_of_their_frames(import_tree: ImportTree) -> None:
    car = track("car", box(0, 5), box(1, 7), box(2, 7, outside=1))
    bus = track("bus", box(1, 20), box(5, 40))
    dataset = import_tree(video(car, bus))
    assert (dataset.status, dataset.format, dataset.report) == ("ready", "cvat", [])
    assert lefts(dataset) == {
        "0": [("car", 5)],
        "1": [("bus", 20), ("car", 7)],
        "2": [("bus", 25)],  # between two boxes that are given
        "3": [("bus", 30)],
        "4": [("bus", 35)],
        "5": [("bus", 40)],
    }


def test_a_frame_missing_from_the_source_is_reported(import_tree: ImportTree, data_dir: Path) -> None:
    dataset = import_tree(video(track("car", box(0, 5), box(1, 5), box(2, 5)), frames=2))
    assert_refused(dataset, data_dir, "missing_image", "annotations.xml line 6", "frame_000002", "Save images")


def test_unusable_objects_of_tracks_are_reported(import_tree: ImportTree, data_dir: Path) -> None:
    points = '<points frame="0" outside="0" points="1,1"></points>'
    assert_refused(import_tree(video(track("car", points))), data_dir, "bad_annotation", "line 4", "type points")
    broken = '<box frame="x" outside="0" xtl="1" ytl="1" xbr="5" ybr="5"></box>'
    assert_refused(import_tree(video(track("car", broken))), data_dir, "bad_annotation", "line 4", "frame")
