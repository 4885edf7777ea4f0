"""The endings of images that can be imported here; two formats depend on the libraries that are installed."""

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
UNREAD_SUFFIXES = frozenset(
    {
        *(".svg", ".psd", ".ai", ".eps", ".ico", ".jp2", ".j2k", ".jxl", ".exr", ".hdr", ".avif", *HEIF_SUFFIXES),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw", ".dcm", ".nii", ".tga", ".pcx"),
    }
    - IMAGE_SUFFIXES
)
"""Endings of images that are not read."""
