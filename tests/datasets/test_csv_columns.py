"""Label tables with unusual headers or without a header, and tables without labels."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.sources import Tree, codes, image
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]
NAMES = [f"ab{number}" for number in range(8)]
CLASS = {name: ("boxer", "poodle")[number % 2] for number, name in enumerate(NAMES)}


def table(header: str, row: str, path: str = "labels.csv", **more: str) -> Tree:
    """Images in train/ and a table with `row` for each, with {name} and {label} replaced."""
    tree: Tree = {f"train/{name}.png": image(number) for number, name in enumerate(NAMES)}
    lines = [*([header] if header else []), *(row.format(name=name, label=CLASS[name]) for name in NAMES)]
    return tree | {path: "\n".join(lines).encode()} | {name: text.encode() for name, text in more.items()}


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("id,breed", "{name},{label}"),
        ("Image Name;Species", "{name}.png;{label}"),
        ("name\tanimal", "train/{name}.png\t{label}"),
        ("", "{name}.png,{label}"),
        ("", "{label},C:\\photos\\{name}.png"),
        ("", "{name},{label}"),
        ("uuid,age,category,photo_url", "7,3,{label},https://h.org/{name}.png?x=1"),
        ("key,dx", '"{name}","{label}"'),
        ("name|label", "{name}|{label}"),
        ("Width,Height,Roi.X1,ClassId,Path", "12,10,1,{label},train/{name}.png"),
        ("Image Index,Finding Labels,Follow-up", "{name}.png,{label},0"),
    ],
)
def test_the_columns_are_found_by_their_content(import_tree: ImportTree, header: str, row: str) -> None:
    dataset = import_tree(table(header, row))
    assert (dataset.status, dataset.format, dataset.classes) == ("ready", "csv", ["boxer", "poodle"])
    assert sum(sum(by_class.values()) for by_class in dataset.counts.values()) == len(NAMES)


def test_a_column_of_splits_is_found(import_tree: ImportTree) -> None:
    tree = table("", "{name}.png,{label},train")
    lines = (tree["labels.csv"] or b"").decode().replace("ab6.png,boxer,train", "ab6.png,boxer,valid")
    lines = lines.replace("ab7.png,poodle,train", "ab7.png,poodle,valid")
    dataset = import_tree({**tree, "labels.csv": lines.encode()})
    assert dataset.counts == {"train": {"boxer": 3, "poodle": 3}, "val": {"boxer": 1, "poodle": 1}}


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("image_id,label,is_test", ("0", "1")),
        ("id,species,is_valid", ("False", "True")),
        ("image,label,is_train", ("yes", "no")),
        ("image,label,split", ("train", "dev")),
    ],
)
def test_a_column_marks_held_out_images(import_tree: ImportTree, header: str, values: tuple[str, str]) -> None:
    tree = table(header, "{name},{label},")
    lines = (tree["labels.csv"] or b"").decode().splitlines()
    rows = [f"{line}{values[line.startswith(('ab6', 'ab7'))]}" for line in lines[1:]]
    dataset = import_tree({**tree, "labels.csv": "\n".join([lines[0], *rows]).encode()})
    assert dataset.counts == {"train": {"boxer": 3, "poodle": 3}, "val": {"boxer": 1, "poodle": 1}}


def test_images_of_the_test_folder_are_left_out(import_tree: ImportTree) -> None:
    others: Tree = {f"test/zz{number}.png": image(100 + number) for number in range(4)}
    dataset = import_tree({**table("id,breed", "{name},{label}"), **others})
    assert (dataset.status, dataset.classes) == ("ready", ["boxer", "poodle"])
    assert "not_annotated" in codes(dataset, "warning")


@pytest.mark.parametrize(
    ("header", "row", "path"),
    [
        ("id,age", "{name},0.53", "ages.csv"),
        ("id,label", "{name},boxer", "sample_submission.csv"),
    ],
)
def test_other_tables_are_not_read_as_labels(
    import_tree: ImportTree, data_dir: Path, header: str, row: str, path: str
) -> None:
    dataset = import_tree(table(header, row, path))
    assert dataset.status == "refused"
    assert set(codes(dataset)) <= {"unread_annotations", "not_classes"}
