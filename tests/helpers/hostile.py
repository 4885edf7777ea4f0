"""Hostile sources by name: archives, images and annotation files designed to do harm.

Each is a zip as bytes, or a tree to be zipped, created on demand. All names that would leave the dataset contain
`MARK`, so that an escaped file can be found anywhere.
"""

import bz2
import gzip
import io
import json
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers import annotated
from tests.helpers.sources import image, two_classes
from tests.helpers.tars import entry, tarred
from tests.helpers.tiffs import tiff

MARK = "evil4711"
Tree = dict[str, bytes | None]


@dataclass(frozen=True)
class Hostile:
    """A source by name. A `harmless` one may be imported without a finding, since its unusual part is never used."""

    name: str
    make: Callable[[], Tree | bytes]
    harmless: bool = False


def zipped(tree: Tree, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in tree.items():
            archive.writestr(name if content is not None else f"{name}/", content or b"")
    return buffer.getvalue()


def with_entry(content: bytes = b"x", **about: Any) -> bytes:
    """Two valid classes and an entry with these attributes of ZipInfo."""
    buffer = io.BytesIO(zipped(two_classes()))
    with zipfile.ZipFile(buffer, "a") as archive:
        entry = zipfile.ZipInfo(about.pop("filename", "cat/odd.png"))
        for name, value in about.items():
            setattr(entry, name, value)
        archive.writestr(entry, content)
    return buffer.getvalue()


def patched(content: bytes, *changes: tuple[bytes, int, str, int]) -> bytes:
    """`changes`: (signature of a record, offset in it, struct format, value), in the last record of that kind."""
    data = bytearray(content)
    for signature, offset, form, value in changes:
        struct.pack_into(form, data, data.rindex(signature) + offset, value)
    return bytes(data)


# Archives

UNSAFE_NAMES = {
    "up": f"../{MARK}.png",
    "far up": "../" * 40 + f"tmp/{MARK}.png",
    "up from within": f"cat/../../{MARK}.png",
    "backslashes": f"..\\..\\{MARK}.png",
    "mixed slashes": f"cat\\..\\../{MARK}.png",
    "absolute": f"/tmp/{MARK}.png",
    "absolute twice": f"//tmp/{MARK}.png",
    "drive": f"C:\\{MARK}.png",
    "drive without a slash": f"C:{MARK}.png",
    "network share": f"\\\\server\\{MARK}.png",
    "up at the end": f"cat/{MARK}/..",
    "absolute folder": f"/{MARK}/",
    "full-width dots": f"cat/\ufe52/../../{MARK}.png",
    "empty part": f"cat//{MARK}.png",
    "newline": f"cat/{MARK}\n.png",
    "carriage return": f"cat/{MARK}\r.png",
    "escape code": f"cat/\x1b[2J{MARK}.png",
    "right to left": f"cat/{MARK}\u202egnp.png",
    "zero width": f"cat/{MARK}\u200b.png",
    "byte order mark": f"cat/\ufeff{MARK}.png",
    "line separator": f"cat/{MARK}\u2028.png",
    "too long part": f"cat/{MARK}{'a' * 300}.png",
    "too long in bytes": f"cat/{MARK}{'ä' * 150}.png",
    "too deep": f"{'cat/' * 400}{MARK}.png",
    "65,000 characters": f"cat/{MARK}{'b' * 65_000}.png",
    "bell": f"cat/{MARK}\a.png",
}
MODES = {
    "symbolic link": stat.S_IFLNK | 0o777,
    "character device": stat.S_IFCHR | 0o666,
    "block device": stat.S_IFBLK | 0o666,
    "pipe": stat.S_IFIFO | 0o666,
    "socket": stat.S_IFSOCK | 0o666,
}
LINKS = ["/etc/passwd", "../../../etc/shadow", "/dev/zero", ".", f"/tmp/{MARK}"]


#: Valid file names; messages show their characters as escapes.
HARMLESS_NAMES = {"right to left", "zero width", "byte order mark"}


def archives() -> Iterator[Hostile]:
    for name, path in UNSAFE_NAMES.items():
        tree = {**two_classes(), path: image(1)}
        yield Hostile(f"name: {name}", lambda tree=tree: tree, harmless=name in HARMLESS_NAMES)
    for name, mode in MODES.items():
        yield Hostile(f"entry is a {name}", lambda mode=mode: with_entry(b"/etc/passwd", external_attr=mode << 16))
    for target in LINKS:
        attr = MODES["symbolic link"] << 16
        yield Hostile(
            f"link to {target}", lambda target=target, attr=attr: with_entry(target.encode(), external_attr=attr)
        )
    yield from bombs()
    yield from broken_zips()


def bombs() -> Iterator[Hostile]:
    deflated = zipfile.ZIP_DEFLATED
    yield Hostile("bomb of zeros", lambda: zipped({**two_classes(), "cat/0.png": bytes(80 << 20)}, deflated))
    yield Hostile("bomb in bzip2", lambda: zipped({"cat/b.png": bytes(80 << 20)}, zipfile.ZIP_BZIP2))
    yield Hostile("bomb in lzma", lambda: zipped({"cat/b.png": bytes(80 << 20)}, zipfile.ZIP_LZMA))
    yield Hostile("bomb of many", lambda: zipped({f"cat/{n}.png": bytes(4 << 20) for n in range(20)}, deflated))
    yield Hostile("bomb in a bomb", lambda: {"cat/a.png": zipped({"b": bytes(40 << 20)}, deflated), "dog/b.png": b""})
    yield Hostile("overlapping entries", overlapping)
    yield Hostile("quoted local headers", quoted)
    yield Hostile("more entries than are taken", lambda: many_entries(200_001))
    yield Hostile("table says less", lambda: lying(24, 100))
    yield Hostile("table says nothing", lambda: lying(24, 0))
    yield Hostile("table says more", lambda: lying(24, 1 << 30))
    yield Hostile("table says 4 GB", lambda: lying(24, 0xFFFFFFFE))
    yield Hostile("packed size is a lie", lambda: lying(20, 5))
    yield Hostile("checksum is a lie", lambda: lying(16, 0xDEADBEEF))


def lying(offset: int, value: int) -> bytes:
    """A zip whose central directory is wrong about its last entry, a bomb of 40 MB."""
    content = zipped({**two_classes(), "cat/z.png": bytes(40 << 20)}, zipfile.ZIP_DEFLATED)
    return patched(content, (b"PK\1\2", offset, "<I", value))


def overlapping() -> bytes:
    """A zip with a thousand entries that all unpack the same bytes."""
    content = zipped({"cat/0.png": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    start = content.index(b"PK\1\2")
    end = content.index(b"PK\5\6")
    record = content[start:end]
    table = b"".join(record.replace(b"cat/0.png", f"c{n:03}/0.png".encode()[:9]) for n in range(1000))
    tail = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1000, 1000, len(table), start, 0)
    return content[:start] + table + tail


def quoted() -> bytes:
    """A zip whose compressed entries overlap the headers of the following ones, as in the best-known zip bomb."""
    kernel = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = kernel.compress(bytes(30 << 20)) + kernel.flush()
    body, table, offsets = b"", b"", []
    for number in range(20):
        name = f"cat/{number}.png".encode()
        offsets.append(len(body))
        body += struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 0, 0, len(packed), 30 << 20, len(name), 0) + name
    for number, offset in enumerate(offsets):
        name = f"cat/{number}.png".encode()
        sizes = (0, len(packed), 30 << 20)
        table += struct.pack(
            "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 8, 0, 0, *sizes, len(name), 0, 0, 0, 0, 0, offset
        )
        table += name
    data = body + packed
    return data + table + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 20, 20, len(table), len(data), 0)


def many_entries(count: int) -> bytes:
    """A zip with many entries, all of them only in the central directory; no data is read."""
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 5, 0) + b"c/0.a"
    one = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0)
    table = b"".join(one + f"c/{n:07}".encode() for n in range(count))
    record = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(table), len(local))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(local) + len(table), 1)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(table), len(local), 0)
    return local + table + record + locator + end


def tars() -> Iterator[Hostile]:
    """Plain tars, compressed tars and nested archives."""
    deflated = zipfile.ZIP_DEFLATED
    names = {name: path for name, path in UNSAFE_NAMES.items() if len(path) < 90}
    for name, path in names.items():
        tree = {**two_classes(), path: image(1)}
        yield Hostile(f"tar: name {name}", lambda tree=tree: tarred(tree), harmless=name in HARMLESS_NAMES)
    for name, kind, target in (
        ("link to a password file", tarfile.SYMTYPE, "/etc/passwd"),
        ("hard link out of it", tarfile.LNKTYPE, "../../etc/passwd"),
        ("link to itself", tarfile.SYMTYPE, "odd.png"),
        ("character device", tarfile.CHRTYPE, ""),
        ("block device", tarfile.BLKTYPE, ""),
        ("pipe", tarfile.FIFOTYPE, ""),
        ("unknown kind", b"Q", ""),
    ):
        yield Hostile(
            f"tar: {name}",
            lambda kind=kind, target=target: tarred(two_classes(), entry("cat/odd.png", kind, target)),
            harmless=kind == b"Q",  # POSIX: an unknown kind is a regular file
        )
    bomb = {**two_classes(), "cat/b.png": bytes(150 << 20)}
    yield Hostile("tar: bomb in gzip", lambda: gzip.compress(tarred(bomb)))
    yield Hostile("tar: bomb in xz", lambda: lzma.compress(tarred(bomb), preset=0))
    yield Hostile("tar: bomb in bzip2", lambda: bz2.compress(tarred(bomb)))
    yield Hostile("tar: bomb in a zip", lambda: {"a.tar.gz": gzip.compress(tarred(bomb))})
    yield Hostile("zip: bomb in a zip", lambda: {"a.zip": zipped(bomb, deflated)})
    yield Hostile("zip: stored bomb in a packed zip", lambda: zipped({"a.zip": zipped(bomb)}, deflated))
    yield Hostile("zip: archives without end", lambda: {f"{n}.zip": zipped({"b.zip": b"PK"}) for n in range(300)})
    yield Hostile("tar: name of 3 GB", lambda: long_header(tarfile.GNUTYPE_LONGNAME))
    yield Hostile("tar: attributes of 3 GB", lambda: long_header(tarfile.XHDTYPE))
    yield Hostile("tar: size below zero", lambda: tarred(two_classes()).replace(b"00000000", b"\xff" * 8, 1))
    yield Hostile("tar: headers alone", lambda: tarred({f"cat/{n}.png": b"" for n in range(200_001)}))
    yield Hostile("tar: cut short", lambda: tarred(two_classes())[:3000])
    yield Hostile("tar: text of blanks", lambda: gzip.compress(tarred(annotated.coco_tree() | blanks())))


def blanks() -> Tree:
    return {"train/_annotations.coco.json": b'{"images": [' + b" " * (140 << 20) + b"]}"}


def long_header(kind: bytes) -> bytes:
    header = entry("././@LongLink", kind)
    header.size = 3 << 30
    return header.tobuf(tarfile.GNU_FORMAT) + tarred(two_classes())


def broken_zips() -> Iterator[Hostile]:
    whole = zipped(two_classes())
    end = whole.rindex(b"PK\5\6")
    cases = {
        "empty file": b"",
        "four bytes": b"PK\3\4",
        "end alone": whole[end:],
        "no end": whole[:end],
        "half": whole[: len(whole) // 2],
        "without its first bytes": whole[30:],
        "gzip": b"\x1f\x8b\x08" + bytes(100),
        "tar": b"cat/0.png".ljust(257, b"\0") + b"ustar" + bytes(300),
        "rar": b"Rar!\x1a\x07\x01\x00" + bytes(100),
        "seven zip": b"7z\xbc\xaf\x27\x1c" + bytes(100),
        "html": b"<html><script>alert(1)</script></html>",
        "elf": b"\x7fELF" + bytes(500),
        "nothing but zeros": bytes(5000),
        "table beyond the file": patched(whole, (b"PK\5\6", 16, "<I", 0x7FFFFFFF)),
        "table before the file": patched(whole, (b"PK\5\6", 12, "<I", len(whole) * 3)),
        "count is a lie": patched(whole, (b"PK\5\6", 10, "<H", 3), (b"PK\5\6", 12, "<I", 40)),
        "several disks": patched(whole, (b"PK\5\6", 4, "<H", 7), (b"PK\5\6", 6, "<H", 7), (b"PK\5\6", 16, "<I", 9)),
        "entry beyond the file": patched(whole, (b"PK\1\2", 42, "<I", 0x7FFFFFF0)),
        "entry in the table": patched(whole, (b"PK\1\2", 42, "<I", end - 20)),
        "encrypted": patched(whole, (b"PK\1\2", 8, "<H", 1)),
        "strongly encrypted": patched(whole, (b"PK\1\2", 8, "<H", 0x41)),
        "unknown compression": patched(whole, (b"PK\1\2", 10, "<H", 93)),
        "shrunk": patched(whole, (b"PK\1\2", 10, "<H", 1)),
        "needs version 99": patched(whole, (b"PK\1\2", 6, "<H", 99)),
        "nul in a name": whole.replace(b"dog/4.png", b"dog/\0.png"),
        "name is a lie": whole.replace(b"dog/4.png", b"dog/5.png", 1),
        "deflated says stored": patched(
            zipped(two_classes(), zipfile.ZIP_DEFLATED), (b"PK\1\2", 10, "<H", 0), (b"PK\3\4", 8, "<H", 0)
        ),
        "zip64 of nothing": zip64(0, 0),
        "zip64 of everything": zip64(1 << 60, 1 << 60),
        "zip64 table of 3 GB": zip64(5, 3 << 30),
        "extra field cut short": with_extra(struct.pack("<HH", 1, 200)),
        "extra field says zip64": with_extra(struct.pack("<HHQQ", 1, 16, 1 << 62, 1 << 62)),
        "only junk": zipped({"__MACOSX/a.png": b"x", ".git/config": b"x", "Thumbs.db": b"x"}),
        "only folders": zipped({"cat": None, "dog": None}),
        "no image": zipped({"cat/readme.txt": b"x", "dog/setup.exe": b"MZ"}),
    }
    for name, content in cases.items():
        yield Hostile(f"zip: {name}", lambda content=content: content)
    yield Hostile("zip: one name twice", twice)
    yield Hostile("zip: a file that is a folder", lambda: {**two_classes(), "cat/x.png": b"a", "cat/x.png/y.png": b"b"})
    yield Hostile("zip: a name composed in two ways", lambda: {"cat/é.png": image(1), "cat/e\u0301.png": image(2)})


def zip64(count: int, length: int) -> bytes:
    whole = zipped(two_classes())
    end = whole.rindex(b"PK\5\6")
    record = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    tail = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return whole[:end] + record + locator + tail


def with_extra(extra: bytes) -> bytes:
    """A zip whose last entry has its sizes in this extra field."""
    whole = bytearray(zipped({**two_classes(), "z/z.png": image(9)}))
    start, end = whole.rindex(b"PK\1\2"), whole.rindex(b"PK\5\6")
    struct.pack_into("<II", whole, start + 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<H", whole, start + 30, len(extra))
    length = struct.unpack_from("<I", whole, end + 12)[0]
    struct.pack_into("<I", whole, end + 12, length + len(extra))
    return bytes(whole[:end]) + extra + bytes(whole[end:])


def twice() -> bytes:
    import warnings

    buffer = io.BytesIO(zipped(two_classes()))
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("cat/0.png", image(5))
    return buffer.getvalue()


# Images


def png(width: int, height: int, colour: int = 2, depth: int = 8, data: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG with this header and any data."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def flat_png(width: int, height: int, colour: int = 2) -> bytes:
    """A valid PNG of one color, written row by row: small to upload, large to decode."""
    row = b"\0" + bytes(width * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour])
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _row in range(height)) + packer.flush()
    palette = chunk(b"PLTE", bytes(range(255, 255 - 6, -1))) if colour == 3 else b""
    return png(width, height, colour, data=data, extra=palette)


def saved(mode: str, size: tuple[int, int], format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, format_, **options)
    return buffer.getvalue()


def jpeg_of(width: int, height: int, **options: Any) -> bytes:
    """A small JPEG whose header declares another size."""
    data = bytearray(saved("RGB", (16, 16), "JPEG", **options))
    marker = b"\xff\xc2" if options.get("progressive") else b"\xff\xc0"
    struct.pack_into(">HH", data, data.index(marker) + 5, height, width)
    return bytes(data)


def gif_of(width: int, height: int) -> bytes:
    data = bytearray(saved("P", (8, 8), "GIF"))
    struct.pack_into("<HH", data, 6, width, height)
    return bytes(data)


def tiff_of(**tags: int) -> bytes:
    """A TIFF with one strip and these values in its directory."""
    wanted = {"width": (256, 8), "height": (257, 8), "bits": (258, 8), "compression": (259, 1), "photometric": (262, 1)}
    wanted |= {"offset": (273, 200), "samples": (277, 1), "rows": (278, 8), "count": (279, 64)}
    entries = [(tag, tags.get(name, value)) for name, (tag, value) in wanted.items()]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries))
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + table
    return (head + struct.pack("<I", tags.get("next", 0))).ljust(200, b"\0") + bytes(64)


def images() -> Iterator[Hostile]:
    for name, make in {**texts(), **headers(), **broken_images(), **large()}.items():
        yield Hostile(f"image: {name}", lambda make=make: bad_image(make()), harmless=name in HARMLESS_IMAGES)


def bad_image(content: bytes) -> Tree:
    """Valid classes, and the bad image under a name that may not match its content."""
    return {**two_classes(), "cat/bad.png": content}


def texts() -> dict[str, Callable[[], bytes]]:
    contents = {
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "svg with an entity": b'<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        "html": b"<!doctype html><script>alert(1)</script>",
        "php": b"<?php system($_GET[0]); ?>",
        "shell script": b"#!/bin/sh\nrm -rf /\n",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(r) run\n",
        "pdf": b"%PDF-1.7\n1 0 obj<</JS(app.alert(1))>>endobj\n",
        "imagemagick script": b'push graphic-context\nfill "url(https://127.0.0.1/x|touch /tmp/evil4711)"\n',
        "zip": zipped({"a": b"b"}),
        "pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",
        "icon": b"\0\0\1\0\1\0" + bytes(60),
        "psd": b"8BPS\0\1" + bytes(40),
        "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
        "avif": b"\0\0\0\x1cftypavif" + bytes(40),
        "farbfeld": b"farbfeld" + bytes(8) + bytes(16),
        "wmf": b"\xd7\xcd\xc6\x9a" + bytes(40),
        "fits": b"SIMPLE  =                    T".ljust(2880),
        "empty": b"",
        "one byte": b"\xff",
        "zeros": bytes(3000),
    }
    return {name: lambda content=content: content for name, content in contents.items()}


def headers() -> dict[str, Callable[[], bytes]]:
    """Small files that declare a large size."""
    most = 0x7FFFFFFF
    return {
        "png of 2^31 pixels": lambda: png(most, most),
        "png of 100,000 squared": lambda: png(100_000, 100_000, data=zlib.compress(b"")),
        "png of no width": lambda: png(0, 10),
        "png of no height": lambda: png(10, 0),
        "png of unknown colour": lambda: png(10, 10, colour=5),
        "png of depth 64": lambda: png(10, 10, depth=64),
        "png without data": lambda: png(900, 900),
        "png with data of another": lambda: png(900, 900, data=zlib.compress(b"hello")),
        "png with a bomb in its text": lambda: png(
            4,
            4,
            0,
            data=zlib.compress(b"\0\1\2\3\4" * 4),
            extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(90 << 20))),
        ),
        "png with a bomb of a profile": lambda: png(
            4,
            4,
            0,
            data=zlib.compress(b"\0\1\2\3\4" * 4),
            extra=chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(90 << 20))),
        ),
        "png with a chunk of 2 GB": lambda: png(4, 4, extra=struct.pack(">I", most) + b"tEXt" + b"x"),
        "jpeg of 65,535 squared": lambda: jpeg_of(65_500, 65_500),
        "progressive jpeg of 65,535 squared": lambda: jpeg_of(65_500, 65_500, progressive=True),
        "jpeg of 9,000 squared": lambda: jpeg_of(9_000, 9_000),
        "progressive jpeg of 9,000 squared": lambda: jpeg_of(9_000, 9_000, progressive=True),
        "jpeg of no width": lambda: jpeg_of(0, 10),
        "gif of 65,535 squared": lambda: gif_of(65_535, 65_535),
        "tiff of 2^31 pixels": lambda: tiff_of(width=most, height=most),
        "tiff of 60,000 squared": lambda: tiff_of(width=60_000, height=60_000),
        "tiff of 2^30 bits": lambda: tiff_of(bits=1 << 30),
        "tiff of 2^30 samples": lambda: tiff_of(samples=1 << 30),
        "tiff beyond its end": lambda: tiff_of(offset=1 << 30),
        "tiff of strange compression": lambda: tiff_of(compression=34_925),
        "tiff that leads to itself": lambda: tiff_of(next=8, compression=7),
        "bmp of 2^31 pixels": lambda: (
            b"BM" + struct.pack("<IHHIIiiHHI", 60, 0, 0, 54, 40, most, most, 1, 24, 0).ljust(60)
        ),
        "webp of 16,383 squared": lambda: b"RIFF\x16\0\0\0WEBPVP8L\x0a\0\0\0\x2f\xff\xff\xff\x0f" + bytes(6),
    }


def broken_images() -> dict[str, Callable[[], bytes]]:
    found: dict[str, Callable[[], bytes]] = {}
    for format_ in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"):
        whole = image(3, (64, 64), format_)
        found[f"{format_} cut in half"] = lambda whole=whole: whole[: len(whole) // 2]
        found[f"{format_} without its end"] = lambda whole=whole: whole[:-30]
        found[f"{format_} head alone"] = lambda whole=whole: whole[:30]
    sound = image(4, (64, 64))
    found["png with a wrong checksum"] = lambda: sound[:200] + bytes([sound[200] ^ 1]) + sound[201:]
    found["png and zip at once"] = lambda: sound + zipped({f"../{MARK}": b"x"})
    found["jpeg and script at once"] = lambda: image(4, (64, 64), "JPEG") + b"<script>alert(1)</script>"
    found["gif and script at once"] = lambda: b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)"
    found["gif of two thousand frames"] = many_frames
    return found


def many_frames() -> bytes:
    frames = [Image.new("P", (200, 200), number % 255) for number in range(2000)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], optimize=False)
    return buffer.getvalue()


def large() -> dict[str, Callable[[], bytes]]:
    """Valid files of one color with a few kilobytes that unpack to hundreds of megabytes."""
    return {
        "rgb png of 9,400 squared": lambda: flat_png(9_400, 9_400),
        "rgba png of 9,400 squared": lambda: flat_png(9_400, 9_400, 6),
        "palette png of 9,400 squared": lambda: flat_png(9_400, 9_400, 3),
        "grey png of 9,400 squared": lambda: flat_png(9_400, 9_400, 0),
        "png of 12,000 squared": lambda: saved("1", (12_000, 12_000), "PNG"),
        "png of a line": lambda: flat_png(1_000_000, 80, 0),
        "webp of 9,400 squared": lambda: saved("RGB", (9_400, 9_400), "WEBP", lossless=True, method=0, quality=0),
        "progressive jpeg of 9,400": lambda: saved("RGB", (9_400, 9_400), "JPEG", progressive=True, subsampling=0),
        "jpeg of 9,400 squared": lambda: saved("RGB", (9_400, 9_400), "JPEG"),
        "gif of 9,400 squared": lambda: saved("P", (9_400, 9_400), "GIF"),
        "tiff of 9,400 squared": lambda: saved("RGB", (9_400, 9_400), "TIFF", compression="tiff_adobe_deflate"),
        "float tiff of 9,400 squared": lambda: saved("F", (9_400, 9_400), "TIFF", compression="tiff_adobe_deflate"),
        "float tiff of 5,000 pixels": lambda: saved("F", (5_000, 5_000), "TIFF", compression="tiff_adobe_deflate"),
        "integer tiff of 7,000 pixels": lambda: saved("I", (7_000, 7_000), "TIFF", compression="tiff_adobe_deflate"),
        "deep png of 9,200 pixels": lambda: saved("I;16", (9_200, 9_200), "PNG"),
        "deep png of 7,200 pixels": lambda: saved("I;16", (7_200, 7_200), "PNG"),
        "tiff of deep colours, 3,700 pixels": lambda: tiff(np.zeros((3_700, 3_700, 3), "u2"), packed=True, predictor=2),
        "tiff of deep colours, 6,000 pixels": lambda: tiff(
            np.zeros((6_000, 6_000, 3), "u2"), packed=True, extra={262: 2}
        ),
        "tiff of 300 bands, many": lambda: tiff(np.zeros((700, 700, 300), "u1"), packed=True),
        "pgm of deep greys, 3,600 pixels": lambda: b"P5 3600 3600 65535\n" + bytes(2 * 3_600 * 3_600),
    }


#: Valid but unusual: a script after an image is harmless, since uploaded images are never served unchanged.
HARMLESS_IMAGES = {
    "png and zip at once",
    "jpeg and script at once",
    "gif of two thousand frames",
    "grey png of 9,400 squared",
    "palette png of 9,400 squared",
    "png of a line",
    "PNG without its end",
    "jpeg of 9,400 squared",
}


# Annotations


def coco_with(**members: Any) -> Tree:
    content: Any = annotated.coco("train")
    content.update(members)
    return annotated.coco_tree() | {"train/_annotations.coco.json": json.dumps(content).encode()}


def coco_text(text: bytes | str) -> Tree:
    data = text.encode() if isinstance(text, str) else text
    return annotated.coco_tree() | {"train/_annotations.coco.json": data}


def first_object(**values: Any) -> Tree:
    content: Any = annotated.coco("train")
    content["annotations"][0].update(values)
    return coco_with(annotations=content["annotations"])


def raw_object(old: str, new: str) -> Tree:
    text = json.dumps(annotated.coco("train"))
    assert old in text
    return coco_text(text.replace(old, new, 1))


COCO_TEXTS: dict[str, str | bytes] = {
    "empty": "",
    "a list": "[]",
    "a number": "1",
    "deep lists": "[" * 200_000,
    "deep objects": '{"a":' * 100_000,
    "deep within": '{"images": [' + "[" * 100_000 + "]" * 100_000 + "]}",
    "cut short": json.dumps(annotated.coco("train"))[:-200],
    "two objects": json.dumps(annotated.coco("train")) * 2,
    "utf-16": json.dumps(annotated.coco("train")).encode("utf-16"),
    "latin-1": b'{"images": [], "categories": [{"name": "\xe9"}]}',
    "nul bytes": b"\0" * 1000,
    "a comment": "// hello\n" + json.dumps(annotated.coco("train")),
    "trailing comma": '{"images": [], "annotations": [],}',
    "single quotes": "{'images': []}",
    "a pickle": b"\x80\x04cposix\nsystem\n(S'id'\ntR.",
    "numbers of 50,000 digits": '{"images": [{"id": ' + "9" * 50_000 + "}]}",
}
COCO_VALUES: dict[str, dict[str, Any]] = {
    "box of NaN": {"bbox": [float("nan")] * 4},
    "box of infinity": {"bbox": [0, 0, float("inf"), 5]},
    "box of huge numbers": {"bbox": [1e308, 1e308, 1e308, 1e308]},
    "box of huge integers": {"bbox": [0, 0, 10**400, 5]},
    "box of numbers as text": {"bbox": ["0", "0", "5", "5"]},
    "box of lists": {"bbox": [[0], [0], [5], [5]]},
    "box of truth": {"bbox": [True, True, True, True]},
    "box of five": {"bbox": [0, 0, 5, 5, 5]},
    "box that is a word": {"bbox": "0 0 5 5"},
    "box that is an object": {"bbox": {"x": 0}},
    "box of negative size": {"bbox": [10, 10, -5, -5]},
    "box far away": {"bbox": [10_000, 10_000, 5, 5]},
    "class that is a list": {"category_id": [1]},
    "class that is an object": {"category_id": {}},
    "class of NaN": {"category_id": float("nan")},
    "class that is huge": {"category_id": 10**300},
    "image that is a list": {"image_id": []},
    "outline of one point": {"segmentation": [[1, 2]]},
    "outline of words": {"segmentation": [["a"] * 6]},
    "outline of NaN": {"segmentation": [[float("nan")] * 8]},
    "outline far away": {"segmentation": [[1e30, 1e30, 2e30, 1e30, 2e30, 2e30]]},
    "runs of a huge image": {"segmentation": {"size": [10**9, 10**9], "counts": [10**18]}, "bbox": None},
    "runs that are negative": {"segmentation": {"size": [40, 60], "counts": [-5, 2405]}, "bbox": None},
    "runs beyond the image": {"segmentation": {"size": [40, 60], "counts": [10**12]}, "bbox": None},
    "runs that are words": {"segmentation": {"size": [40, 60], "counts": ["a"]}, "bbox": None},
    "packed runs of nonsense": {"segmentation": {"size": [40, 60], "counts": "\u00ff\u0000zz~"}, "bbox": None},
    "packed runs that never end": {"segmentation": {"size": [40, 60], "counts": "o" * 5000}, "bbox": None},
    "size that is a word": {"segmentation": {"size": "big", "counts": [1]}, "bbox": None},
}
COCO_IMAGES: dict[str, dict[str, Any]] = {
    "path out": {"file_name": f"../../../../etc/{MARK}.png"},
    "absolute path": {"file_name": "/etc/passwd"},
    "address": {"file_name": "http://127.0.0.1/x.png"},
    "no name": {"file_name": None},
    "name that is a list": {"file_name": ["p1.png"]},
    "nul in its name": {"file_name": "p1\0.png"},
    "huge width": {"width": 10**12},
    "negative width": {"width": -60},
    "width that is a word": {"width": "wide"},
    "id that is a list": {"id": [1]},
}


#: Ignored parts: impossible sizes, names that match only by their last part, an invalid table of names,
#: a definition that is never fetched, an outline in addition to a box.
UNUSED = {
    "box of numbers as text",
    "utf-16",
    "a number",
    "names that are numbers",
    "count beyond all",
    "outer definition",
    "huge size",
    "path out",
    "wrong encoding",
    "huge width",
    "negative width",
    "width that is a word",
    "outline of one point",
}


def annotations() -> Iterator[Hostile]:
    for name, text in COCO_TEXTS.items():
        yield Hostile(f"coco: {name}", lambda text=text: coco_text(text), name in UNUSED)
    for name, values in COCO_VALUES.items():
        yield Hostile(f"coco: {name}", lambda values=values: first_object(**values), name in UNUSED)
    for name, values in COCO_IMAGES.items():
        yield Hostile(f"coco: image with {name}", lambda values=values: coco_image(**values), name in UNUSED)
    twice = annotated.coco("train")["images"] * 2  # type: ignore[operator]
    yield Hostile("coco: one id twice", lambda: coco_with(images=twice), harmless=True)  # the same image both times
    yield Hostile("coco: class twice", lambda: coco_with(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]))
    yield Hostile("coco: classes are a word", lambda: coco_with(categories="abc"))
    yield Hostile("coco: images are numbers", lambda: coco_with(images=[1, 2, 3]))
    yield Hostile("coco: objects are null", lambda: coco_with(annotations=[None] * 5))
    yield Hostile("coco: millions of empty lists", lambda: coco_text('{"images": [[' + "[]," * 4_000_000 + "[]]]}"))
    yield Hostile("coco: spaces without end", lambda: zipped(coco_text(" " * (150 << 20)), zipfile.ZIP_DEFLATED))
    yield Hostile(
        "coco: a word without end", lambda: zipped(coco_text('{"a": "' + "x" * (120 << 20)), zipfile.ZIP_DEFLATED)
    )
    yield from yolo()
    yield from voc()
    yield from tables()
    yield from masks()


def coco_image(**values: Any) -> Tree:
    images: Any = annotated.coco("train")["images"]
    images[0].update(values)
    return coco_with(images=images)


def yolo() -> Iterator[Hostile]:
    lines = {
        "NaN": "0 nan nan nan nan",
        "infinity": "0 inf 0.5 0.1 0.1",
        "huge numbers": "0 1e308 1e308 1e308 1e308",
        "a class beyond all": "99999999999999999999 .5 .5 .1 .1",
        "a class in between": "0.5 .5 .5 .1 .1",
        "words": "cat dog owl fox hen",
        "half a line": "0 0.5",
        "an odd polygon": "0 .1 .1 .2 .1 .2 .2 .3",
        "nul bytes": "0 .5 .5 .1 .1\0\0",
        "a negative size": "0 .5 .5 -.1 -.1",
        "a line without end": "0 " * 300_000,
    }
    for name, text in lines.items():
        content = text.encode()
        yield Hostile(f"yolo: {name}", lambda content=content: annotated.yolo_tree() | {"labels/train/p1.txt": content})
    yield Hostile("yolo: no text", lambda: annotated.yolo_tree() | {"labels/train/p1.txt": b"\xff\xfe\x00\x01"})
    yamls = {
        "python object": "names: !!python/object/apply:os.system ['touch /tmp/evil4711']",
        "aliases that explode": "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "\n".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
        + "\nnames: *i",
        "alias of itself": "names: &a [*a]",
        "cut short": "names: [cat, 'dog",
        "tabs": "names:\n\t- cat",
        "a number": "42",
        "names that are numbers": "names: 7",
        "count beyond all": "nc: 99999999999\nnames: []",
        "names by huge numbers": "names: {99999999999: cat}",
        "deep lists": "names: " + "[" * 5_000,
        "nul bytes": "names: [\0]",
        "many small things": "names:\n" + "".join(f" - {{a: {n}}}\n" for n in range(400_000)),
    }
    for name, text in yamls.items():
        tree = {"data.yaml": text.encode()}
        yield Hostile(f"yaml: {name}", lambda tree=tree: annotated.yolo_tree() | tree, name in UNUSED)


def voc() -> Iterator[Hostile]:
    sound = annotated.voc_xml(annotated.IMAGES[0])
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    texts = {
        "entity bomb": f'<!DOCTYPE l [<!ENTITY l0 "lol">{entities}]><annotation>&l9;</annotation>',
        "entity of a file": f'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>{sound}',
        "entity of an address": f'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1/{MARK}">%x;]>{sound}',
        "outer definition": f'<!DOCTYPE a SYSTEM "http://127.0.0.1/{MARK}.dtd">{sound}',
        "quadratic entity": f'<!DOCTYPE a [<!ENTITY x "{"y" * 50_000}">]><annotation>{"&x;" * 5000}</annotation>',
        "cut short": sound[:-60],
        "no xml": "hello",
        "empty": "",
        "deep": "<annotation>" + "<a>" * 100_000,
        "many elements": "<annotation>" + "<a/>" * 3_900_000 + "</annotation>",
        "another root": "<html></html>",
        "box of NaN": sound.replace("<xmax>20</xmax>", "<xmax>NaN</xmax>"),
        "box of infinity": sound.replace("<xmax>20</xmax>", "<xmax>1e999</xmax>"),
        "no box": sound.replace("bndbox>", "box>"),
        "no name": sound.replace("<name>cat</name>", ""),
        "huge size": sound.replace("<width>60</width>", "<width>999999999999</width>"),
        "path out": sound.replace("<filename>p1.png", f"<filename>../../../etc/{MARK}"),
        "nul": sound.replace("cat", "c\0t"),
        "wrong encoding": '<?xml version="1.0" encoding="utf-7"?>' + sound,
    }
    for name, text in texts.items():
        tree = {"Annotations/p1.xml": text.encode()}
        yield Hostile(
            f"voc: {name}",
            lambda tree=tree: annotated.voc_tree() | tree,
            harmless=name in UNUSED,
        )


def tables() -> Iterator[Hostile]:
    images_: Tree = {f"images/{n}.png": image(n) for n in range(6)}
    good = "filename,label\n" + "".join(f"{n}.png,{'cat' if n % 2 else 'dog'}\n" for n in range(6))
    texts = {
        "path out": good + f"../../../etc/{MARK}.png,cat\n",
        "absolute path": good + "/etc/passwd,cat\n",
        "no such image": good + "nowhere.png,cat\n",
        "no class": good + "0.png,\n",
        "two classes": good + "0.png,cat\n0.png,owl\n",
        "short line": good + "0.png\n",
        "head alone": "filename,label\n",
        "quote without end": good + '"0.png,cat\n' + "x" * 200_000,
        "no text": b"\xff\xfe\xff\xfe",
        "field without end": good + "0.png," + "c" * 200_000 + "\n",
    }
    for name, text in texts.items():
        data = text if isinstance(text, bytes) else text.encode()
        yield Hostile(
            f"csv: {name}", lambda data=data: {**images_, "labels.csv": data}, harmless=name == "field without end"
        )


def masks() -> Iterator[Hostile]:
    tree = annotated.mask_tree
    contents: dict[str, Callable[[], bytes]] = {
        "another size": lambda: annotated.png(Image.new("L", (3, 3))),
        "an unknown value": lambda: annotated.png(Image.new("L", annotated.SIZE, 200)),
        "text": lambda: b"hello",
        "empty": lambda: b"",
        "svg": lambda: b"<svg/>",
        "cut short": lambda: image(1, (60, 40))[:100],
        "noise in colour": lambda: image(1, (60, 40)),
        "9,400 squared": lambda: flat_png(9_400, 9_400, 0),
        "9,400 squared in colour": lambda: flat_png(9_400, 9_400),
        "100,000 squared": lambda: png(100_000, 100_000, 0),
        "32 bits": lambda: saved("I", annotated.SIZE, "TIFF"),
    }
    for name, make in contents.items():
        path = "train/masks/p1.tif" if name == "32 bits" else "train/masks/p1.png"
        yield Hostile(
            f"masks: {name}",
            lambda make=make, path=path: (
                {k: v for k, v in tree().items() if k != "train/masks/p1.png"} | {path: make()}
            ),
            harmless=name == "32 bits",
        )
    yield Hostile("masks: a table of nonsense", lambda: tree("colour") | {"class_dict.csv": b"name,r,g,b\na,999,x,-1"})
    yield Hostile("masks: a table of no text", lambda: tree("colour") | {"class_dict.csv": b"\xff\xfe\0"})
    yield Hostile("masks: 300 classes", lambda: tree("colour") | {"class_dict.csv": many_colours()})


def many_colours() -> bytes:
    return "\n".join(["name,r,g,b", *(f"c{n},{n % 250},{n // 250},7" for n in range(300))]).encode()


def every() -> list[Hostile]:
    return [*archives(), *tars(), *images(), *annotations()]
