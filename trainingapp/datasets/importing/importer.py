"""Imports a dataset from an archive or a server folder into an immutable folder of the studio.

The images are copied one by one into DATASETS_DIR/.import-{id}. Once all are valid, the folder is flushed to disk and
renamed. A crash therefore leaves only that temporary folder, which the next attempt empties; a lock on it excludes a
second worker (session.py). An error refuses the whole import: the report lists all errors and no file is kept. With
`ImportOptions.on_error` "leave_out", single images and objects are left out instead.
"""

import hashlib
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import NotRequired, TypedDict, TypeVar

import structlog

from trainingapp.contract.dataset_index import LabelMode, Sample, Split, write_index
from trainingapp.contract.deep_images import Conversion
from trainingapp.contract.messages import dataset_checks as check_messages
from trainingapp.contract.messages import dataset_images as image_messages
from trainingapp.contract.messages import dataset_reading as reading_messages
from trainingapp.contract.messages import dataset_sources as source_messages
from trainingapp.datasets.images.decoding import NOTES
from trainingapp.datasets.import_rights import link_rule
from trainingapp.datasets.importing.class_selection import select_classes
from trainingapp.datasets.importing.conversions import convert_images
from trainingapp.datasets.importing.duplicates import check_duplicates, check_similar
from trainingapp.datasets.importing.hard_links import share_files
from trainingapp.datasets.importing.ingest import IngestedImage, ingest
from trainingapp.datasets.importing.layout_checks import check_layout
from trainingapp.datasets.importing.reading_record import ReadingRecord, record_of
from trainingapp.datasets.importing.session import GoneError, Heartbeat, Progress, import_session
from trainingapp.datasets.importing.splits import stratified
from trainingapp.datasets.importing.statistics import SPLITS, Statistics, statistics
from trainingapp.datasets.options import ImportOptions, ReadingOptions
from trainingapp.datasets.previews import write_shown
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.formats import class_folders
from trainingapp.datasets.sources.formats.registry import read_layout, recognise, refuse_without_images
from trainingapp.datasets.sources.layout import Layout, SourceImage
from trainingapp.datasets.sources.limits import check_disk_space
from trainingapp.datasets.sources.opening import UNPACKED_DIR, check_archive, is_archive_name, open_source
from trainingapp.models import Dataset

_THREADS = min(4, os.cpu_count() or 1)
_WINDOW = 8 * _THREADS
"""Images that wait for a thread at a time."""
_MOST_EXAMPLES = 3
_GROUP_DIGITS = 16
"""Digits of the hash that names a group of identical files: 64 bits."""
_Item = TypeVar("_Item")
log = structlog.get_logger(__name__)


def check_upload(path: Path) -> None:
    """Check an uploaded archive without unpacking it. Raises DatasetError if it cannot be a dataset."""
    if path.is_dir():
        raise DatasetError.one("not_a_zip", source_messages.FOLDER_INSTEAD_OF_ZIP())
    if not check_archive(path):
        return
    with open_source(path) as source:
        files = Files(source)
        if any(is_archive_name(file.path) for file in source.files):
            return  # the worker checks their content when it unpacks them
        refuse_without_images(files)
        if recognise(files) is class_folders:
            report = Report()
            # Annotations of an unknown format are refused in the review, where class folders can be chosen instead.
            files = Files(source, reading=ReadingOptions(format=class_folders.NAME))
            # The review asks whether to import a source that has only held-out images.
            check_layout(class_folders.read(files, report), ImportOptions(split="stratified"), report)
            report.raise_fatal()


def run_import(dataset: Dataset, *, on_progress: Progress | None = None) -> None:
    """Import `dataset.source`: the dataset becomes ready, or refused with a report. `dataset` is refreshed.

    Does not raise for bad data, a full disk or an unreadable source. It can be repeated after a crash or after
    completion, and returns immediately while another process imports the dataset.
    """
    with import_session(dataset, Dataset.Status.IMPORTING, on_progress) as session:
        if session:
            # An earlier attempt may have been killed between renaming its folder and updating the row.
            shutil.rmtree(dataset.folder, ignore_errors=True)
            _import(dataset, session.folder, session.heartbeat)


def _import(dataset: Dataset, folder: Path, heartbeat: Heartbeat) -> None:
    options = ImportOptions.model_validate(dataset.options)
    report = Report(lenient=options.on_error == "leave_out")
    heartbeat.touch()
    scratch = folder / UNPACKED_DIR
    with open_source(Path(dataset.source), options.reading, scratch, link_rule(dataset)) as source:
        layout = select_classes(read_layout(source, report, heartbeat.touch, options.reading), options)
        layout = check_layout(layout, options, report)
        report.raise_errors()  # nothing is copied for an unusable layout
        check_disk_space(folder, sum(image.file.size_bytes for image in layout.images))
        images, conversion = _ingest_images(layout, folder, heartbeat, report, options.reading)
    report.raise_errors()  # of images: the splits are chosen among the valid ones
    drawn = options.split != "given" or not any(item.kind == "val" for item in images)
    splits: list[Split] = ["val" if item.kind == "val" else "train" for item in images]
    if drawn:
        splits = stratified(
            [item.digest for item in images],
            [item.shown() for item in images],
            options.seed,
            options.val_share,
            pool_rare=not layout.has_labels_only,
        )
    _check_splits(images, splits, layout, report)
    check_duplicates(images, splits, report)
    check_similar(images, splits, report)
    report.raise_errors()
    values = _write_dataset(dataset, folder, layout, images, splits, conversion)
    if drawn:
        origin = reading_messages.SPLIT_DRAWN(percent=100 * options.val_share, seed=options.seed)
        layout = replace(layout, split_origin=origin)
    values["reading"] = record_of(layout, conversion)
    _share_same_content(dataset, folder, values["fingerprint"], report)
    _publish(folder, dataset.folder)
    try:
        heartbeat.update(status=Dataset.Status.READY, report=report.items(), **values)
    except GoneError:
        shutil.rmtree(dataset.folder, ignore_errors=True)
        raise


# Images


def _ingest_images(
    layout: Layout, folder: Path, heartbeat: Heartbeat, report: Report, reading: ReadingOptions
) -> tuple[list[IngestedImage], Conversion | None]:
    """Copy and decode every image; faults and notes go into the report. Returns the valid images, and the conversion
    used for those with more than 8 bits."""
    valid: list[IngestedImage] = []
    lost: list[str] = []
    unusable = 0
    wants_mask = "masks" in layout.annotations
    total = len(layout.images)
    numbered = enumerate(_emptying(layout.images), start=1)
    with ThreadPoolExecutor(_THREADS) as pool:
        one = partial(
            ingest,
            folder=folder,
            class_count=len(layout.classes),
            wants_mask=wants_mask,
            wants_outlines="outlines" in layout.annotations,
            wants_labels=layout.has_multi_labels,
            reading=reading,
        )
        work = _map_windowed(pool, lambda entry: one(entry[1], entry[0]), numbered)
        for done, item in enumerate(work, start=1):
            report.faults(list(item.faults))
            report.left_out(item.unusable)
            unusable += len(item.unusable)
            if item.has_lost_objects:
                lost.append(item.file)
            if item.sample:
                valid.append(item)
            heartbeat.beat(done, total)
        valid, conversion = convert_images(valid, folder, reading, report, partial(_map_windowed, pool))
    _report_notes(valid, report)
    if lost:
        message = image_messages.OBJECTS_LOST(count=len(lost), paths=lost[:_MOST_EXAMPLES])
        report.warn("objects_lost", message, lost[0], count=len(lost))
    usable = sum(len(item.sample.boxes) for item in valid if item.sample)
    if unusable > usable:
        message = image_messages.MOST_OBJECTS_UNUSABLE(count=unusable, total=unusable + usable)
        report.fault("box_outside", message)
    return valid, conversion


def _emptying(images: list[SourceImage]) -> Iterator[SourceImage]:
    """Yield the images in order, removing each from the list to free the memory of its annotations."""
    images.reverse()
    while images:
        yield images.pop()


def _map_windowed(
    pool: ThreadPoolExecutor, work: Callable[[_Item], IngestedImage], images: Iterable[_Item]
) -> Iterator[IngestedImage]:
    """Like `pool.map`, but with few pending tasks: memory stays constant, and an error stops the work early."""
    rest = iter(images)
    while window := list(islice(rest, _WINDOW)):
        yield from pool.map(work, window)


def _report_notes(images: list[IngestedImage], report: Report) -> None:
    examples: dict[str, list[str]] = defaultdict(list)
    for item in images:
        for note in item.notes:
            examples[note].append(item.file)
    for code, files in examples.items():
        count = len(files)
        report.warn(code, NOTES[code](count), files[0], count=count, files=files)
    if clipped := [item for item in images if item.clipped]:
        count = sum(item.clipped for item in clipped)
        places = [where.param() for item in clipped[:_MOST_EXAMPLES] for where in item.clipped_at][:_MOST_EXAMPLES]
        over = max(1, round(max(item.most_over for item in clipped)))
        message = image_messages.BOX_CLIPPED(count=count, pixels=over, where=places)
        report.warn("box_clipped", message, clipped[0].file, count=count)


def _check_splits(images: list[IngestedImage], splits: list[Split], layout: Layout, report: Report) -> None:
    shown: dict[Split, set[int]] = {"train": set(), "val": set()}
    for item, split in zip(images, splits, strict=True):
        shown[split] |= item.shown()
    if "train" not in splits:
        report.error("no_train", check_messages.NO_TRAIN_LEFT())
    if "val" not in splits:
        report.error("no_val", check_messages.NO_VAL_LEFT())
        return
    for label, name in enumerate(layout.classes):
        if label not in shown["val"] and label in shown["train"]:
            report.warn("class_without_val", check_messages.CLASS_WITHOUT_VAL(name=name), name)


# Writing the dataset


class _ReadyFields(TypedDict):
    """The fields of `Dataset` that are known after the import."""

    format: str
    classes: list[str]
    counts: dict[Split, dict[str, int]]
    images: dict[Split, int]
    statistics: Statistics
    tasks: list[str]
    label_mode: LabelMode
    fingerprint: str
    size_bytes: int
    reading: NotRequired[ReadingRecord]


def _write_dataset(
    dataset: Dataset,
    folder: Path,
    layout: Layout,
    images: list[IngestedImage],
    splits: list[Split],
    conversion: Conversion | None,
) -> _ReadyFields:
    """Write the index. Returns the fields of the row."""
    ordered = sorted(
        zip(images, splits, strict=True), key=lambda pair: (pair[1] != "train", pair[0].sample and pair[0].sample.label)
    )  # sorted() is stable, so the order of names within a class is kept
    items = [item for item, _split in ordered]
    copies = Counter(item.digest for item in items)
    samples = [
        replace(item.sample, split=split, group=item.digest[:_GROUP_DIGITS] if copies[item.digest] > 1 else "")
        for item, split in ordered
        if item.sample
    ]
    fingerprint = _fingerprint(layout.classes, items, samples)
    write_index(
        folder,
        name=dataset.name,
        tasks=list(layout.tasks),
        classes=layout.classes,
        fingerprint=fingerprint,
        samples=samples,
        conversion=conversion,
    )
    if any(sample.mask for sample in samples):
        write_shown(folder, (item.shown() for item in items))
    figures = statistics(layout.classes, items, samples)
    index_bytes = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return {
        "format": layout.format,
        "classes": layout.classes,
        "counts": {split: {row["name"]: row["images"][split] for row in figures["classes"]} for split in SPLITS},
        "images": {split: count for split, count in figures["images"].items() if count},
        "statistics": figures,
        "tasks": list(layout.tasks),
        "label_mode": layout.label_mode,
        "fingerprint": fingerprint,
        "size_bytes": index_bytes + sum(item.size_bytes for item in items),
    }


def _fingerprint(classes: list[str], items: list[IngestedImage], samples: list[Sample]) -> str:
    """SHA-256 in hex over the classes and the sorted (split, image, annotations); independent of file names."""
    digest = hashlib.sha256(json.dumps(classes).encode())
    pairs = sorted(zip(items, samples, strict=True), key=_split_and_digest)
    # A line begins with split and digest: only lines that share both are held and sorted as text at a time.
    for _key, same in groupby(pairs, key=_split_and_digest):
        lines = []
        for item, sample in same:
            boxes = sorted(box.values() for box in sample.boxes)
            labels = [] if sample.labels is None else [sample.labels]  # omitted for datasets with one label per image
            line = [sample.split, item.digest, sample.label, boxes, item.mask_digest, *labels]
            lines.append(json.dumps(line) + "\n")
        for text in sorted(lines):
            digest.update(text.encode())
    return digest.hexdigest()


def _split_and_digest(pair: tuple[IngestedImage, Sample]) -> tuple[str, str]:
    return pair[1].split, pair[0].digest


def _share_same_content(dataset: Dataset, folder: Path, fingerprint: str, report: Report) -> None:
    """Report a dataset with the same content, and store that content only once if the file system allows it."""
    ready = Dataset.objects.filter(status=Dataset.Status.READY, fingerprint=fingerprint).exclude(pk=dataset.pk)
    other = ready.order_by("pk").first()
    if other is None:
        return
    report.warn("same_content", check_messages.SAME_CONTENT(dataset=other.name), other.name)
    try:
        share_files(folder, other.folder)
    except OSError as error:
        log.info("files are not shared", dataset=dataset.pk, other=other.pk, reason=str(error))


def _publish(folder: Path, final: Path) -> None:
    """Flush everything to disk, then rename: after a power failure the dataset is complete or absent."""
    os.sync()  # one flush for all files: fsync of each file would take minutes for many small files
    folder.rename(final)
    descriptor = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
