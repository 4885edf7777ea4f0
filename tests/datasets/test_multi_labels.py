"""Datasets with any number of labels per image: selected classes, splits and fingerprints."""

import json
import os
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from tests.helpers.sources import Tree, codes, image, two_classes, write_tree
from trainingapp.contract.dataset_index import read_index
from trainingapp.datasets.importing.class_selection import select_classes
from trainingapp.datasets.importing.importer import run_import
from trainingapp.datasets.importing.layout_checks import check_layout
from trainingapp.datasets.importing.splits import stratified
from trainingapp.datasets.options import ClassChoice, ImportOptions
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.formats.registry import read_layout
from trainingapp.datasets.sources.layout import Layout, SourceImage
from trainingapp.datasets.sources.offers import Offer
from trainingapp.datasets.sources.opening import open_source
from trainingapp.datasets.sources.source import SourceFile
from trainingapp.models import Dataset

CLASSES = ["cat", "dog", "owl"]


def no_content() -> IO[bytes]:
    raise AssertionError("the content of an image is not read here")


def layout(*labels: tuple[int, ...]) -> Layout:
    """A layout with one image per label list."""
    images = [
        SourceImage(SourceFile(f"{number}.png", 1, no_content), f"images/{number}.png", labels=own)
        for number, own in enumerate(labels)
    ]
    return Layout("csv", ["multi_labels"], CLASSES, images)


def test_the_task_is_multi_label_classification() -> None:
    found = layout((0, 1), ())
    assert (found.tasks, found.label_mode) == (["classification"], "multi")


def test_classes_are_merged_and_left_out_for_each_image() -> None:
    choices = [ClassChoice(name="owl", sources=["owl"]), ClassChoice(name="pet", sources=["cat"])]
    selected = select_classes(layout((0, 1), (0, 2), (1,), ()), ImportOptions(classes=choices))
    assert selected.classes == ["owl", "pet"]
    # The image that had only an excluded class is left out; the image without classes is kept.
    assert [(image.file.path, image.labels) for image in selected.images] == [
        ("0.png", (1,)),
        ("1.png", (0, 1)),
        ("3.png", ()),
    ]
    merged = select_classes(layout((0, 1)), ImportOptions(classes=[ClassChoice(name="pet", sources=["cat", "dog"])]))
    assert [image.labels for image in merged.images] == [(0,)]


def test_a_class_without_images_is_a_warning() -> None:
    report = Report()
    check_layout(layout((0,), (0, 1), (1,)), ImportOptions(split="stratified"), report)
    assert [(item["level"], item["code"], item["file"]) for item in report.items()] == [
        ("warning", "empty_class", "owl")
    ]


def test_one_class_is_refused() -> None:
    report = Report()
    choice = ImportOptions(classes=[ClassChoice(name="pet", sources=["cat"])])
    check_layout(select_classes(layout((0, 1), (0,)), choice), choice, report)
    assert [item["code"] for item in report.items() if item["level"] == "error"] == ["too_few_classes"]


def test_rare_labels_are_in_both_splits() -> None:
    """200 images: label 0 in all, 1 in half of them, 2 in ten, 3 in two."""
    labels = [
        frozenset([0, *([1] if number % 2 else []), *([2] if number < 10 else []), *([3] if number < 2 else [])])
        for number in range(200)
    ]
    splits = stratified([f"{number:064}" for number in range(200)], labels, 3, 0.2, pool_rare=True)
    in_val = [
        sum(label in own for own, split in zip(labels, splits, strict=True) if split == "val") for label in range(4)
    ]
    assert in_val[3] == 1
    assert 2 <= in_val[2] <= 3
    assert in_val[1] == pytest.approx(20, abs=2)
    assert in_val[0] == pytest.approx(40, abs=2)


# Sources


def imported(
    new_dataset: Callable[..., Dataset], folder: Path, tree: Tree, label_mode: str = "auto", **options: object
) -> Dataset:
    dataset = new_dataset(write_tree(folder, tree))
    dataset.options = {"reading": {"label_mode": label_mode}, **options}
    dataset.save()
    run_import(dataset)
    return dataset


def read(folder: Path, tree: Tree) -> tuple[Offer, Report]:
    """The open choices about labels and the findings from reading the source."""
    report = Report()
    with open_source(write_tree(folder, tree)) as source:
        offers = {offer.field: offer for offer in read_layout(source, report).offers}
    return offers["label_mode"], report


def labels_by_name(dataset: Dataset) -> dict[str, tuple[str, ...] | None]:
    """The label names of each image by file name; None for an image of a single-label dataset."""
    assert dataset.status == Dataset.Status.READY, dataset.report
    index = read_index(dataset.folder)
    assert index.label_mode == dataset.label_mode
    return {
        Path(one.path).stem: None if one.labels is None else tuple(dataset.classes[label] for label in one.labels)
        for one in index.samples
    }


def pictures(*names: str) -> dict[str, bytes | None]:
    return {f"{name}.png": image(zlib.crc32(name.encode())) for name in names}


NAMES = tuple(f"p{number}" for number in range(8))


def table(header: str, *cells: str, delimiter: str = ",") -> bytes:
    """A CSV file with one line per entry of NAMES."""
    lines = [f"{name}.png{delimiter}{cell}" for name, cell in zip(NAMES, cells, strict=True)]
    return "\n".join([header, *lines]).encode()


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("file,label", ["cat", "dog", "cat|dog", "", "cat|dog", "dog", "cat", "dog"]),
        ("file,label", ["cat", "dog", "cat; dog", "", "cat;dog", "dog", "cat", "dog"]),
        ("file,label", ["cat", "dog", '"cat, dog"', "", '"dog,cat"', "dog", "cat", "dog"]),
        ("file,tags", ["cat", "dog", "cat dog", "", "dog cat", "dog", "cat", "dog"]),
    ],
)
def test_lists_in_a_table(new_dataset: Callable[..., Dataset], tmp_path: Path, header: str, cells: list[str]) -> None:
    dataset = imported(new_dataset, tmp_path / "s", {**pictures(*NAMES), "labels.csv": table(header, *cells)})
    found = labels_by_name(dataset)
    assert (found["p0"], found["p2"], found["p3"], found["p4"]) == (("cat",), ("cat", "dog"), (), ("cat", "dog"))
    assert (dataset.classes, dataset.tasks, dataset.label_mode) == (["cat", "dog"], ["classification"], "multi")
    assert {row["name"]: sum(row["images"].values()) for row in dataset.statistics["classes"]} == {"cat": 4, "dog": 5}
    assert "labels_per_image" in dataset.statistics["histograms"]
    assert len(dataset.fingerprint) == 64


def test_names_with_spaces_and_commas_are_not_lists(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    names = ['"Felis catus, domestic"', "golden retriever", "labrador retriever", "poodle"] * 2
    for number, header in enumerate(("file,label", "file,labels")):
        tree = {**pictures(*NAMES), "labels.csv": table(header, *names)}
        if header == "file,labels":  # a comma in a column with a plural name separates labels
            tree["labels.csv"] = table(header, *(["poodle", "golden retriever", "labrador retriever", "pug"] * 2))
        dataset = imported(new_dataset, tmp_path / str(number), tree)
        assert set(labels_by_name(dataset).values()) == {None}
        assert len(dataset.classes) == 4


def test_ambiguous_lists_give_a_warning_and_a_choice(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    tree = {**pictures(*NAMES), "labels.csv": table("file,label", *(["cat", "dog", "cat dog", "dog"] * 2))}
    offer, report = read(tmp_path / "a", tree)
    assert [item["code"] for item in report.items()] == ["several_labels"]
    assert (offer.used, offer.choices) == ("single", ("single", "multi"))
    dataset = imported(new_dataset, tmp_path / "b", tree, "multi")
    assert (dataset.classes, labels_by_name(dataset)["p2"]) == (["cat", "dog"], ("cat", "dog"))


def test_two_rows_of_an_image_are_refused_until_several_labels_are_chosen(
    new_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    content = table("file,label", *(["cat", "dog"] * 4)) + b"\np0.png,owl\np1.png,owl\n"
    tree = {**pictures(*NAMES), "labels.csv": content}
    refused = imported(new_dataset, tmp_path / "a", tree)
    assert refused.status == Dataset.Status.REFUSED
    [first, _second] = [item for item in refused.report if item["code"] == "several_labels"]
    assert "labels.csv line 10: p0.png has the class owl here and cat at labels.csv line 2" in first["message"]
    dataset = imported(new_dataset, tmp_path / "b", tree, "multi")
    assert labels_by_name(dataset)["p0"] == ("cat", "owl")


def one_hot(*rows: str) -> bytes:
    lines = [f"{name}.png, {row}" for name, row in zip(NAMES, rows, strict=False)]
    return "\n".join(["filename, cat, dog, owl", *lines]).encode()


def test_one_hot_columns_as_roboflow_writes_them(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    tree = {
        **{f"train/{path}": content for path, content in pictures(*NAMES[:5]).items()},
        **{f"valid/{path}": content for path, content in pictures(*NAMES[5:]).items()},
        "train/_classes.csv": one_hot("1, 0, 0", "0, 1, 0", "1, 1, 0", "0, 0, 0", "0, 0, 1"),
        "valid/_classes.csv": b"filename, cat, dog, owl\np5.png, 1, 1, 1\np6.png, 0, 1, 0\np7.png, 0, 0, 0\n",
    }
    dataset = imported(new_dataset, tmp_path / "s", tree)
    assert dataset.format == "one_hot"
    assert dataset.images == {"train": 5, "val": 3}
    found = labels_by_name(dataset)
    assert (found["p2"], found["p3"], found["p5"]) == (("cat", "dog"), (), ("cat", "dog", "owl"))


def test_one_hot_columns_with_one_class_each_are_one_label(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    tree = {**pictures(*NAMES), "labels.csv": one_hot(*(["1, 0, 0", "0, 1, 0", "0, 0, 1", "1, 0, 0"] * 2))}
    dataset = imported(new_dataset, tmp_path / "a", tree)
    assert (dataset.label_mode, dataset.classes) == ("single", ["cat", "dog", "owl"])
    assert imported(new_dataset, tmp_path / "b", tree, "multi").label_mode == "multi"
    other = {**tree, "labels.csv": one_hot(*(["1, 1, 0", "0, 1, 0", "0, 0, 1", "1, 0, 0"] * 2))}
    assert "several_labels" in codes(imported(new_dataset, tmp_path / "c", other, "single"))


def test_cells_that_are_not_zero_or_one_are_reported(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    rows = [f"{name}.png, 1, 0, 0" for name in (f"n{number}" for number in range(30))]
    content = "\n".join(["filename, cat, dog, owl", *rows, "n30.png, 1, 2, 0"]).encode()
    tree = {**pictures(*(f"n{number}" for number in range(31))), "labels.csv": content}
    refused = imported(new_dataset, tmp_path / "s", tree)
    [item] = [item for item in refused.report if item["code"] == "bad_annotation"]
    assert "labels.csv line 32: must be 0 or 1, not '2'" in item["message"]


def coco(categories: list[list[int]], **annotation: object) -> bytes:
    """COCO with one annotation per category of each entry of NAMES."""
    pairs = [(image_id, category) for image_id, own in enumerate(categories) for category in own]
    return json.dumps(
        {
            "images": [{"id": number, "file_name": f"{name}.png"} for number, name in enumerate(NAMES)],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            "annotations": [
                {"id": number, "image_id": image_id, "category_id": category, **annotation}
                for number, (image_id, category) in enumerate(pairs)
            ],
        }
    ).encode()


def test_coco_without_boxes_are_labels_of_images(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    several = coco([[1], [2], [1, 2], [], [2, 1], [1], [2], [1]], segmentation=[], bbox=[])
    dataset = imported(new_dataset, tmp_path / "a", {**pictures(*NAMES), "a.json": several})
    found = labels_by_name(dataset)
    assert (found["p0"], found["p2"], found["p3"]) == (("cat",), ("cat", "dog"), ())
    assert dataset.format == "coco"
    one_each = coco([[1], [2], [1], [], [2], [1], [2], [1]])
    single = imported(new_dataset, tmp_path / "b", {**pictures(*NAMES), "a.json": one_each})
    assert (single.label_mode, sum(single.images.values())) == ("single", 7)
    assert "not_annotated" in codes(single, "warning")


def test_annotations_without_boxes_are_faults_if_one_has_a_box(
    new_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    content = json.loads(coco([[1], [2], [1], [1], [2], [1], [2], [1]]))
    content["annotations"][0]["bbox"] = [0, 0, 5, 5]
    refused = imported(new_dataset, tmp_path / "s", {**pictures(*NAMES), "a.json": json.dumps(content).encode()})
    assert refused.status == Dataset.Status.REFUSED
    assert codes(refused) == ["bad_annotation"] * 7


def test_the_same_file_in_several_class_folders(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    both = {f"p{number}.png": image(number) for number in range(3)}
    tree = {
        **{f"{name}/{path}": content for name in ("cat", "dog") for path, content in both.items()},
        **{f"cat/{path}": content for path, content in pictures("a", "b", "c").items()},
        **{f"dog/{path}": content for path, content in pictures("d", "e", "f").items()},
    }
    dataset = imported(new_dataset, tmp_path / "a", tree)
    assert (dataset.label_mode, sum(dataset.images.values())) == ("single", 12)
    assert codes(dataset, "warning").count("duplicate_label") == 3
    offer, _report = read(tmp_path / "b", tree)
    assert (offer.used, offer.choices) == ("single", ("single", "multi"))
    assert str(offer.reason) == "3 files are in the folders of several classes, such as p0.png."
    several = imported(new_dataset, tmp_path / "c", tree, "multi")
    found = labels_by_name(several)
    assert len(found) == sum(several.images.values()) == 9
    assert (found["p0"], found["a"], found["d"]) == (("cat", "dog"), ("cat",), ("dog",))


def test_links_in_several_class_folders(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "s", two_classes())
    for number in range(3):
        os.link(folder / f"cat/{number}.png", folder / f"dog/linked{number}.png")
    (folder / "cat/link.png").symlink_to(folder / "dog/4.png")
    dataset = new_dataset(folder)
    dataset.options = {"reading": {"label_mode": "multi"}}
    dataset.save()
    run_import(dataset)
    assert (dataset.status, dataset.label_mode) == (Dataset.Status.READY, "multi")
    assert sorted(Counter(one.labels for one in read_index(dataset.folder).samples).items()) == [
        ((0,), 2),
        ((0, 1), 4),
        ((1,), 4),
    ]


def test_the_fingerprint_depends_on_the_labels(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    cells = ["cat", "dog", "cat|dog", "", "cat|dog", "dog", "cat", "dog"]
    prints = set()
    for number, changed in enumerate((cells, cells, [*cells[:3], "dog", *cells[4:]])):
        tree = {**pictures(*NAMES), "labels.csv": table("file,label", *changed)}
        prints.add(imported(new_dataset, tmp_path / str(number), tree, split="stratified").fingerprint)
    assert len(prints) == 2
