"""Archives with the names and structure that operating systems create."""

import io
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Mapping
from functools import partial

from tests.datasets.cases.kit import Case, Ready, Tree, class_folders, photo

UTF8_FLAG = 0x800


def zip_of_raw_names(entries: Mapping[bytes, bytes], flag: int = 0) -> bytes:
    """A zip with these bytes as names. `flag` 0 does not declare their encoding."""
    body, directory = io.BytesIO(), io.BytesIO()
    for name, content in entries.items():
        sizes = struct.pack("<IIIH", zlib.crc32(content), len(content), len(content), len(name))
        common = struct.pack("<HHHHH", 20, flag, 0, 0, 0x5A21) + sizes
        tail = struct.pack("<HHHHII", 0, 0, 0, 0, 0, body.tell())
        directory.write(b"PK\1\2" + struct.pack("<H", 20) + common + tail + name)
        body.write(b"PK\3\4" + common + struct.pack("<H", 0) + name + content)
    parts = body.getvalue(), directory.getvalue()
    count = len(entries)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, len(parts[1]), len(parts[0]), 0)
    return b"".join(parts) + end


def zipped(tree: Tree) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in tree.items():
            archive.writestr(path, content or b"")
    return buffer.getvalue()


def in_encoding(encoding: str, *paths: str) -> Tree:
    """`upload.zip` with four images per path; {} is replaced by their number."""
    names = [path.format(number) for path in paths for number in range(4)]
    return {"upload.zip": zip_of_raw_names({name.encode(encoding): photo(name) for name in names})}


def from_windows() -> Tree:
    entries = {
        f"pets\\{name}\\{name} {i}.png".encode(): photo(f"{name}{i}.png") for name in ("cat", "dog") for i in range(4)
    }
    entries |= {b"pets\\Thumbs.db": b"x", b"pets\\cat\\desktop.ini": b"x"}
    return {"upload.zip": zip_of_raw_names(entries, UTF8_FLAG)}


def from_macos() -> Tree:
    tree: Tree = {}
    for name in ("café", "thé"):
        folder = f"export/data/{unicodedata.normalize('NFD', name)}"
        for number in range(4):
            tree[f"{folder}/p{number}.png"] = photo(f"{name}{number}.png")
            tree[f"__MACOSX/{folder}/._p{number}.png"] = b"\0\5\x16\7"
        tree[f"{folder}/.DS_Store"] = b"x"
    return {"upload.zip": zipped(tree)}


def tar_gz() -> Tree:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, content in class_folders("cat", "dog", prefix="pets/").items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content or b"")
            archive.addfile(entry, io.BytesIO(content or b""))
    return {"pets.tar.gz": buffer.getvalue()}


def ready(*classes: str) -> Ready:
    return Ready("class_folders", "classification", list(classes), 6, 2)


def encoded_case(name: str, encoding: str, first: str, second: str, image: str) -> Case:
    """A case with two class folders, in the sort order of the import."""
    build = partial(in_encoding, encoding, f"{first}/{image}", f"{second}/{image}")
    return Case(name, build, ready(first, second), upload="upload.zip")


CASES = [
    encoded_case("s14_zip_cp850_umlauts", "cp850", "Bären", "Kühe", "p{}.png"),
    encoded_case("s14b_zip_shift_jis", "cp932", "古い", "新しい", "p{}.png"),
    encoded_case("s14e_zip_cp437_ending_umlaut", "cp437", "Café", "Menü", "p{}.png"),
    encoded_case("o_zip_gbk", "gbk", "狗", "猫", "图{}.png"),
    Case("o_zip_windows", from_windows, ready("cat", "dog"), upload="upload.zip"),
    Case("o_zip_macos", from_macos, ready("café", "thé"), upload="upload.zip"),
    Case("o_tar_gz", tar_gz, ready("cat", "dog"), upload="pets.tar.gz"),
    Case(
        "o_zip_in_zip",
        lambda: {"outer.zip": zipped({"data.zip": zipped(class_folders("cat", "dog", suffix="png"))})},
        ready("cat", "dog"),
        upload="outer.zip",
    ),
]
