"""The suffixes of supported image formats; two formats depend on the installed libraries."""

import importlib.util

from PIL import features

HAS_AVIF = bool(features.check("avif"))
HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm"),
        *([".avif"] if HAS_AVIF else []),
        *(HEIF_SUFFIXES if HAS_HEIF else []),
    }
)
_FIRST_BYTES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def is_image_content(content: bytes) -> bool:
    """Whether the file begins with the signature of JPEG, PNG, GIF, BMP, TIFF or WebP."""
    return content.startswith(_FIRST_BYTES) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


UNREAD_SUFFIXES = frozenset(
    {
        *(".svg", ".psd", ".ai", ".eps", ".ico", ".jp2", ".j2k", ".jxl", ".exr", ".hdr", ".avif", *HEIF_SUFFIXES),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw", ".dcm", ".nii", ".tga", ".pcx"),
    }
    - IMAGE_SUFFIXES
)
"""Endings of images that are not read."""
