"""How a source was read: the origin of its splits, its open choices, and the files that were not read."""

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.helpers import annotated
from tests.helpers.sources import Tree, image, two_classes, write_tree, write_zip
from trainingapp.datasets import uploads, verbs
from trainingapp.datasets.importing.importer import run_import
from trainingapp.datasets.importing.inspection import propose, run_inspection
from trainingapp.datasets.options import ClassChoice, ImportOptions, ReadingOptions
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources.formats.registry import read_layout
from trainingapp.datasets.sources.layout import Layout
from trainingapp.models import Dataset
from trainingapp.models.verbs import VerbError
from trainingapp.presentation.messages import rendered_data

ImportTree = Callable[[Tree], Dataset]
ORIGINS = {
    "coco": "The splits come from the names of the folders: train, val.",
    "yolo": "The splits come from data.yaml.",
    "voc": "The splits come from the lists of images ImageSets/Main/train.txt, ImageSets/Main/val.txt.",
    "masks": "The splits come from the names of the folders: train, val.",
    "csv": "The splits come from the column split of labels.csv.",
    "scenes": "The splits come from the names of the folders: train, val.",
}
#: Options as version 0.1 stored them.
OLD_OPTIONS = {"classes": [], "split": "given", "val_share": 0.2, "seed": 0, "on_error": "stop"}


def read(tree: Tree, report: Report | None = None, **reading: object) -> Layout:
    source = annotated.source_of(dict(tree))
    return read_layout(source, report or Report(), reading=ReadingOptions.model_validate(reading))


def splits(layout: Layout) -> Counter[str]:
    return Counter(str(image.kind) for image in layout.images)


def two_formats() -> annotated.Tree:
    """Boxes as COCO, and different classes of the same images in a CSV file."""
    return annotated.coco_tree() | {"labels.csv": annotated.csv_tree()["labels.csv"]}


# Splits


@pytest.mark.parametrize("name", ORIGINS)
def test_the_origin_of_the_splits_is_named(name: str) -> None:
    assert str(read(annotated.TREES[name]()).split_origin) == ORIGINS[name]


def test_annotation_files_for_each_split() -> None:
    tree = annotated.coco_tree()
    moved: Tree = {}
    for split in ("train", "val"):
        moved[f"annotations/instances_{split}.json"] = tree.pop(f"{split}/_annotations.coco.json")
    origin = str(read({**tree, **moved}).split_origin)
    assert origin == (
        "The splits come from the names of the annotation files: "
        "annotations/instances_train.json, annotations/instances_val.json."
    )


def test_a_source_without_splits() -> None:
    layout = read(two_classes())
    assert str(layout.split_origin) == "The source has no splits; the validation images are drawn."
    assert {offer.field for offer in layout.offers} & {"format", "splits"} == set()


def test_a_single_split_is_kept() -> None:
    tree = {path.replace("train/", "val/"): content for path, content in annotated.csv_tree(with_split=False).items()}
    tree = {path.replace("images/", "val/"): content for path, content in tree.items()}
    layout = read(tree)
    assert splits(layout) == {"val": len(layout.images)}
    assert str(layout.split_origin) == "The splits come from the names of the folders: val."
    assert splits(read(tree, splits="none")) == {"None": len(layout.images)}


def test_conflicting_lists_and_folders_are_a_choice() -> None:
    swapped = b"train: images/val\nval: images/train\nnames: [cat, dog, owl]\n"
    tree = annotated.yolo_tree() | {"data.yaml": swapped}
    given, folders, none = (read(tree, splits=splits) for splits in ("auto", "folders", "none"))
    (offer,) = [offer for offer in given.offers if offer.field == "splits"]
    assert (offer.used, offer.choices) == ("lists", ("lists", "folders", "none"))
    assert splits(given) == {"train": splits(folders)["val"], "val": splits(folders)["train"]}
    assert splits(none) == {"None": len(annotated.IMAGES)}
    assert str(folders.split_origin) == "The splits come from the names of the folders: train, val."
    assert str(none.split_origin).startswith("The splits of the source are ignored, as selected")


# Format


def test_the_format_is_a_choice_if_two_are_recognized() -> None:
    layout = read(two_formats())
    (offer,) = [offer for offer in layout.offers if offer.field == "format"]
    assert layout.format == offer.used == "coco"
    assert offer.choices[:2] == ("coco", "csv")
    assert read(two_formats(), format="csv").format == "csv"


def test_a_format_that_does_not_exist() -> None:
    with pytest.raises(DatasetError, match=r"There is no format cocoa\. The formats are: .*coco, yolo"):
        read(two_formats(), format="cocoa")


# Files that were not read


def test_files_that_were_not_read_are_named_with_the_reason() -> None:
    report = Report()
    extra: Tree = {f"notes/{number}.mat": b"x" for number in range(5)} | {"README.md": b"Birds", "photo.psd": b"8BPS"}
    layout = read(two_formats() | extra, report)
    found = {group.suffix: (group.count, group.first, str(group.reason)) for group in layout.unread}
    assert found[".csv"] == (1, ("labels.csv",), "they look like CSV list, and another format was read")
    assert found[".mat"][:2] == (5, ("notes/0.mat", "notes/1.mat", "notes/2.mat"))
    assert found[".psd"][2] == "this image format is not supported"
    assert found[".md"][2] == "documents are not read"
    assert ".json" not in found
    texts = [item["message"] for item in report.items() if item["code"] == "ignored_file"]
    assert (
        "5 files ending in .mat were not read: videos, archives and arrays are not read "
        "(notes/0.mat, notes/1.mat, notes/2.mat and 2 more)."
    ) in texts
    assert not any(".md" in text for text in texts)


@pytest.mark.parametrize("name", annotated.TREES)
def test_files_read_by_a_format_are_not_listed_as_unread(name: str) -> None:
    assert read(annotated.TREES[name]()).unread == ()


# What is stored


def test_the_dataset_stores_how_it_was_read(import_tree: ImportTree) -> None:
    dataset = import_tree(annotated.yolo_tree())
    assert dataset.reading["format"] == "yolo"
    assert rendered_data(dataset.reading["split_origin"]) == ORIGINS["yolo"]
    assert [offer["field"] for offer in dataset.reading["offers"]] == ["format", "splits"]


def test_chosen_splits_are_reported_as_chosen(import_tree: ImportTree) -> None:
    dataset = import_tree(two_classes())
    text = "20% of each class were drawn for validation, with the seed 0."
    assert rendered_data(dataset.reading["split_origin"]) == text


def test_options_of_older_versions_are_readable() -> None:
    assert ImportOptions.model_validate(OLD_OPTIONS).reading == ReadingOptions()
    assert ImportOptions.model_validate({}).reading.format == "auto"


# Reading again


def inspected(tree: Tree, owner: User, folder: Path, *, upload: bool = False, **fields: object) -> Dataset:
    source = write_zip(folder / "upload.zip", tree) if upload else write_tree(folder / "source", tree)
    dataset = Dataset.objects.create(
        name=folder.name, owner=owner, source=str(source), source_is_upload=upload, status="inspecting", **fields
    )
    run_inspection(dataset)
    return dataset


def test_another_format_is_read_and_imported(user: User, tmp_path: Path) -> None:
    dataset = inspected(two_formats(), user, tmp_path)
    assert (dataset.status, dataset.format) == ("proposed", "coco")
    verbs.read_again(dataset, ImportOptions(reading=ReadingOptions(format="csv")), by="ada")
    assert dataset.status == "inspecting"
    run_inspection(dataset)
    assert (dataset.status, dataset.format, dataset.tasks) == ("proposed", "csv", ["classification"])
    verbs.confirm_import(dataset, ImportOptions())
    run_import(dataset)
    assert (dataset.status, dataset.format) == ("ready", "csv")
    assert dataset.options["reading"]["format"] == "csv"


def test_entries_for_classes_that_still_exist_are_kept(user: User, tmp_path: Path) -> None:
    tree = two_formats() | {"extra.png": image(7), "more.png": image(8), "more2.png": image(9)}
    tree["labels.csv"] = (tree["labels.csv"] or b"") + b"extra.png,emu,train\nmore.png,emu,val\n"
    dataset = inspected(tree, user, tmp_path)
    assert [row["name"] for row in dataset.proposal["classes"]] == ["cat", "dog", "owl"]
    entered = [ClassChoice(name="hound", sources=["dog"]), ClassChoice(name="cat", sources=["cat"])]  # without owl
    verbs.read_again(dataset, ImportOptions(classes=entered, reading=ReadingOptions(format="csv")))
    run_inspection(dataset)
    assert "emu" in [row["name"] for row in dataset.proposal["classes"]]
    kept = [(choice["name"], choice["sources"]) for choice in dataset.options["classes"]]
    assert kept == [("hound", ["dog"]), ("cat", ["cat"]), ("emu", ["emu"])]


def test_a_refused_source_can_be_read_as_class_folders(user: User, tmp_path: Path) -> None:
    tree = two_classes() | {"tags.json": b'{"cat/0.png": {"sharp": 1}, "cat/1.png": {}, "dog/0.png": {}}'}
    dataset = inspected(tree, user, tmp_path)
    assert [item["code"] for item in dataset.report] == ["unread_annotations"]
    (offer,) = dataset.reading["offers"]
    assert (offer["field"], offer["used"], offer["choices"]) == ("format", "", ["class_folders"])
    verbs.read_again(dataset, ImportOptions(reading=ReadingOptions(format="class_folders")))
    run_inspection(dataset)
    assert dataset.status == "proposed"
    assert [item["file"] for item in dataset.proposal["report"]] == ["tags.json"]


def test_an_upload_is_kept_while_it_can_be_read_in_another_way(user: User, data_dir: Path) -> None:
    tree = two_classes() | {"tags.json": b'{"cat/0.png": {"sharp": 1}, "cat/1.png": {}, "dog/0.png": {}}'}
    dataset = inspected(tree, user, data_dir / "uploads", upload=True)
    assert dataset.status == "refused"
    assert Path(dataset.source).exists()
    verbs.delete_dataset(dataset)
    assert list((data_dir / "uploads").iterdir()) == []


def test_an_upload_without_a_choice_is_removed(user: User, data_dir: Path) -> None:
    dataset = inspected({"cat/1.png": image(1)}, user, data_dir / "uploads", upload=True)
    assert (dataset.status, dataset.can_be_read_again) == ("refused", False)
    assert not Path(dataset.source).exists()


def test_the_upload_of_a_refused_dataset_is_kept_for_a_week(user: User, data_dir: Path) -> None:
    tree = two_classes() | {"tags.json": b'{"cat/0.png": {"sharp": 1}, "cat/1.png": {}, "dog/0.png": {}}'}
    dataset = inspected(tree, user, data_dir / "uploads", upload=True)
    other = data_dir / "elsewhere.zip"
    other.write_bytes(b"")
    Dataset.objects.create(name="other", owner=user, source=str(other), source_is_upload=True, status="refused")
    uploads.remove_old()
    assert dataset.can_be_read_again
    old_s = time.time() - uploads.REFUSED_KEPT_S - 60
    for path in (Path(dataset.source), other):
        os.utime(path, (old_s, old_s))
    Dataset.objects.filter(pk=dataset.pk).update(status="proposed")
    uploads.remove_old()
    assert Path(dataset.source).exists(), "it waits for confirmation"
    Dataset.objects.filter(pk=dataset.pk).update(status="refused")
    uploads.remove_old()
    assert (dataset.can_be_read_again, other.exists()) == (False, True)


def test_a_dataset_that_was_imported_is_not_read_again(import_tree: ImportTree) -> None:
    dataset = import_tree(annotated.yolo_tree())
    with pytest.raises(VerbError, match="cannot be read again"):
        verbs.read_again(dataset, ImportOptions())
    dataset.refresh_from_db()
    assert dataset.status == "ready"


def test_a_source_that_no_longer_exists_is_not_read_again(user: User, tmp_path: Path) -> None:
    dataset = inspected(two_formats(), user, tmp_path)
    (tmp_path / "source").rename(tmp_path / "elsewhere")
    with pytest.raises(VerbError, match="cannot be read again"):
        verbs.read_again(dataset, ImportOptions())


# Command


@pytest.mark.django_db(transaction=True)  # the import runs in a thread with its own connection
def test_the_command_shows_and_accepts_the_choices(
    user: User, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_tree(tmp_path / "source", two_formats())
    call_command("import_dataset", source, inspect=True)
    shown = capsys.readouterr().out
    assert "The splits come from the names of the folders: train, val." in shown
    assert "--format: coco was used; also possible: csv" in shown
    call_command("import_dataset", source, name="list", owner=user.username, format="csv", splits="none")
    dataset = Dataset.objects.get(name="list")
    assert (dataset.format, dataset.options["reading"]["splits"]) == ("csv", "none")
    assert rendered_data(dataset.reading["split_origin"]).startswith("20% of each class were drawn")


@pytest.mark.parametrize(("option", "value"), [("bands", "1,2"), ("bands", "a,b,c"), ("splits", "sometimes")])
def test_the_command_refuses_invalid_choices(user: User, tmp_path: Path, option: str, value: str) -> None:
    source = write_tree(tmp_path / "source", two_formats())
    with pytest.raises(CommandError, match=option):
        call_command("import_dataset", str(source), "--name", "list", f"--{option}", value)
    assert not Dataset.objects.exists()


def test_a_proposal_names_the_files_of_a_finding(tmp_path: Path) -> None:
    tree = annotated.coco_tree() | {f"train/more{number}.png": image(number) for number in range(5)}
    report = propose(write_tree(tmp_path / "source", tree))["report"]
    (item,) = [item for item in report if item["code"] == "not_annotated"]
    assert (item["count"], item["files"]) == (5, [f"train/more{number}.png" for number in range(3)])
