"""Datasets whose images have several labels each, or none: selected classes, splits and fingerprints."""

from typing import IO

import pytest

from trainingapp.datasets.importing.class_selection import select_classes
from trainingapp.datasets.importing.layout_checks import check_layout
from trainingapp.datasets.importing.splits import stratified
from trainingapp.datasets.options import ClassChoice, ImportOptions
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.layout import Layout, SourceImage
from trainingapp.datasets.sources.source import SourceFile

CLASSES = ["cat", "dog", "owl"]


def no_content() -> IO[bytes]:
    raise AssertionError("the content of an image is not read here")


def layout(*labels: tuple[int, ...]) -> Layout:
    """A layout with an image of each of these label lists."""
    images = [
        SourceImage(SourceFile(f"{number}.png", 1, no_content), f"images/{number}.png", labels=own)
        for number, own in enumerate(labels)
    ]
    return Layout("csv", ["multi_labels"], CLASSES, images)


def test_the_task_is_classification_with_several_labels() -> None:
    found = layout((0, 1), ())
    assert (found.tasks, found.label_mode) == (["classification"], "multi")


def test_classes_are_merged_and_left_out_for_each_image() -> None:
    choices = [ClassChoice(name="owl", sources=["owl"]), ClassChoice(name="pet", sources=["cat"])]
    selected = select_classes(layout((0, 1), (0, 2), (1,), ()), ImportOptions(classes=choices))
    assert selected.classes == ["owl", "pet"]
    # The image with only a class that is left out is left out; the one that had no class stays.
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
    """200 images: label 0 in all, 1 in a half, 2 in ten, 3 in two of them."""
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
