"""The supported formats. A new format is a module listed here, before formats that accept more sources."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.images.choices import image_offers
from trainingapp.datasets.options import AUTO, ReadingOptions
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources.files import Files, suffix_of
from trainingapp.datasets.sources.formats import (
    cityscapes,
    class_folders,
    class_in_name,
    coco,
    createml,
    csv_boxes,
    csv_labels,
    csv_runs,
    cvat,
    datumaro,
    drawn_scenes,
    imagefolder,
    kitti,
    label_studio,
    labelme,
    masks,
    one_hot,
    supervisely,
    via,
    visdrone,
    voc,
    yolo,
)
from trainingapp.datasets.sources.formats.format import Format
from trainingapp.datasets.sources.given_splits import settle_splits
from trainingapp.datasets.sources.image_kinds import is_image_content
from trainingapp.datasets.sources.known_families import refuse_known_family
from trainingapp.datasets.sources.layout import Layout
from trainingapp.datasets.sources.offers import Offer
from trainingapp.datasets.sources.source import Source
from trainingapp.datasets.sources.split_lists import with_listed_splits
from trainingapp.datasets.sources.unread import refuse_unread_images, report_unread, unread_files

MOST_NAMED = 5

_PROGRAMS: list[Format] = [labelme, cvat, label_studio, via, createml, datumaro, supervisely, csv_boxes, csv_runs]
_DATASETS: list[Format] = [imagefolder, visdrone, kitti, cityscapes]
FORMATS: list[Format] = [
    *(class_in_name, drawn_scenes, *_PROGRAMS, *_DATASETS),
    *(coco, yolo, voc, masks, csv_labels, one_hot, class_folders),
]


def recognise(files: Files) -> Format:
    """The format chosen by the user, or the first one that recognizes the source; class folders accept any source.

    Raises DatasetError if the chosen format does not exist.
    """
    return _chosen(files) or next(format_ for format_ in FORMATS if format_.recognise(files))


def _chosen(files: Files) -> Format | None:
    """The format chosen by the user, if any. Raises DatasetError if it does not exist."""
    name, class_from = files.reading.format, files.reading.class_from
    # The review submits the current format together with the choice of the class origin.
    if name in (class_folders.NAME, class_in_name.NAME) and class_from != "auto":
        return class_in_name if class_from == "file_name" else class_folders
    if name == "auto":
        return None
    for format_ in FORMATS:
        if name == format_.NAME:
            return format_
    names = [format_.NAME for format_ in FORMATS]
    raise DatasetError.one("unknown_choice", messages.UNKNOWN_FORMAT(name=name, names=names))


def read_layout(
    source: Source, report: Report, beat: Callable[[], None] = lambda: None, reading: ReadingOptions = AUTO
) -> Layout:
    """Classes, images and annotations of a source, read with the choices in `reading`.

    Raises DatasetError if nothing can be read; its `offers` are the choices that may help.
    """
    report.faults(source.faults)
    files = Files(source, beat, reading)
    try:
        refuse_without_images(files)
        candidates = [one for one in FORMATS if one.recognise(files)]
        format_ = _chosen(files) or candidates[0]
        if format_ in (class_folders, class_in_name):
            class_in_name.offer(files)
        names = dict.fromkeys([format_.NAME, *(one.NAME for one in candidates)])
        files.offer(Offer("format", format_.NAME, tuple(names)))
        layout = with_listed_splits(format_.read(files, report), files, report)
        layout = settle_splits(layout, report, files)
        files.read_paths.update(layout.files)
        for offer in (*layout.offers, *image_offers([image.file for image in layout.images], files.reading)):
            files.offer(offer)
        unread = unread_files(files, [one for one in candidates if one not in (format_, class_folders)])
        report_unread(unread, report)
        return replace(layout, offers=files.open_offers(), unread=unread)
    except DatasetError as error:
        error.offers = files.open_offers()
        raise


def refuse_without_images(files: Files) -> None:
    """Raise DatasetError if the source has no readable images."""
    if files.images:
        return
    refuse_unread_images(files)
    refuse_known_family(files)
    if bare := [file for file in files.source.files if not suffix_of(file.path) and is_image_content(files.peek(file))]:
        message = messages.IMAGES_WITHOUT_ENDING(count=len(bare), path=bare[0].path)
        raise DatasetError.one("no_images", message, bare[0].path)
    endings = Counter(suffix_of(file.path) for file in files.source.files)
    message = messages.IMAGES_NOT_INCLUDED(
        count=len(files.source.files), suffixes=[suffix or "–" for suffix, _count in endings.most_common(MOST_NAMED)]
    )
    raise DatasetError.one("no_images", message, files.source.files[0].path)
