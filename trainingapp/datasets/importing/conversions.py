"""Conversion of a dataset's deep images to 8 bits with one scale, and of HEIC and AVIF to JPEG or PNG."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from trainingapp.contract.deep_images import Conversion
from trainingapp.contract.messages import dataset_images as messages
from trainingapp.datasets.images.conversion import Converted, convert
from trainingapp.datasets.images.decoding import CONVERTED_FORMATS
from trainingapp.datasets.images.depth import conversion_of
from trainingapp.datasets.importing.ingest import IngestedImage
from trainingapp.datasets.options import ReadingOptions
from trainingapp.datasets.report import DatasetError, Report

Map = Callable[[Callable[[IngestedImage], IngestedImage], Iterable[IngestedImage]], Iterator[IngestedImage]]


def convert_images(
    images: list[IngestedImage], folder: Path, reading: ReadingOptions, report: Report, map_: Map
) -> tuple[list[IngestedImage], Conversion | None]:
    """Convert the images that need it. Returns the images and the conversion used for deep and multi-band images (None
    if there are none). `map_` applies a function to several images in threads.

    One scale for all images is chosen from their values. Images that cannot be decoded again are faults. Reports the
    scale, and refuses the dataset if every deep image became a single color and they are at least half of all images.
    """
    waiting = [item for item in images if item.facts]
    if not waiting:
        return images, None
    ranges = [item.facts.values for item in waiting if item.facts and item.facts.values]
    conversion = conversion_of(ranges, reading)
    for is_float in (False, True):
        scale = conversion.scale_of(is_float=is_float)
        deep = [item for item in waiting if item.facts and item.facts.values and item.facts.values.is_float is is_float]
        if scale and deep:
            count = len(deep)
            if scale.bits:
                message = messages.DEEP_BITS(count=count, bits=scale.bits)
            else:
                message = messages.DEEP_RANGE(count=count, low=scale.low, high=scale.high)
            report.warn("deep", message, deep[0].file, count=count)
    packed = [item for item in waiting if item.facts and item.facts.format in CONVERTED_FORMATS]
    if packed:
        report.warn("converted", messages.CONVERTED(count=len(packed)), packed[0].file, count=len(packed))
    done = {item.file: item for item in map_(lambda item: _converted(item, folder, conversion), waiting)}
    for item in done.values():
        report.faults(list(item.faults))
    deep = [done[item.file] for item in waiting if item.facts and item.facts.values]
    if 2 * len(deep) >= len(images) and all("constant" in item.notes for item in deep):
        low, high = min(one.low for one in ranges), max(one.high for one in ranges)
        report.error("constant", messages.ALL_CONSTANT(count=len(deep), low=low, high=high), deep[0].file)
    results = (done.get(item.file, item) for item in images)
    is_used = any(item.facts and (item.facts.values or item.facts.bands) for item in waiting)
    return [item for item in results if item.sample], conversion if is_used else None


def _converted(item: IngestedImage, folder: Path, conversion: Conversion) -> IngestedImage:
    assert item.sample
    assert item.facts
    path = folder / item.sample.path
    before_bytes = path.stat().st_size
    try:
        stored: Converted = convert(path, item.file, item.facts, conversion)
    except DatasetError as error:
        path.unlink(missing_ok=True)
        return replace(item, sample=None, facts=None, faults=tuple(error.items))
    return replace(
        item,
        sample=replace(item.sample, path=str(stored.path.relative_to(folder))),
        size_bytes=item.size_bytes - before_bytes + stored.size_bytes,
        perceptual_hash=stored.perceptual_hash,
        notes=(*item.notes, *(["constant"] if stored.is_constant else [])),
        faults=(),
        facts=None,
    )
