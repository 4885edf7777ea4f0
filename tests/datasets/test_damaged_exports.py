"""Damaged exports of every format give findings in the report: no other exceptions and no invented classes."""

import json
import random
import re
from collections.abc import Iterator

import pytest

from tests.helpers import annotation_programs as programs
from tests.helpers import known_datasets as known
from tests.helpers import mask_encodings as masks
from tests.helpers import projects
from tests.helpers.annotated import CLASSES, Tree, source_of
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources.formats.registry import read_layout
from trainingapp.datasets.sources.formats.visdrone import CATEGORIES

TREES = {
    "labelme": programs.labelme_tree(outlined=True),
    "cvat": programs.cvat_tree(),
    "label_studio": programs.label_studio_tree(),
    "label_studio_min": programs.label_studio_min_tree(),
    "label_studio_csv": programs.label_studio_csv_tree(),
    "csv_boxes": programs.csv_boxes_tree("kaggle"),
    "via": programs.via_tree(),
    "via_csv": programs.via_csv_tree(),
    "createml": programs.createml_tree(),
    "visdrone": known.visdrone_tree(),
    "imagefolder": known.imagefolder_tree(as_list=False),
    "datumaro": known.datumaro_tree("mask"),
    "csv_runs": masks.kaggle_tree("class"),
    "cvat masks": masks.cvat_tree(),
    "label_studio brushes": masks.label_studio_tree(),
    "labelme masks": masks.labelme_tree(),
    "supervisely": masks.supervisely_tree(),
    "via3": projects.via3_tree(),
    "kitti": projects.kitti_tree(),
}
VALUES: list[object] = [None, True, -1, 1e400, "", "x", [], {}, [[]], 10**30, "\ud800", {"a": [None]}]
TEXTS = (b"", b"\0", b'"', b"[", b"{", b"</", b"nan", b"1e999", b"-", b"\xff\xfe", b",,", b"&#0;")


def replaced(value: object, generator: random.Random) -> object:
    """The value with one part of it replaced by another type."""
    if isinstance(value, dict) and value and generator.random() < 0.85:
        key = generator.choice(list(value))
        return {**value, key: replaced(value[key], generator)}
    if isinstance(value, list) and value and generator.random() < 0.85:
        place = generator.randrange(len(value))
        return [*value[:place], replaced(value[place], generator), *value[place + 1 :]]
    return generator.choice(VALUES)


def damaged(content: bytes, is_json: bool, generator: random.Random) -> bytes:
    if is_json and generator.random() < 0.6:
        return json.dumps(replaced(json.loads(content), generator)).encode()
    at = generator.randrange(len(content))
    return content[:at] + generator.choice(TEXTS) + content[at + generator.choice((0, 1, 8, 10**9)) :]


def damaged_trees(tree: Tree, count: int) -> Iterator[Tree]:
    generator = random.Random(1)
    paths = sorted(path for path, content in tree.items() if content and not path.endswith(".png"))
    for _number in range(count):
        path = generator.choice(paths)
        content = re.sub(rb"(QUJD)+", b"QUJD", tree[path] or b"")
        yield {**tree, path: damaged(content, path.endswith(".json"), generator)}


@pytest.mark.parametrize("name", TREES)
def test_damaged_annotations_give_findings(name: str) -> None:
    for tree in damaged_trees(TREES[name], 60):
        report = Report()
        try:
            layout = read_layout(source_of(tree), report)
        except DatasetError:
            continue
        assert not {"train", "val", "images", "annotations"} & set(layout.classes)
        # Either the given split is kept or the report has an error: no image changes its split.
        for image in layout.images:
            assert image.kind in (None, "train" if re.search(r"p[1-4]\.png", image.file.path) else "val")
        usual = {*CLASSES, *CATEGORIES}
        assert report.has_errors or len(set(layout.classes) - usual) <= 1
