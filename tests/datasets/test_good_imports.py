"""All variants of class folders become a dataset that the trainer can read."""

import hashlib
import io
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.sources import Tree, codes, files_under, image, two_classes, write_tree, write_zip
from trainingapp.contract.dataset_index import read_index
from trainingapp.datasets.importing.importer import check_upload, run_import
from trainingapp.datasets.importing.splits import choose_val
from trainingapp.datasets.sources.files import natural_key
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]
ImportZip = Callable[[Tree | bytes], Dataset]


def with_splits(train: str = "train", val: str = "val") -> dict[str, bytes | None]:
    return {**two_classes(each=4, prefix=f"{train}/"), **two_classes(each=2, prefix=f"{val}/")}


def digests(dataset: Dataset) -> set[str]:
    samples = read_index(dataset.folder).samples
    return {hashlib.sha256((dataset.folder / sample.path).read_bytes()).hexdigest() for sample in samples}


def test_folder_with_splits(import_tree: ImportTree) -> None:
    tree = with_splits()
    dataset = import_tree(tree)
    assert (dataset.status, dataset.report) == ("ready", [])
    assert dataset.classes == ["cat", "dog"]
    assert dataset.counts == {"train": {"cat": 4, "dog": 4}, "val": {"cat": 2, "dog": 2}}
    index = read_index(dataset.folder)
    assert (index.classes, index.fingerprint) == (dataset.classes, dataset.fingerprint)
    assert [sample.path for sample in index.split("val")][:2] == ["images/val/cat/0.png", "images/val/cat/1.png"]
    assert {(sample.width, sample.height) for sample in index.samples} == {(12, 10)}
    assert digests(dataset) == {hashlib.sha256(content or b"").hexdigest() for content in tree.values()}
    assert dataset.size_bytes == sum(path.stat().st_size for path in dataset.folder.rglob("*") if path.is_file())


def test_zip_equals_folder(import_tree: ImportTree, import_zip: ImportZip, data_dir: Path) -> None:
    from_folder, from_zip = import_tree(with_splits()), import_zip(with_splits())
    assert from_folder.fingerprint == from_zip.fingerprint
    assert len(from_folder.fingerprint) == 64
    assert not any((data_dir / "uploads").iterdir())
    assert sorted(path.name for path in (data_dir / "datasets").iterdir()) == [str(from_folder.pk), str(from_zip.pk)]


def test_fingerprint_changes_with_a_class(import_tree: ImportTree) -> None:
    tree = with_splits()
    moved = {**tree, "train/dog/9.png": tree["train/cat/3.png"]}
    del moved["train/cat/3.png"]
    assert import_tree(tree).fingerprint != import_tree(moved).fingerprint


def test_a_split_is_chosen_if_there_is_none(import_tree: ImportTree, import_zip: ImportZip) -> None:
    dataset = import_tree(two_classes(each=10))
    assert dataset.counts == {"train": {"cat": 8, "dog": 8}, "val": {"cat": 2, "dog": 2}}
    assert import_zip(two_classes(each=10)).fingerprint == dataset.fingerprint


def test_chosen_split_does_not_depend_on_names(import_tree: ImportTree) -> None:
    tree = two_classes(each=10)
    renamed = {path.replace(".png", "-x.png"): content for path, content in reversed(tree.items())}
    assert import_tree(tree).fingerprint == import_tree(renamed).fingerprint


def test_chosen_split_keeps_identical_images_together() -> None:
    for seed in range(50):
        chosen = choose_val([(index, str(index // 2)) for index in range(20)], seed)
        assert len(chosen) == 4
        assert {index // 2 for index in chosen}.isdisjoint({index // 2 for index in set(range(20)) - chosen})


def test_class_with_one_image_has_none_for_validation(import_tree: ImportTree) -> None:
    dataset = import_tree({**two_classes(), "bird/1.png": image(1)})
    assert dataset.counts["val"] == {"bird": 0, "cat": 1, "dog": 1}
    assert codes(dataset, "warning") == ["class_without_val"]


@pytest.mark.parametrize(("train", "val"), [("training", "valid"), ("Train", "Validation")])
def test_other_names_of_splits(import_tree: ImportTree, train: str, val: str) -> None:
    dataset = import_tree(with_splits(train, val))
    assert (dataset.count("train"), dataset.count("val")) == (8, 4)


def test_train_alone_gets_a_val_split(import_tree: ImportTree) -> None:
    dataset = import_tree(two_classes(each=10, prefix="train/"))
    assert (dataset.count("train"), dataset.count("val")) == (16, 4)
    assert codes(dataset, "warning") == ["val_set_aside"]


def test_test_split_is_used_for_validation(import_tree: ImportTree) -> None:
    dataset = import_tree(with_splits(val="test"))
    assert (dataset.count("val"), codes(dataset, "warning")) == (4, ["test_as_val"])


def test_test_split_next_to_val_is_left_out(import_tree: ImportTree) -> None:
    dataset = import_tree({**with_splits(), "test/cat/1.png": image(1)})
    assert (dataset.count("val"), codes(dataset, "warning")) == (4, ["test_left_out"])


def test_class_named_train(import_tree: ImportTree) -> None:
    tree = {f"{name}/{number}.png": image(number + 100 * len(name)) for name in ("bus", "train") for number in (1, 2)}
    assert import_tree(tree).classes == ["bus", "train"]


def test_wrapper_folders_are_stripped(import_zip: ImportZip) -> None:
    tree = {f"my data/v2/{path}": content for path, content in with_splits().items()}
    dataset = import_zip({**tree, "README.txt": b"mine", "__MACOSX/my data/._v2": b"", "my data/.DS_Store": b""})
    assert dataset.classes == ["cat", "dog"]
    assert codes(dataset, "warning") == []


def test_natural_order_of_classes() -> None:
    names = ["class 10", "class 2", "Class 1", "äpfel", "2", "10", "zoo"]
    assert sorted(names, key=natural_key) == ["2", "10", "Class 1", "class 2", "class 10", "zoo", "äpfel"]


def test_names_in_any_script_and_case(import_zip: ImportZip) -> None:
    tree = {"猫/图片 1.PNG": image(1), "猫/2.JPeG": image(2, format_="JPEG")}
    dataset = import_zip({**tree, "Perro ñ/a.PNG": image(3), "Perro ñ/b.TIFF": image(4, format_="TIFF")})
    assert dataset.classes == ["Perro ñ", "猫"]
    assert "images/猫/图片 1.PNG" in [sample.path for sample in read_index(dataset.folder).samples]


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_names_of_zips_without_a_declared_encoding(import_zip: ImportZip, encoding: str) -> None:
    """Windows and older programs write raw bytes without the UTF-8 flag."""
    raw = "猫咪".encode(encoding)
    stand_in = "#" * len(raw)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in two_classes(each=2).items():
            archive.writestr(path.replace("cat", stand_in), content or b"")
    assert import_zip(buffer.getvalue().replace(stand_in.encode(), raw)).classes == ["dog", "猫咪"]


def test_composed_and_decomposed_names_are_one_class(import_tree: ImportTree) -> None:
    composed, decomposed = "café", unicodedata.normalize("NFD", "café")
    tree = {f"train/{composed}/1.png": image(1), f"val/{decomposed}/1.png": image(2)}
    assert import_tree({**with_splits(), **tree}).classes == ["café", "cat", "dog"]


def test_backslashes_of_windows(import_zip: ImportZip) -> None:
    tree = {path.replace("/", "\\"): content for path, content in with_splits().items()}
    assert import_zip(tree).counts["train"] == {"cat": 4, "dog": 4}


def test_folders_within_classes(import_tree: ImportTree) -> None:
    dataset = import_tree({**two_classes(), "cat/more/1.png": image(1), "cat/more/2.png": image(2)})
    assert dataset.counts["train"]["cat"] + dataset.counts["val"]["cat"] == 7


def test_link_within_the_folder_is_followed(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", {**two_classes(), "pool.txt": b""})
    (source / "cat" / "link.png").symlink_to(source / "dog" / "0.png")
    dataset = new_dataset(source)
    run_import(dataset)
    assert dataset.status == "ready"
    assert not any(path.is_symlink() for path in dataset.folder.rglob("*"))


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "MPO"])
def test_every_format_is_read(import_tree: ImportTree, format_: str) -> None:
    ending = "jpg" if format_ == "MPO" else format_.lower()
    dataset = import_tree({**two_classes(), f"cat/x.{ending}": image(1, (30, 20), format_)})
    assert (dataset.status, codes(dataset, "warning")) == ("ready", [])


def test_notable_image_properties_are_reported(import_tree: ImportTree) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, animated, deep = io.BytesIO(), io.BytesIO(), io.BytesIO()
    Image.new("RGB", (20, 10)).save(turned, "JPEG", exif=exif)
    Image.new("L", (20, 20)).save(animated, "GIF", save_all=True, append_images=[Image.new("L", (20, 20), 200)])
    Image.new("I;16", (20, 20), 5000).save(deep, "PNG")
    tree = {"cat/turned.jpg": turned.getvalue(), "cat/moves.gif": animated.getvalue(), "cat/deep.png": deep.getvalue()}
    dataset = import_tree({**two_classes(), **tree, "dog/tiny.png": image(1, (3, 30)), "dog/notes.txt": b"x"})
    expected = ["animated", "constant", "deep", "exif_orientation", "ignored_file", "tiny"]
    assert sorted(codes(dataset, "warning")) == expected
    sizes = {sample.path: (sample.width, sample.height) for sample in read_index(dataset.folder).samples}
    assert sizes["images/cat/turned.jpg"] == (10, 20)


def test_identical_images_are_reported(import_tree: ImportTree) -> None:
    tree = {**with_splits(), "train/cat/again.png": image(1), "train/cat/first.png": image(1)}
    tree |= {"val/cat/leak.png": image(1), "train/dog/wrong.png": image(1)}
    dataset = import_tree(tree)
    assert sorted(codes(dataset, "warning")) == ["duplicate", "duplicate_label", "leak"]
    leak = next(item for item in dataset.report if item["code"] == "leak")
    assert leak["file"] == "val/cat/leak.png"


def test_a_zip_on_the_server_is_not_moved(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    path = write_zip(tmp_path / "mine.zip", with_splits())
    check_upload(path)
    dataset = new_dataset(path)
    run_import(dataset)
    assert (dataset.status, path.exists()) == ("ready", True)


def test_progress_is_reported(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    run_import(
        new_dataset(write_tree(tmp_path / "source", with_splits())), on_progress=lambda *done: reported.append(done)
    )
    assert [one for one in reported if one != (0, 0)] == [(number, 12) for number in range(1, 13)]


def test_repeating_a_finished_import_changes_nothing(import_zip: ImportZip, data_dir: Path) -> None:
    dataset = import_zip(with_splits())
    before = files_under(data_dir)
    run_import(dataset)
    assert (dataset.status, files_under(data_dir)) == ("ready", before)


def test_dataset_deleted_during_its_import(new_dataset: Callable[..., Dataset], data_dir: Path) -> None:
    upload = write_zip(data_dir / "uploads" / "upload.zip", with_splits())
    dataset = new_dataset(upload, upload=True)
    run_import(dataset, on_progress=lambda done, total: Dataset.objects.filter(pk=dataset.pk).delete() and None)
    assert files_under(data_dir) == []
    assert not Dataset.objects.filter(pk=dataset.pk).exists()
