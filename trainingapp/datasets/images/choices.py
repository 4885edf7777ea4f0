"""Choices about the bit depth and the bands of a source's images, from the headers of a few images."""

from collections.abc import Sequence
from itertools import chain, islice

from PIL import Image

from trainingapp.contract.deep_images import DEEP_MODES
from trainingapp.contract.messages import dataset_images as messages
from trainingapp.contract.tiff_bands import read_header
from trainingapp.datasets.options import ReadingOptions
from trainingapp.datasets.sources.offers import Offer
from trainingapp.datasets.sources.source import SourceFile

_LOOKED_AT = 5
_SUFFIXES = (".tif", ".tiff", ".png", ".pgm", ".pnm", ".ppm")
_MOST_PLAIN_BANDS = 4


def image_offers(images: Sequence[SourceFile], reading: ReadingOptions) -> list[Offer]:
    """The choices of bit depth and bands, if any of the first images of the formats concerned needs one."""
    depth: Offer | None = None
    bands: Offer | None = None
    ends = ((file for file in images if file.path.lower().endswith(suffix)) for suffix in _SUFFIXES)
    for file in chain.from_iterable(islice(found, _LOOKED_AT) for found in ends):
        is_deep, count = _header(file)
        if is_deep and depth is None:
            choices = ("auto", "true_range", "type_range")
            depth = Offer("depth", reading.depth, choices, messages.DEPTH_CHOICE(path=file.path))
        if count > _MOST_PLAIN_BANDS and bands is None:
            sensible = ["0,1,2", "2,1,0", "3,2,1"]
            used = ",".join(map(str, reading.bands)) if reading.bands else ""  # no default: the user has to choose
            reason = messages.BANDS_CHOICE(path=file.path, count=count)
            bands = Offer("bands", used, tuple(dict.fromkeys([used, *sensible])), reason)
    return [offer for offer in (depth, bands) if offer]


def _header(file: SourceFile) -> tuple[bool, int]:
    """Whether the image has more than 8 bits per channel, and its number of bands; (False, 0) if it cannot be read."""
    try:
        with file.open() as reader:
            if header := read_header(reader):
                return header.numbers != "u1", header.bands
            reader.seek(0)
            with Image.open(reader, formats=["PNG", "PPM", "TIFF"]) as image:
                return image.mode in DEEP_MODES, len(image.getbands())
    except Exception:  # noqa: BLE001  a damaged image is reported when it is imported
        return False, 0
