"""Every unusable source is refused with a clear message and leaves no files."""

import io
import os
import stat
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.helpers.sources import Tree, assert_refused, codes, files_under, image, two_classes, write_tree, write_zip
from trainingapp.datasets.importing.importer import check_upload, run_import
from trainingapp.datasets.report import DatasetError
from trainingapp.datasets.sources import limits
from trainingapp.models import Dataset

pytestmark = pytest.mark.database

if TYPE_CHECKING:
    from pytest_django import Settings

ImportTree = Callable[[Tree], Dataset]
ImportZip = Callable[[Tree | bytes], Dataset]


def test_empty_file_named_zip(import_zip: ImportZip, data_dir: Path) -> None:
    assert_refused(import_zip(b""), data_dir, "not_a_zip", "not a valid zip")


def test_empty_zip(import_zip: ImportZip, data_dir: Path) -> None:
    assert_refused(import_zip({}), data_dir, "empty", "contains no files")


def test_zip_with_only_junk_files(import_zip: ImportZip, data_dir: Path) -> None:
    junk = {"__MACOSX/cat/._1.png": b"x", ".DS_Store": b"x", "cat/Thumbs.db": b"x"}
    assert_refused(import_zip(junk), data_dir, "empty")


def test_text_named_zip(import_zip: ImportZip, data_dir: Path) -> None:
    assert_refused(import_zip(b"hello" * 100), data_dir, "not_a_zip", "not a valid zip")


def test_zip_cut_short(import_zip: ImportZip, data_dir: Path, tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "whole.zip", two_classes()).read_bytes()
    assert_refused(import_zip(whole[:-40]), data_dir, "not_a_zip")


@pytest.mark.parametrize("name", ["../evil.png", "cat/../../evil.png", "/etc/evil.png", "..\\evil.png", "C:\\evil.png"])
def test_path_traversal(import_zip: ImportZip, data_dir: Path, name: str) -> None:
    dataset = import_zip({**two_classes(), name: image(1)})
    assert_refused(dataset, data_dir, "path_traversal", "points outside the dataset")
    assert not list(data_dir.parent.rglob("evil*"))


def test_all_unsafe_entries_are_named(import_zip: ImportZip, data_dir: Path) -> None:
    dataset = import_zip({**two_classes(), "../a.png": b"", "../b.png": b""})
    assert codes(dataset) == ["path_traversal", "path_traversal"]


def test_link_in_zip(import_zip: ImportZip, data_dir: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zip_file:
        entry = zipfile.ZipInfo("cat/link.png")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        zip_file.writestr(entry, "/etc/passwd")
    assert_refused(import_zip(buffer.getvalue()), data_dir, "link", "cat/link.png")


def test_encrypted_zip(import_zip: ImportZip, data_dir: Path, tmp_path: Path) -> None:
    content = bytearray(write_zip(tmp_path / "plain.zip", {"cat/1.png": image(1)}).read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    assert_refused(import_zip(bytes(content)), data_dir, "encrypted", "without a password")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_with_the_same_name(import_zip: ImportZip, data_dir: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zip_file:
        zip_file.writestr("cat/1.png", image(1))
        zip_file.writestr("cat/1.png", image(2))
    assert_refused(
        import_zip(buffer.getvalue()), data_dir, "duplicate_name", "cat/1.png occurs twice", keeps_upload=True
    )


def test_path_that_is_both_file_and_folder(import_zip: ImportZip, data_dir: Path) -> None:
    dataset = import_zip({**two_classes(), "cat/a.png": image(1), "cat/a.png/b.png": image(2)})
    assert_refused(dataset, data_dir, "duplicate_name", "both a file and a folder", keeps_upload=True)


@pytest.mark.parametrize("name", ["cat/a\nb.png", "cat//b.png", "cat/" + "ä" * 200 + ".png"])
def test_names_that_cannot_be_used(import_zip: ImportZip, data_dir: Path, name: str) -> None:
    assert_refused(import_zip({**two_classes(), name: image(1)}), data_dir, "bad_name", keeps_upload=True)


def test_name_with_nul(import_zip: ImportZip, data_dir: Path, tmp_path: Path) -> None:
    content = write_zip(tmp_path / "plain.zip", {**two_classes(), "cat/aXb.png": image(1)}).read_bytes()
    assert_refused(import_zip(content.replace(b"cat/aXb", b"cat/a\0b")), data_dir, "bad_name", keeps_upload=True)


def test_bomb_by_ratio(import_zip: ImportZip, data_dir: Path, tmp_path: Path) -> None:
    bomb = write_zip(tmp_path / "bomb.zip", {"cat/1.png": bytes(80 * 1024**2)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 200_000
    with pytest.raises(DatasetError, match="zip bomb"):
        check_upload(bomb)
    assert_refused(import_zip(bomb.read_bytes()), data_dir, "bomb", "a zip bomb", "Nothing of it was read")


def test_bomb_by_size(import_zip: ImportZip, data_dir: Path, settings: "Settings") -> None:
    settings.MAX_UPLOAD_BYTES = 100
    assert_refused(import_zip(two_classes()), data_dir, "bomb", "at most")


def test_bomb_by_entries(import_zip: ImportZip, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_ENTRIES", 9)
    assert_refused(import_zip(two_classes()), data_dir, "bomb", "10 entries")


@pytest.mark.parametrize("zip64", [False, True])
def test_bomb_by_central_directory(tmp_path: Path, zip64: bool) -> None:
    """A central directory of 3 GB is refused before it is loaded."""
    content = bytearray(write_zip(tmp_path / "zip", two_classes()).read_bytes())
    struct.pack_into("<I", content, len(content) - 22 + 12, 0xFFFFFFFF if zip64 else 3 * 1024**3)
    record = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 3 * 1024**3, 0)
    (tmp_path / "bomb.zip").write_bytes(content[:-22] + (record if zip64 else b"") + content[-22:])
    with pytest.raises(DatasetError, match="central directory is larger"):
        check_upload(tmp_path / "bomb.zip")


def test_bomb_with_a_false_central_directory(import_zip: ImportZip, data_dir: Path, tmp_path: Path) -> None:
    """The central directory declares 1,000 bytes; the data unpacks to 80 MB."""
    name = "cat/bomb.png"
    bomb = write_zip(tmp_path / "bomb.zip", {name: bytes(80 * 1024**2), **two_classes()}, zipfile.ZIP_DEFLATED)
    content = bytearray(bomb.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 24, 1000)
    struct.pack_into("<I", content, 22, 1000)
    dataset = import_zip(bytes(content))
    assert_refused(dataset, data_dir, "damaged_entry", name)


def test_damaged_entry(import_zip: ImportZip, data_dir: Path, tmp_path: Path) -> None:
    content = bytearray(write_zip(tmp_path / "whole.zip", two_classes()).read_bytes())
    content[200] ^= 0xFF
    assert_refused(import_zip(bytes(content)), data_dir, "damaged_entry", "cat/0.png")


def test_text_named_jpg(import_zip: ImportZip, data_dir: Path) -> None:
    dataset = import_zip({**two_classes(), "cat/note.jpg": b"this is no image\n"})
    assert_refused(dataset, data_dir, "not_an_image", "cat/note.jpg is a text file, not an image")


def test_other_file_named_jpg(import_tree: ImportTree, data_dir: Path) -> None:
    dataset = import_tree({**two_classes(), "cat/program.jpg": b"\x7fELF" + bytes(100)})
    assert_refused(dataset, data_dir, "not_an_image", "cat/program.jpg is not an image in a supported format")


def test_empty_image_file(import_tree: ImportTree, data_dir: Path) -> None:
    assert_refused(import_tree({**two_classes(), "cat/nil.png": b""}), data_dir, "not_an_image", "empty (0 bytes)")


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_truncated_image(import_zip: ImportZip, data_dir: Path, format_: str) -> None:
    whole = image(1, (64, 64), format_)
    dataset = import_zip({**two_classes(), f"cat/cut.{format_.lower()}": whole[: len(whole) // 2]})
    assert dataset.status == Dataset.Status.REFUSED
    assert {"truncated", "unreadable", "not_an_image"} & set(codes(dataset))
    assert f"cat/cut.{format_.lower()}" in dataset.report[0]["message"]
    assert files_under(data_dir) == []


def test_png_with_a_flipped_bit(import_tree: ImportTree, data_dir: Path) -> None:
    content = bytearray(image(1, (64, 64)))
    content[len(content) // 2] ^= 1
    assert_refused(import_tree({**two_classes(), "cat/flip.png": bytes(content)}), data_dir, "unreadable", "corrupted")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_image_that_decodes_to_too_many_bytes(import_tree: ImportTree, data_dir: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(buffer, "PNG")
    dataset = import_tree({**two_classes(), "cat/huge.png": buffer.getvalue()})
    assert_refused(dataset, data_dir, "too_many_pixels", "12000 x 12000")


def test_all_bad_images_are_named(import_tree: ImportTree, data_dir: Path) -> None:
    dataset = import_tree({**two_classes(), "cat/a.jpg": b"text", "dog/b.jpg": b"text", "dog/c.png": b""})
    assert_refused(dataset, data_dir, "not_an_image")
    assert [item["file"] for item in dataset.report] == ["cat/a.jpg", "dog/b.jpg", "dog/c.png"]


def test_long_report_is_truncated_with_a_count(import_tree: ImportTree) -> None:
    dataset = import_tree({**two_classes(), **{f"cat/bad{number:03}.jpg": b"text" for number in range(130)}})
    assert len(dataset.report) == 101
    assert (dataset.report[-1]["count"], dataset.report[-1]["message"]) == (30, "… and 30 more of the same kind.")


def test_class_folder_without_image(import_zip: ImportZip, data_dir: Path) -> None:
    dataset = import_zip({**two_classes(), "bird": None, "fish/readme.txt": b"soon"})
    assert_refused(dataset, data_dir, "empty_class", "class bird has no images", "class fish")


def test_one_class(import_tree: ImportTree, data_dir: Path) -> None:
    dataset = import_tree({"cat/1.png": image(1), "cat/2.png": image(2)})
    assert_refused(dataset, data_dir, "too_few_classes", "only one class, cat")


def test_images_without_class_folders(import_zip: ImportZip, data_dir: Path) -> None:
    dataset = import_zip({"1.png": image(1), "2.png": image(2)})
    assert_refused(dataset, data_dir, "too_few_classes", "no class folder")
    assert codes(dataset, "warning") == []


def test_class_without_training_images(import_tree: ImportTree, data_dir: Path) -> None:
    dataset = import_tree({**two_classes(prefix="train/"), "val/bird/1.png": image(1)})
    assert_refused(dataset, data_dir, "class_without_train", "bird")


def test_val_without_train(import_tree: ImportTree, data_dir: Path) -> None:
    assert_refused(import_tree(two_classes(prefix="val/")), data_dir, "no_train")


def test_folders_next_to_splits(import_tree: ImportTree, data_dir: Path) -> None:
    tree = {**two_classes(prefix="train/"), **two_classes(prefix="val/"), "bird/1.png": image(1)}
    assert_refused(import_tree(tree), data_dir, "mixed_layout", "bird")


def test_two_folders_for_one_split(import_tree: ImportTree, data_dir: Path) -> None:
    tree = {**two_classes(prefix="train/"), **two_classes(prefix="val/"), **two_classes(prefix="valid/")}
    assert_refused(import_tree(tree), data_dir, "mixed_layout", "val, valid")


def test_nothing_left_for_validation(import_tree: ImportTree, data_dir: Path) -> None:
    assert_refused(import_tree(two_classes(each=1)), data_dir, "no_val")


def test_link_out_of_a_server_folder(new_dataset: Callable[..., Dataset], data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(image(7))
    source = write_tree(tmp_path / "source", two_classes())
    (source / "cat" / "link.png").symlink_to(tmp_path / "secret.png")
    (source / "bird").symlink_to(tmp_path)
    dataset = new_dataset(source)
    run_import(dataset)
    assert_refused(dataset, data_dir, "link", "cat/link.png is a link", "bird is a link")


def test_pipe_in_a_server_folder(new_dataset: Callable[..., Dataset], data_dir: Path, tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", two_classes())
    os.mkfifo(source / "cat" / "pipe.png")
    dataset = new_dataset(source)
    run_import(dataset)
    assert_refused(dataset, data_dir, "link", "pipe")


def test_names_that_are_not_utf_8(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    """Such names occur when a zip from a Chinese Windows is unpacked on Linux."""
    source = write_tree(tmp_path / "source", two_classes())
    for number, name in enumerate(("猫", "狗")):
        folder = source / os.fsdecode(name.encode("gbk"))
        folder.mkdir()
        (folder / os.fsdecode(f"{name}.png".encode("gbk"))).write_bytes(image(100 + number))
        (folder / "more.png").write_bytes(image(200 + number))
    dataset = new_dataset(source)
    run_import(dataset)
    assert dataset.status == Dataset.Status.READY, dataset.report
    assert sorted(dataset.classes) == ["cat", "dog", "狗", "猫"]


def test_source_that_no_longer_exists(new_dataset: Callable[..., Dataset], data_dir: Path, tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path / "nowhere.zip")
    run_import(dataset)
    assert_refused(dataset, data_dir, "source_missing", "nowhere.zip was not found")


def test_disk_that_is_too_full(import_zip: ImportZip, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DISK_RESERVE_BYTES", 1024**5)
    assert_refused(import_zip(two_classes()), data_dir, "disk_full", "more are required")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_disk_that_fills_up_meanwhile(
    new_dataset: Callable[..., Dataset], settings: "Settings", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uses a real disk of 256 kB and disables the check of free space."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        monkeypatch.setattr(limits, "DISK_RESERVE_BYTES", -(1024**4))
        settings.DATASETS_DIR = disk / "datasets"
        tree = {f"{name}/{number}.bmp": image(number, (100, 100), "BMP") for name in "ab" for number in range(20)}
        dataset = new_dataset(write_tree(tmp_path / "source", tree))
        run_import(dataset)
        assert_refused(dataset, disk, "disk_full", "became full")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
