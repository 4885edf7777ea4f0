"""Tars, nested archives, links and unusual names: read if harmless, otherwise refused or left out."""

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.annotated import TREES
from tests.helpers.hostile import zipped
from tests.helpers.sources import Tree, assert_refused, codes, files_under, image, two_classes, write_tree
from tests.helpers.tars import entry, tarred
from trainingapp.contract.dataset_index import read_index
from trainingapp.datasets.importing.importer import check_upload, run_import
from trainingapp.datasets.importing.inspection import run_inspection
from trainingapp.datasets.options import ReadingOptions
from trainingapp.datasets.report import DatasetError
from trainingapp.datasets.sources import limits, tars
from trainingapp.datasets.sources.opening import open_source
from trainingapp.models import Dataset

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from pytest_django import Settings

pytestmark = pytest.mark.database

ImportTree = Callable[[Tree], Dataset]
ImportZip = Callable[[Tree | bytes], Dataset]
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda content: content,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def old_zip(names: list[bytes]) -> bytes:
    """A zip of images whose names lack the UTF-8 flag, as written by old programs."""
    body, table = b"", b""
    for number, name in enumerate(names):
        content = image(number)
        sizes = struct.pack("<III", zipfile.crc32(content), len(content), len(content))  # type: ignore[attr-defined]  # imported by zipfile
        head = struct.pack("<4s5H", b"PK\3\4", 20, 0, 0, 0, 0) + sizes + struct.pack("<2H", len(name), 0)
        table += struct.pack("<4s6H", b"PK\1\2", 20, 20, 0, 0, 0, 0) + sizes
        table += struct.pack("<5H2I", len(name), 0, 0, 0, 0, 0, len(body)) + name
        body += head + name + content
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(names), len(names), len(table), len(body), 0)
    return body + table + end


# Tars


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_are_read(import_zip: ImportZip, data_dir: Path, packer: str, form: int) -> None:
    long_name = f"cat/{'a' * 90}/{'b' * 60}.png"
    content = PACKERS[packer](tarred({**two_classes(), long_name: image(5), "cat/Ünï.png": image(6)}, form=form))
    (data_dir / "uploads" / "upload.zip").write_bytes(content)
    check_upload(data_dir / "uploads" / "upload.zip")
    dataset = import_zip(content)
    assert (dataset.status, dataset.classes) == (Dataset.Status.READY, ["cat", "dog"]), dataset.report
    paths = {sample.path for sample in read_index(dataset.folder).samples}
    assert {f"images/{long_name}", "images/cat/Ünï.png"} <= paths
    assert (dataset.folder / "images" / long_name).read_bytes() == image(5)
    assert [path.name for path in data_dir.rglob(".unpacked")] == []


def test_concatenated_xz_streams_are_read(import_zip: ImportZip) -> None:
    content = tarred(two_classes())
    packed = lzma.compress(content[:1000]) + bytes(8) + lzma.compress(content[1000:])
    assert import_zip(packed).status == Dataset.Status.READY


def test_links_in_a_tar(import_zip: ImportZip) -> None:
    links = [
        entry("dog/hard.png", tarfile.LNKTYPE, "cat/0.png"),
        entry("dog/soft.png", tarfile.SYMTYPE, "../cat/1.png"),
    ]
    dataset = import_zip(tarred(two_classes(), *links))
    assert dataset.status == Dataset.Status.READY
    assert (dataset.folder / "images/dog/hard.png").read_bytes() == (dataset.folder / "images/cat/0.png").read_bytes()
    assert (dataset.folder / "images/dog/soft.png").read_bytes() == (dataset.folder / "images/cat/1.png").read_bytes()


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../etc/passwd"),
        (tarfile.LNKTYPE, "nowhere.png"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_links_out_of_a_tar_and_devices_are_faults(
    new_dataset: Callable[..., Dataset], data_dir: Path, tmp_path: Path, kind: bytes, target: str
) -> None:
    path = tmp_path / "set.tar"
    path.write_bytes(tarred(two_classes(), entry("cat/odd.png", kind, target)))
    dataset = new_dataset(path)
    run_import(dataset)
    assert_refused(dataset, data_dir, "link", "cat/odd.png is a link or a device")
    dataset = new_dataset(path)
    Dataset.objects.filter(pk=dataset.pk).update(options={"on_error": "leave_out"})
    dataset.refresh_from_db()
    run_import(dataset)
    assert (dataset.status, codes(dataset, "warning")) == (Dataset.Status.READY, ["link"])


@pytest.mark.parametrize("name", ["../evil.png", "/tmp/evil.png", "cat/../../evil.png"])
def test_names_outside_a_tar_are_refused(import_zip: ImportZip, data_dir: Path, name: str) -> None:
    dataset = import_zip(gzip.compress(tarred({**two_classes(), name: image(1)})))
    assert_refused(dataset, data_dir, "path_traversal", "points outside")
    assert not list(data_dir.parent.rglob("evil*"))


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz"])
def test_a_tar_bomb_is_refused(import_zip: ImportZip, data_dir: Path, packer: str) -> None:
    bomb = PACKERS[packer](tarred({**two_classes(), "cat/bomb.png": bytes(120 * 1024**2)}))
    assert_refused(import_zip(bomb), data_dir, "bomb", "as a zip bomb does")


def test_a_tar_with_too_many_entries_is_refused(
    import_zip: ImportZip, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_ENTRIES", 9)
    assert_refused(import_zip(tarred(two_classes())), data_dir, "bomb", "10 entries")


def test_a_tar_above_the_size_limit_is_refused(import_zip: ImportZip, data_dir: Path, settings: "Settings") -> None:
    settings.MAX_UPLOAD_BYTES = 100
    assert_refused(import_zip(gzip.compress(tarred(two_classes()))), data_dir, "bomb", "at most")


def test_a_header_that_exhausts_memory_is_refused(import_zip: ImportZip, data_dir: Path) -> None:
    long_name = entry("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    long_name.size = 3 * 1024**3
    content = long_name.tobuf(tarfile.GNU_FORMAT) + tarred(two_classes())
    assert_refused(import_zip(content), data_dir, "bomb", "a header of more than 1 MB")


@pytest.mark.parametrize("packer", PACKERS)
def test_a_truncated_tar_is_refused(import_zip: ImportZip, data_dir: Path, packer: str) -> None:
    content = PACKERS[packer](tarred({f"cat/{number}.png": os.urandom(9000) for number in range(9)}))
    dataset = import_zip(content[: len(content) // 2])
    assert dataset.status == Dataset.Status.REFUSED
    assert {"not_a_zip", "damaged_entry"} & set(codes(dataset))
    assert files_under(data_dir) == []


def test_a_disk_without_space_to_unpack_refuses_the_tar(
    import_zip: ImportZip, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DISK_RESERVE_BYTES", 1024**5)
    assert_refused(import_zip(gzip.compress(tarred(two_classes()))), data_dir, "disk_full")


@pytest.mark.parametrize("start", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\x00", b"\x28\xb5\x2f\xfd"])
def test_unsupported_archives_are_named(data_dir: Path, start: bytes) -> None:
    path = data_dir / "uploads" / "upload.zip"
    path.write_bytes(start + bytes(1000))
    with pytest.raises(DatasetError, match=r"(7z|RAR|zstd) archive, which is not supported"):
        check_upload(path)


def test_a_compressed_file_without_a_tar(data_dir: Path) -> None:
    path = data_dir / "uploads" / "upload.zip"
    path.write_bytes(gzip.compress(b"a,b\n" * 1000))
    with pytest.raises(DatasetError, match="compressed with gzip, but there is no tar"):
        check_upload(path)


def test_a_decoder_of_xz_is_bounded(tmp_path: Path) -> None:
    """A small file that declares a dictionary of 1.5 GB is refused."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1536 * 1024**2}]
    path = tmp_path / "big.tar.xz"
    path.write_bytes(lzma.compress(tarred({"cat/1.png": image(1)})[:600], filters=filters))
    with path.open("rb") as file:
        assert tars.first_block(file, "xz") == b""


# Nested archives


def test_a_zip_in_a_zip_is_read(import_zip: ImportZip) -> None:
    dataset = import_zip({"inner.zip": zipped(dict(two_classes()))})
    assert (dataset.status, dataset.classes) == (Dataset.Status.READY, ["cat", "dog"])
    assert {sample.path.split("/")[1] for sample in read_index(dataset.folder).samples} == {"cat", "dog"}


@pytest.mark.parametrize("pack", [zipped, lambda tree: gzip.compress(tarred(tree))])
def test_separate_zips_of_images_and_annotations_are_read(import_zip: ImportZip, pack: Callable[[Tree], bytes]) -> None:
    tree = TREES["coco"]()
    images = {path: content for path, content in tree.items() if path.endswith(".png")}
    others = {path: content for path, content in tree.items() if path not in images}
    ending = "zip" if pack is zipped else "tar.gz"
    dataset = import_zip({f"images.{ending}": pack(images), f"annotations.{ending}": pack(others)})
    assert (dataset.status, dataset.format) == (Dataset.Status.READY, "coco"), dataset.report
    assert sum(dataset.images.values()) == 6


def test_an_archive_beside_images(import_zip: ImportZip, import_tree: ImportTree) -> None:
    """A backup of the dataset is not read again, but an archive of its labels is."""
    dataset = import_zip({**two_classes(), "backup.zip": zipped(dict(two_classes()))})
    assert (dataset.classes, codes(dataset, "warning")) == (["cat", "dog"], ["ignored_file"])
    tree = TREES["coco"]()
    others = {path: content for path, content in tree.items() if not path.endswith(".png")}
    images = {path: content for path, content in tree.items() if path not in others}
    dataset = import_tree({**images, "annotations_2014.zip": zipped(others)})
    assert (dataset.status, dataset.format) == (Dataset.Status.READY, "coco")


def test_archives_are_unpacked_one_level_deep(import_zip: ImportZip, data_dir: Path) -> None:
    dataset = import_zip({"a.zip": zipped({"b.zip": zipped(dict(two_classes()))})})
    assert dataset.status == Dataset.Status.REFUSED
    assert files_under(data_dir) == []


def test_a_damaged_archive_among_others(import_zip: ImportZip) -> None:
    dataset = import_zip({"train.zip": zipped(dict(two_classes())), "val.zip": b"PK\3\4 cut"})
    assert dataset.status == Dataset.Status.REFUSED
    assert "val.zip: The zip is incomplete" in dataset.report[0]["message"]


def test_bombs_in_nested_archives_are_refused(import_zip: ImportZip, data_dir: Path) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/1.png", bytes(120 * 1024**2))
    assert_refused(import_zip({"inner.zip": bomb.getvalue()}), data_dir, "bomb", "as a zip bomb does")


def test_text_compressed_by_two_archives_is_refused(import_zip: ImportZip, data_dir: Path) -> None:
    """The inner archive stores 40 MB of spaces; the outer one compresses them to a few kilobytes."""
    inner = zipped({**two_classes(), "annotations.json": b'{"images": [' + b" " * (40 * 1024**2) + b"]}"})
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.zip", inner)
    with pytest.raises(DatasetError) as found, open_zip_text(outer.getvalue(), data_dir) as _text:
        pass
    assert [item["code"] for item in found.value.items] == ["bomb"]


class open_zip_text:
    """Open the text of annotations.json in the archives."""

    def __init__(self, content: bytes, folder: Path) -> None:
        self.path = folder / "upload.zip"
        self.path.write_bytes(content)
        self.folder = folder

    def __enter__(self) -> str:
        from trainingapp.datasets.sources.files import Files

        with open_source(self.path, scratch=self.folder / "scratch") as source:
            files = Files(source)
            return files.read_text(files.by_path["annotations.json"])

    def __exit__(self, *_details: object) -> None:
        pass


# Names


def test_the_encoding_of_names_can_be_chosen(data_dir: Path) -> None:
    path = data_dir / "uploads" / "upload.zip"
    path.write_bytes(old_zip([f"{name}/1.png".encode("gbk") for name in ("猫", "狗")]))
    with open_source(path) as source:
        assert source.folders == {"猫", "狗"}
        (offer,) = source.offers
        assert (offer.field, offer.used) == ("name_encoding", "gb18030")
        assert {"gb18030", "cp437", "cp932"} <= set(offer.choices)
        assert "猫/1.png" in str(offer.reason)
    with open_source(path, ReadingOptions(name_encoding="cp437")) as source:
        assert source.folders == {"├¿", "╣╖"}


def test_names_declared_as_utf_8_in_an_extra_field_are_decoded(data_dir: Path) -> None:
    path = data_dir / "upload.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("cat", "dog"):
            info = zipfile.ZipInfo(f"{name}/x.png")
            text = f"{name}/猫.png".encode()
            info.extra = struct.pack("<HHBI", 0x7075, 5 + len(text), 1, 0) + text
            archive.writestr(info, image(1))
    with open_source(path) as source:
        assert [file.path for file in source.files] == ["cat/猫.png", "dog/猫.png"]


ODD_NAMES = [
    "Screenshot 2026-01-01 at 3.04.00\u202fPM.png",
    "a\u00a0b.png",
    "写真\u30001.png",
    "👩\u200d🔬.png",
    "\u00ad soft\u200bhyphen.png",
    "\U000f0000private.png",
    "\u0378unassigned.png",
    " leading and trailing .png",
    "quote'\"<b>&amp;.png",
    "per%20cent%.png",
    "semi;colon:$(x)`y`|.png",
    "-dash.png",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_valid_file_name_is_imported(import_zip: ImportZip, import_tree: ImportTree, name: str) -> None:
    tree = {**two_classes(), f"cat/{name}": image(1), f"{name}class/x.png": image(2), f"{name}class/y.png": image(3)}
    for dataset in (import_zip(tree), import_tree(tree), import_zip(gzip.compress(tarred(tree)))):
        assert dataset.status == Dataset.Status.READY, dataset.report
        assert set(codes(dataset, "warning")) <= {"same_content"}
        assert (dataset.folder / "images" / "cat" / name).read_bytes() == image(1)


@pytest.mark.parametrize("name", ["a\nb.png", "a\x1b[31m.png", "a\x7fb.png", "a\x85b.png", "a\u2028b.png"])
def test_a_name_with_control_characters_leaves_out_its_file(
    new_dataset: Callable[..., Dataset], tmp_path: Path, name: str
) -> None:
    dataset = new_dataset(write_tree(tmp_path / "source", {**two_classes(), f"cat/{name}": image(1)}))
    Dataset.objects.filter(pk=dataset.pk).update(options={"on_error": "leave_out"})
    dataset.refresh_from_db()
    run_import(dataset)
    assert (dataset.status, codes(dataset, "warning")) == (Dataset.Status.READY, ["bad_name"])
    assert sum(dataset.images.values()) == 10
    message = dataset.report[0]["message"]
    assert name not in message
    assert message.isprintable()


def test_a_repeated_name_leaves_out_one_file(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    tree = {**two_classes(), "cat/é.png": image(1), "cat/e\u0301.png": image(2)}
    dataset = new_dataset(write_tree(tmp_path / "source", tree))
    run_inspection(dataset)
    Dataset.objects.filter(pk=dataset.pk).update(status="importing", options={"on_error": "leave_out"})
    dataset.refresh_from_db()
    run_import(dataset)
    assert (dataset.status, codes(dataset, "warning")) == (Dataset.Status.READY, ["duplicate_name"])


# Links in folders


def linked(tmp_path: Path) -> Path:
    """A folder whose images are links to another folder, as in caches; one class is a linked folder."""
    store = write_tree(tmp_path / "store", two_classes())
    source = tmp_path / "source"
    (source / "cat").mkdir(parents=True)
    for file in (store / "cat").iterdir():
        (source / "cat" / file.name).symlink_to(file)
    (source / "dog").symlink_to(store / "dog")
    return source


def test_links_are_followed_for_an_administrator(
    new_dataset: Callable[..., Dataset], admin_user: "User", tmp_path: Path, data_dir: Path
) -> None:
    dataset = new_dataset(linked(tmp_path))
    run_import(dataset)
    assert_refused(dataset, data_dir, "link", "cat/0.png is a link", "dog is a link", "ask an administrator")
    dataset = new_dataset(tmp_path / "source")
    dataset.owner = admin_user
    dataset.save()
    run_import(dataset)
    assert (dataset.status, dataset.images) == (Dataset.Status.READY, {"train": 8, "val": 2})


def test_links_are_followed_within_the_import_folders(
    new_dataset: Callable[..., Dataset], settings: "Settings", tmp_path: Path, data_dir: Path
) -> None:
    source = linked(tmp_path)
    settings.IMPORT_DIRS = [source.resolve(), (tmp_path / "store").resolve()]
    dataset = new_dataset(source)
    run_import(dataset)
    assert dataset.status == Dataset.Status.READY
    settings.IMPORT_DIRS = [source.resolve()]
    dataset = new_dataset(source)
    run_import(dataset)
    assert dataset.status == Dataset.Status.REFUSED
    assert "link" in codes(dataset)


def test_circular_links_are_left_out(new_dataset: Callable[..., Dataset], admin_user: "User", tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", two_classes())
    other = write_tree(tmp_path / "other", {"x/1.png": image(1)})
    (source / "up").symlink_to(tmp_path)
    (source / "self").symlink_to("self")
    (source / "cat" / "within").symlink_to(source / "dog")
    (source / "owl").symlink_to(other)
    (other / "back").symlink_to(source)
    (other / "again").symlink_to(other)
    dataset = new_dataset(source)
    dataset.owner = admin_user
    dataset.options = {"on_error": "leave_out"}
    dataset.save()
    run_import(dataset)
    assert dataset.status == Dataset.Status.READY
    left_out = {item["file"] for item in dataset.report if item["code"] == "link"}
    assert left_out == {"up", "self", "cat/within", "owl/back", "owl/again"}


def test_links_to_too_many_files_are_refused(
    new_dataset: Callable[..., Dataset], admin_user: "User", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_ENTRIES", 9)
    dataset = new_dataset(linked(tmp_path))
    dataset.owner = admin_user
    dataset.save()
    run_import(dataset)
    assert (dataset.status, codes(dataset)) == (Dataset.Status.REFUSED, ["link"])
