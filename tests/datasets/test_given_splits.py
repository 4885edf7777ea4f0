"""A split given by the source is kept, or the import is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import annotated
from tests.helpers.annotated import IMAGES, Tree, expected_boxes, imported_boxes
from tests.helpers.sources import assert_refused, codes, image, two_classes, write_tree
from trainingapp.datasets.importing.importer import run_import
from trainingapp.datasets.importing.inspection import run_inspection
from trainingapp.datasets.options import ImportOptions, ReadingOptions
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.formats.registry import read_layout
from trainingapp.datasets.verbs import read_again
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]
SPLITS = {item.stem: item.split for item in IMAGES}


def flat_yolo(**files: str) -> Tree:
    """The dataset in images/ and labels/ without split folders, and these files; __ in a name means a slash."""
    tree: Tree = {"classes.txt": b"cat\ndog\nowl\n"}
    for item in IMAGES:
        tree[f"images/{item.stem}.png"] = item.content()
        tree[f"labels/{item.stem}.txt"] = annotated.yolo_lines(item).encode()
    return tree | {path.replace("__", "/").replace("_DOT_", "."): text.encode() for path, text in files.items()}


def lines(form: str, split: str) -> str:
    return "".join(form.format(stem) + "\n" for stem, own in SPLITS.items() if own == split)


def splits_of(dataset: Dataset) -> dict[str, str]:
    return {stem: split for stem, (split, _boxes) in imported_boxes(dataset).items()}


@pytest.mark.parametrize(
    "form",
    ["images/{}.png", "data/obj/{}.png", "D:\\sets\\mine\\images\\{}.png\r", "/home/me/set/{}.png", "./{}.png", "{}"],
)
@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("train", "valid"), ("Train_List", "validation")])
def test_lists_without_a_data_yaml(import_tree: ImportTree, form: str, train: str, val: str) -> None:
    files = {f"{train}_DOT_txt": lines(form, "train"), f"{val}_DOT_txt": lines(form, "val")}
    dataset = import_tree(flat_yolo(**files))
    assert (dataset.status, dataset.report) == ("ready", [])
    assert imported_boxes(dataset) == expected_boxes()


def test_darknets_obj_data(import_tree: ImportTree) -> None:
    tree: Tree = {"data/obj.data": b"classes = 3\ntrain = data/a.txt\nvalid=data/b.txt\nnames = data/obj.names\n"}
    tree["data/obj.names"] = b"cat\ndog\nowl\n"
    for item in IMAGES:
        tree[f"data/obj/{item.stem}.png"] = item.content()
        tree[f"data/obj/{item.stem}.txt"] = annotated.yolo_lines(item).encode()
    tree["data/a.txt"] = lines("data/obj/{}.png", "train").encode()
    tree["data/b.txt"] = lines("data/obj/{}.png", "val").encode()
    dataset = import_tree(tree)
    assert (dataset.classes, imported_boxes(dataset)) == (["cat", "dog", "owl"], expected_boxes())


def custom_yolo(about: str, *, places: dict[str, str]) -> Tree:
    tree: Tree = {"data.yaml": f"{about}names: [cat, dog, owl]\n".encode()}
    for item in IMAGES:
        tree[f"images/{places[item.split]}/{item.stem}.png"] = item.content()
        tree[f"labels/{places[item.split]}/{item.stem}.txt"] = annotated.yolo_lines(item).encode()
    return tree


@pytest.mark.parametrize(
    "about",
    [
        "train: images/monday\nval: images/friday\n",
        "path: /home/me/sets/pets\ntrain: images/monday\nval: images/friday\n",
        "train: D:\\sets\\pets\\images\\monday\nval: D:\\sets\\pets\\images\\friday\n",
        "train: [../images/monday]\nvalid: ../images/friday/\n",
        "train: images/monday/*.png\nval: images/friday/*.png\ntest: images/sunday\n",
    ],
)
def test_folders_named_in_data_yaml(import_tree: ImportTree, about: str) -> None:
    dataset = import_tree(custom_yolo(about, places={"train": "monday", "val": "friday"}))
    assert (dataset.status, dataset.report) == ("ready", [])
    assert imported_boxes(dataset) == expected_boxes()


def test_folders_of_the_source_replace_those_of_another_machine(import_tree: ImportTree) -> None:
    tree = custom_yolo("train: /data/a\nval: /data/b\n", places={"train": "train", "val": "valid"})
    assert splits_of(import_tree(tree)) == SPLITS


@pytest.mark.parametrize(
    "about",
    [
        "train: images/monday\nval: images/sunday\n",
        "train: /a/train/images\nval: /a/valid/images\n",
        "train: monday.txt\nval: friday.txt\n",
    ],
)
def test_a_split_that_cannot_be_found_refuses_the_import(import_tree: ImportTree, data_dir: Path, about: str) -> None:
    tree = custom_yolo(about, places={"train": "monday", "val": "friday"})
    assert_refused(import_tree(tree), data_dir, "split_not_found", "data.yaml names", "as the val split")


@pytest.mark.parametrize(
    "about", ["train: /a/b\n", "train: /a/b\nval: /a/b\n", "train:\nval:\n", "train: /a\ntest: /b\n"]
)
def test_a_split_is_chosen_if_the_entries_define_none(import_tree: ImportTree, about: str) -> None:
    dataset = import_tree(custom_yolo(about, places={"train": "all", "val": "all"}))
    assert dataset.status == "ready"
    assert set(splits_of(dataset)) == set(SPLITS)


def test_the_same_folder_for_both_splits_defines_no_split(import_tree: ImportTree) -> None:
    dataset = import_tree(custom_yolo("train: images\nval: images\n", places={"train": "all", "val": "all"}))
    assert dataset.status == "ready"
    assert set(splits_of(dataset)) == set(SPLITS)


def test_an_image_in_both_lists_is_held_out(import_tree: ImportTree) -> None:
    files = {"train_DOT_txt": lines("{}.png", "train") + "p5.png\n", "val_DOT_txt": lines("{}.png", "val")}
    dataset = import_tree(flat_yolo(**files))
    assert splits_of(dataset) == SPLITS
    assert codes(dataset, "warning") == ["leak"]


def test_unlisted_images_are_left_out_and_missing_entries_reported(import_tree: ImportTree) -> None:
    files = {"train_DOT_txt": "p1.png\np2.png\np9.png\n", "val_DOT_txt": lines("{}.png", "val")}
    dataset = import_tree(flat_yolo(**files))
    assert splits_of(dataset) == {stem: split for stem, split in SPLITS.items() if stem in ("p1", "p2", "p5", "p6")}
    text = " ".join(item["message"] for item in dataset.report)
    assert "1 of 3 entries of train.txt is not in the source: p9.png." in text
    assert "2 images in no list of a split were left out, among them images/p3.png, images/p4.png." in text


NAMES = [f"shot 2026-01-0{number} at 16.42.2{number}" for number in range(6)]


def voc_with_spaces(**lists: list[str]) -> Tree:
    tree: Tree = {}
    for number, (name, item) in enumerate(zip(NAMES, IMAGES, strict=True)):
        tree[f"JPEGImages/{name}.png"] = image(number, annotated.SIZE)
        tree[f"Annotations/{name}.xml"] = annotated.voc_xml(item).encode()
    return tree | {
        f"ImageSets/{path.replace('__', '/')}.txt": "\n".join(names).encode() for path, names in lists.items()
    }


def stems(dataset: Dataset, split: str) -> list[str]:
    from trainingapp.contract.dataset_index import read_index

    samples = read_index(dataset.folder).samples
    return sorted(sample.path.rpartition("/")[2][:-4] for sample in samples if sample.split == split)


@pytest.mark.parametrize(
    "lists",
    [
        {"Main__train": NAMES[:4], "Main__val": NAMES[4:]},
        {"Main__train": [f"{name}.png" for name in NAMES[:4]], "Main__val": NAMES[4:], "Main__cat_train": ["x 1"]},
        {"Main__train": [f"{name}  1" for name in NAMES[:4]], "Main__val": [f"{name} -1" for name in NAMES[4:]]},
        {"Main__trainval": NAMES[:4], "Main__test": NAMES[4:]},
        {
            "Main__trainval": [f"{name} 1 2 4" for name in NAMES[:4]],
            "Main__test": [f"{name} 3 1 0" for name in NAMES[4:]],
        },
        {"Main__trainval": NAMES, "Main__train": NAMES[:4], "Main__val": NAMES[4:]},
        {"Main__trainval": NAMES, "Main__val": NAMES[4:]},
        {"Segmentation__train": NAMES[:4], "Segmentation__val": NAMES[4:]},
        {
            "Segmentation__train": NAMES[4:],
            "Segmentation__val": NAMES[:4],
            "Main__train": NAMES[:4],
            "Main__val": NAMES[4:],
        },
    ],
)
def test_image_sets_of_voc(import_tree: ImportTree, lists: dict[str, list[str]]) -> None:
    dataset = import_tree(voc_with_spaces(**lists))
    assert dataset.status == "ready"
    assert (stems(dataset, "train"), stems(dataset, "val")) == (NAMES[:4], NAMES[4:])


def test_image_sets_of_masks(import_tree: ImportTree) -> None:
    tree: Tree = {"ImageSets/Main/train.txt": b"p5\np6\n", "ImageSets/Main/val.txt": b"p1\n"}
    for item in IMAGES:
        tree[f"JPEGImages/{item.stem}.png"] = item.content()
        tree[f"SegmentationClass/{item.stem}.png"] = annotated.mask_tree()[f"{item.split}/masks/{item.stem}.png"]
    tree["ImageSets/Segmentation/train.txt"] = lines("{}", "train").encode()
    tree["ImageSets/Segmentation/val.txt"] = lines("{}", "val").encode()
    dataset = import_tree(tree)
    assert (dataset.format, dataset.status) == ("masks", "ready")
    assert (stems(dataset, "train"), stems(dataset, "val")) == (["p1", "p2", "p3", "p4"], ["p5", "p6"])


def test_lists_beside_class_folders(import_tree: ImportTree) -> None:
    """Layout of Food-101: images/<class>/*.jpg, and meta/train.txt and meta/test.txt without suffixes."""
    tree = {f"food/images/{name}/{name}{n}.png": image(n + len(name)) for name in ("pie", "bread") for n in range(5)}
    for split, numbers in (("train", range(3)), ("test", range(3, 5))):
        entries = [f"{name}/{name}{number}" for name in ("pie", "bread") for number in numbers]
        tree[f"food/meta/{split}.txt"] = "\n".join(entries).encode()
    dataset = import_tree(dict(tree))
    assert dataset.counts == {"train": {"bread": 3, "pie": 3}, "val": {"bread": 2, "pie": 2}}


def test_a_folder_name_with_other_words_is_not_a_split(import_tree: ImportTree) -> None:
    tree: Tree = {"data.yaml": b"names: [cat, dog, owl]\n"}
    for item in IMAGES:
        place = "crash test" if item.split == "train" else "city"
        tree[f"images/{place}/{item.stem}.png"] = item.content()
        tree[f"labels/{place}/{item.stem}.txt"] = annotated.yolo_lines(item).encode()
    layout = read_layout(annotated.source_of(tree), Report())
    assert {image.kind for image in layout.images} == {None}
    assert len(layout.images) == len(IMAGES)


def test_names_of_images_are_found_by_their_last_folders() -> None:
    tree: Tree = {f"images/{folder}/a.png": image(0) for folder in ("one", "two")} | {"images/my photo.png": image(1)}
    files = Files(annotated.source_of(tree))
    found = {
        name: found.path if (found := files.find_image(name)) else None
        for name in (
            "x:\\y\\two\\a.png",
            "a.png",
            "https://h.org/b/my%20photo.png?sig=1",
            "/f/?d=images/one/a.png",
            "?",
        )
    }
    assert list(found.values()) == ["images/two/a.png", None, "images/my photo.png", "images/one/a.png", None]


@pytest.mark.parametrize(("held_out", "kind"), [("val", "val"), ("test_list", "test")])
def test_images_not_listed_as_held_out_are_for_training(import_tree: ImportTree, held_out: str, kind: str) -> None:
    dataset = import_tree(flat_yolo(**{f"{held_out}_DOT_txt": lines("{}.png", "val")}))
    assert (dataset.status, splits_of(dataset)) == ("ready", SPLITS)
    assert codes(dataset, "warning") == (["test_as_val"] if kind == "test" else [])


def test_a_trainval_list_is_used_for_training(import_tree: ImportTree) -> None:
    files = {"train_val_list_DOT_txt": lines("{}", "train"), "test_list_DOT_txt": lines("{}", "val")}
    dataset = import_tree(flat_yolo(**files))
    assert (dataset.status, splits_of(dataset)) == ("ready", SPLITS)


def test_a_list_of_training_image_numbers_is_read(import_tree: ImportTree) -> None:
    """Layout of CUB-200: images.txt has the numbers, train_test_split.txt marks the training images."""
    paths = {number: f"{name}/p{number}.png" for number in range(1, 9) for name in ["cat" if number % 2 else "dog"]}
    tree: Tree = {f"images/{path}": image(number) for number, path in paths.items()}
    tree["images.txt"] = "\n".join(f"{number} {path}" for number, path in paths.items()).encode()
    tree["train_test_split.txt"] = "\n".join(f"{number} {int(number < 7)}" for number in paths).encode()
    dataset = import_tree(tree)
    assert (dataset.status, dataset.classes) == ("ready", ["cat", "dog"])
    assert stems(dataset, "val") == ["p7", "p8"]


# Only held-out images


def without_train_annotations() -> Tree:
    tree = dict(annotated.TREES["coco"]())
    del tree["train/_annotations.coco.json"]
    return tree


HELD_OUT: dict[str, Tree] = {
    "the train JSON is missing": without_train_annotations(),
    "a folder of a larger set": two_classes(prefix="val/"),
    "a test set": two_classes(prefix="test/"),
}


@pytest.mark.parametrize("tree", HELD_OUT.values(), ids=HELD_OUT)
@pytest.mark.parametrize("on_error", ["stop", "leave_out"])
def test_a_source_with_only_held_out_images_is_refused(
    new_dataset: Callable[..., Dataset], data_dir: Path, tmp_path: Path, tree: Tree, on_error: str
) -> None:
    """The source is refused, and imported if the user chooses to draw new splits."""
    dataset = new_dataset(write_tree(tmp_path / "source", tree))
    Dataset.objects.filter(pk=dataset.pk).update(options={"on_error": on_error})
    dataset.refresh_from_db()
    run_import(dataset)
    text = "select that the splits are drawn again"
    assert_refused(dataset, data_dir, "no_train", "No training image was found", text)
    dataset = new_dataset(tmp_path / "source")
    options = {"on_error": "leave_out", "reading": {"splits": "none"}}
    Dataset.objects.filter(pk=dataset.pk).update(options=options)
    dataset.refresh_from_db()
    run_import(dataset)
    assert dataset.status == "ready", dataset.report
    assert dataset.images["train"] > 0


def test_a_source_without_usable_training_images_is_refused(
    new_dataset: Callable[..., Dataset], data_dir: Path, tmp_path: Path
) -> None:
    """All training images are left out, because their labels are damaged."""
    tree = annotated.yolo_tree()
    damaged = {path: b"0 0.5\n" for path in tree if path.startswith("labels/train/")}
    assert damaged
    dataset = new_dataset(write_tree(tmp_path / "source", tree | damaged))
    Dataset.objects.filter(pk=dataset.pk).update(options={"on_error": "leave_out"})
    dataset.refresh_from_db()
    run_import(dataset)
    assert_refused(dataset, data_dir, "no_train", "select that the splits are drawn again")


def test_the_review_offers_new_splits(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = new_dataset(write_tree(tmp_path / "source", without_train_annotations()))
    Dataset.objects.filter(pk=dataset.pk).update(status="inspecting")
    dataset.refresh_from_db()
    run_inspection(dataset)
    assert (dataset.status, "no_train" in codes(dataset)) == ("refused", True)
    offers = {offer["field"]: offer["choices"] for offer in dataset.reading["offers"]}
    assert "none" in offers["splits"]
    assert dataset.can_be_read_again
    read_again(dataset, ImportOptions(reading=ReadingOptions(splits="none")))
    dataset.refresh_from_db()
    run_inspection(dataset)
    assert dataset.status == "proposed", dataset.report
    assert not dataset.proposal["has_splits"]
