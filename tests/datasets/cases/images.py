"""Image files of all kinds, including damaged ones."""

import struct
import zlib

import numpy as np
from PIL import Image

from tests.datasets.cases.kit import SIZE, Case, Ready, Refused, Tree, class_folders, encoded, photo, photos

CLASSIFICATION = "classification"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def noise(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def deep(name: str) -> bytes:
    """A 12-bit image stored in 16 bits, with values from 200 to 4000."""
    values_HW = noise(name).integers(200, 4001, (SIZE[1], SIZE[0])).astype(np.uint16)
    return encoded(Image.fromarray(values_HW))


def shares(name: str) -> bytes:
    """A TIFF of 32-bit floating point numbers between 0 and 1."""
    return encoded(Image.fromarray(noise(name).random((SIZE[1], SIZE[0]), dtype=np.float32)), "TIFF")


def every_kind() -> Tree:
    tree: Tree = {}
    for folder in "ab":
        generator = noise(folder)

        def drawn(
            mode: str = "RGB", size: tuple[int, int] = SIZE, generator: np.random.Generator = generator
        ) -> Image.Image:
            values_HWC = generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            return Image.fromarray(values_HWC).convert(mode)

        steps_HW = np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE[1], SIZE[0]) * 30 + ord(folder)
        tree |= {
            f"{folder}/cmyk.JPG": encoded(drawn("CMYK"), "JPEG"),
            f"{folder}/palette.PNG": encoded(drawn().quantize(32), transparency=3),
            f"{folder}/anim.gif": encoded(drawn(), "GIF", save_all=True, append_images=[drawn()]),
            f"{folder}/anim.webp": encoded(drawn(), "WEBP", save_all=True, append_images=[drawn()]),
            f"{folder}/la.png": encoded(drawn("LA")),
            f"{folder}/one.png": encoded(drawn(size=(1, 1))),
            f"{folder}/long.png": encoded(drawn(size=(900, 9))),
            f"{folder}/grey16.tif": encoded(Image.fromarray(steps_HW), "TIFF"),
        }
    return tree


def damaged() -> Tree:
    whole = photo("cut.jpg")
    return class_folders("cat", "dog", each=5) | {
        "cat/cut.jpg": whole[: len(whole) // 2],
        "cat/empty.jpg": b"",
        "dog/page.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
    }


def heic() -> Tree:
    """Files that begin like HEIC but contain no image."""
    return {f"{name}/IMG_00{i}.HEIC": HEIC + bytes([i]) * 64 for name in ("cat", "dog") for i in range(3)}


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge_png(side: int = 20_000) -> bytes:
    """A black square with one bit per pixel."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side * (1 + (side + 7) // 8)), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def five_bands(side: int = 16) -> bytes:
    """An uncompressed TIFF of 5 samples per pixel. Each tag: number, type (3 is 16 bits, 4 is 32), count, value."""
    pixels = bytes((number * 7) % 256 for number in range(side * side * 5))
    bits_at = 8 + 2 + 9 * 12 + 4
    tags = [
        (256, 3, 1, side),
        (257, 3, 1, side),
        (258, 3, 5, bits_at),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, bits_at + 10),
        (277, 3, 1, 5),
        (278, 3, 1, side),
        (279, 4, 1, len(pixels)),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    return head + struct.pack("<5H", *[8] * 5) + pixels


def folders(*names: str, train: int, val: int, warnings: str = "") -> Ready:
    return Ready("class_folders", CLASSIFICATION, list(names), train, val, warnings)


CASES = [
    Case(
        "s16_jfif",
        lambda: photos(*(f"{name}/{i}.{'jfif' if i < 3 else 'jpg'}" for name in ("cat", "dog") for i in range(6))),
        folders("cat", "dog", train=10, val=2),
    ),
    Case(
        "s16b_ppm_only",
        lambda: class_folders("00000", "00014", suffix="ppm"),
        folders("00000", "00014", train=6, val=2),
    ),
    Case(
        "s19_16bit_grey",
        lambda: {f"{name}/{i}.png": deep(f"{name}{i}") for name in ("scratch", "clean") for i in range(4)},
        folders("clean", "scratch", train=6, val=2, warnings="deep"),
    ),
    Case(
        "o_img_kinds",
        every_kind,
        folders("a", "b", train=12, val=4, warnings="animated constant deep tiny"),
    ),
    Case(
        "o_img_bad",
        damaged,
        Refused(
            "not_an_image truncated",
            ("cat/cut.jpg is truncated", "cat/empty.jpg is empty", "dog/page.jpg is a text file"),
            folders("cat", "dog", train=8, val=2, warnings="not_an_image truncated"),
        ),
    ),
    Case(
        "o_img_heic",
        lambda: class_folders("cat", "dog", each=3) | heic(),
        Refused(
            "not_an_image",
            ("cat/IMG_000.HEIC", "HEIF"),
            folders("cat", "dog", train=4, val=2, warnings="not_an_image"),
        ),
    ),
    Case(
        "o_img_heic_only",
        heic,
        Refused("not_an_image", ("cat/IMG_000.HEIC", "HEIF"), Refused("no_train no_val", ())),
    ),
    Case(
        "o_img_huge",
        lambda: class_folders("cat", "dog") | {"cat/scan.png": huge_png()},
        Refused(
            "too_many_pixels",
            ("cat/scan.png is too large to decode", "at most 89.5 megapixels"),
            folders("cat", "dog", train=6, val=2, warnings="too_many_pixels"),
        ),
    ),
    Case(
        "o_img_ideographic_space",
        lambda: photos(*(f"{name}/写真\u3000{i}.png" for name in "猫犬" for i in range(4))),
        folders("犬", "猫", train=6, val=2),
    ),
    Case(
        "o_img_float_tiff",
        lambda: {f"{name}/{i}.tif": shares(f"{name}{i}") for name in "ab" for i in range(4)},
        folders("a", "b", train=6, val=2, warnings="deep"),
    ),
    Case(
        "o_img_12_channels",
        lambda: class_folders("cat", "dog") | {"cat/bands.tif": five_bands()},
        Refused(
            "bands",
            ("cat/bands.tif has 5 bands", "Select the three bands"),
            folders("cat", "dog", train=6, val=2, warnings="bands"),
        ),
    ),
]
