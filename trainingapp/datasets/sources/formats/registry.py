"""The supported formats. A new format is a module that is listed here, before formats that accept more sources."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.images.choices import image_offers
from trainingapp.datasets.options import AUTO, ReadingOptions
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources.files import Files, suffix_of
from trainingapp.datasets.sources.formats import class_folders, coco, csv_labels, drawn_scenes, masks, voc, yolo
from trainingapp.datasets.sources.formats.format import Format
from trainingapp.datasets.sources.given_splits import settle_splits
from trainingapp.datasets.sources.layout import Layout
from trainingapp.datasets.sources.offers import Offer
from trainingapp.datasets.sources.source import Source
from trainingapp.datasets.sources.split_lists import with_listed_splits
from trainingapp.datasets.sources.unread import refuse_unread_images, report_unread, unread_files

MOST_NAMED = 5

FORMATS: list[Format] = [drawn_scenes, coco, yolo, voc, masks, csv_labels, class_folders]


def recognise(files: Files) -> Format:
    """The format that the user chose, or else the first that recognises the source; class folders accept any.

    Raises DatasetError where the chosen format does not exist.
    """
    chosen = files.reading.format
    if chosen == "auto":
        return next(format_ for format_ in FORMATS if format_.recognise(files))
    for format_ in FORMATS:
        if chosen == format_.NAME:
            return format_
    names = [format_.NAME for format_ in FORMATS]
    raise DatasetError.one("unknown_choice", messages.UNKNOWN_FORMAT(name=chosen, names=names))


def read_layout(
    source: Source, report: Report, beat: Callable[[], None] = lambda: None, reading: ReadingOptions = AUTO
) -> Layout:
    """Classes, images and annotations of a source, as `reading` says. Raises DatasetError where nothing can be read."""
    report.faults(source.faults)
    files = Files(source, beat, reading)
    _refuse_without_images(files)
    format_ = recognise(files)
    layout = with_listed_splits(format_.read(files, report), files, report)
    layout = settle_splits(layout, report, files)
    files.read_paths.update(layout.files)
    candidates = [one for one in FORMATS if one is format_ or one.recognise(files)]
    files.offer(Offer("format", format_.NAME, tuple(one.NAME for one in candidates)))
    for offer in (*layout.offers, *image_offers([image.file for image in layout.images], reading)):
        files.offer(offer)
    others = [one for one in candidates if one not in (format_, class_folders)]
    offers = tuple(offer for offer in files.offers.values() if len(offer.choices) > 1)
    unread = unread_files(files, others)
    report_unread(unread, report)
    return replace(layout, offers=offers, unread=unread)


def _refuse_without_images(files: Files) -> None:
    if files.images:
        return
    refuse_unread_images(files)
    endings = Counter(suffix_of(file.path) for file in files.source.files)
    message = messages.IMAGES_NOT_INCLUDED(
        count=len(files.source.files), suffixes=[suffix or "–" for suffix, _count in endings.most_common(MOST_NAMED)]
    )
    raise DatasetError.one("no_images", message, files.source.files[0].path)
