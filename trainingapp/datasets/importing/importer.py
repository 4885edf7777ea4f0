"""Import a dataset: from a zip or a server folder to a folder of the studio that is never changed again.

The images go one by one into DATASETS_DIR/.import-{id}; only when every one of them is sound, the folder is flushed
to the disk and renamed. So a crash leaves nothing but that temporary folder, which the next attempt empties, and a lock
on it keeps a second worker away (work.py). An error refuses the whole import: the report names all and no file stays;
who chose so has single images and objects left out instead.
"""

import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import structlog

from trainingapp.contract.dataset_index import Sample, Split, write_index
from trainingapp.datasets.errors import DatasetError
from trainingapp.datasets.images.decoding import NOTES
from trainingapp.datasets.images.geometry import MOST_OVER_PIXELS
from trainingapp.datasets.importing.class_selection import select_classes
from trainingapp.datasets.importing.duplicates import check_duplicates, check_looks
from trainingapp.datasets.importing.hard_links import share_files
from trainingapp.datasets.importing.ingest import Taken, take
from trainingapp.datasets.importing.layout_checks import check_layout
from trainingapp.datasets.importing.session import GoneError, Heartbeat, Progress, at_work
from trainingapp.datasets.importing.splits import stratified
from trainingapp.datasets.importing.statistics import SPLITS, statistics
from trainingapp.datasets.options import ImportOptions
from trainingapp.datasets.previews import write_shown
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.archive import check_disk, open_source
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.formats import class_folders
from trainingapp.datasets.sources.formats.registry import read_layout, recognise
from trainingapp.datasets.sources.layout import Layout, SourceImage
from trainingapp.models import Dataset

_THREADS = min(4, os.cpu_count() or 1)
_WINDOW = 8 * _THREADS
log = structlog.get_logger(__name__)


def check_upload(path: Path) -> None:
    """Refuse a zip that cannot be a dataset, from its table of contents alone. Raises DatasetError."""
    if path.is_dir():
        raise DatasetError.one("not_a_zip", "This is a folder, not a zip.")
    with open_source(path) as source:
        files = Files(source)
        if not files.images:
            raise DatasetError.one("no_images", "There is no image in it.")
        if recognise(files) is class_folders:
            report = Report()
            check_layout(class_folders.read(files, report), ImportOptions(), report)
            report.raise_fatal()


def run_import(dataset: Dataset, *, on_progress: Progress | None = None) -> None:
    """Read `dataset.source` and make the dataset ready, or refused with a report. `dataset` is refreshed.

    Never raises for bad data, a full disk or a source that cannot be read. Doing it again after a crash, or after it
    was done, is harmless; while another process does it, this returns at once.
    """
    with at_work(dataset, Dataset.Status.IMPORTING, on_progress) as work:
        if work:
            shutil.rmtree(dataset.folder, ignore_errors=True)  # renamed, but the row never came to say so
            _import(dataset, work.folder, work.heartbeat)


def _import(dataset: Dataset, folder: Path, heartbeat: Heartbeat) -> None:
    options = ImportOptions.model_validate(dataset.options)
    report = Report(lenient=options.on_error == "leave_out")
    heartbeat.touch()
    with open_source(Path(dataset.source)) as source:
        layout = select_classes(read_layout(source, report, heartbeat.touch), options)
        layout = check_layout(layout, options, report)
        report.raise_errors()  # nothing is copied for a layout that cannot be used
        check_disk(folder, sum(image.file.size_bytes for image in layout.images))
        taken = _take_images(layout, folder, heartbeat, report)
    report.raise_errors()  # of images: validation needs sound ones to choose from
    splits = _splits(taken, options, pool_rare=not layout.has_labels_only)
    _check_splits(taken, splits, layout, report)
    check_duplicates(taken, splits, report)
    check_looks(taken, splits, report)
    report.raise_errors()
    values = _write_dataset(dataset, folder, layout, taken, splits)
    _share_same_content(dataset, folder, values["fingerprint"], report)
    _publish(folder, dataset.folder)
    try:
        heartbeat.update(status=Dataset.Status.READY, report=report.items(), **values)
    except GoneError:
        shutil.rmtree(dataset.folder, ignore_errors=True)
        raise


# Images


def _take_images(layout: Layout, folder: Path, heartbeat: Heartbeat, report: Report) -> list[Taken]:
    """Copy and decode every image; faults and notes go into the report. Returns the sound ones."""
    taken: list[Taken] = []
    wants_mask = "masks" in layout.annotations
    total = len(layout.images)
    numbered = enumerate(_emptying(layout.images), start=1)
    with ThreadPoolExecutor(_THREADS) as pool:
        one = partial(take, folder=folder, class_count=len(layout.classes), wants_mask=wants_mask)
        work = _map_windowed(pool, lambda entry: one(entry[1], entry[0]), numbered)
        for done, item in enumerate(work, start=1):
            report.faults(list(item.faults))
            if item.sample:
                taken.append(item)
            heartbeat.beat(done, total)
    _report_notes(taken, report)
    return taken


def _emptying(images: list[SourceImage]) -> Iterator[SourceImage]:
    """The images in their order; each is forgotten then, which frees what was read of its annotations."""
    images.reverse()
    while images:
        yield images.pop()


def _map_windowed(
    pool: ThreadPoolExecutor,
    work: Callable[[tuple[int, SourceImage]], Taken],
    images: Iterable[tuple[int, SourceImage]],
) -> Iterator[Taken]:
    """Like `pool.map`, but with few tasks waiting at a time, so that memory stays flat and an error ends it soon."""
    rest = iter(images)
    while window := list(islice(rest, _WINDOW)):
        yield from pool.map(work, window)


def _report_notes(taken: list[Taken], report: Report) -> None:
    examples: dict[str, list[str]] = defaultdict(list)
    for item in taken:
        for note in item.notes:
            examples[note].append(item.file)
    for code, files in examples.items():
        count, note = len(files), NOTES[code]
        message = f"1 image is {note}." if count == 1 else f"{count:,} images are {note}."
        report.warn(code, message, files[0], count=count)
    if clipped := [item for item in taken if item.clipped]:
        count = sum(item.clipped for item in clipped)
        message = f"{count:,} boxes that leave their image by up to {MOST_OVER_PIXELS:.0f} pixels are clipped."
        report.warn("box_clipped", message, clipped[0].file, count=count)


def _splits(taken: list[Taken], options: ImportOptions, *, pool_rare: bool) -> list[Split]:
    """The split of each image, chosen where the source has no validation images or a person wants it so."""
    if options.split == "given" and any(item.kind == "val" for item in taken):
        return ["val" if item.kind == "val" else "train" for item in taken]
    digests, shown = [item.digest for item in taken], [item.shown() for item in taken]
    return stratified(digests, shown, options.seed, options.val_share, pool_rare=pool_rare)


def _check_splits(taken: list[Taken], splits: list[Split], layout: Layout, report: Report) -> None:
    shown: dict[Split, set[int]] = {"train": set(), "val": set()}
    for item, split in zip(taken, splits, strict=True):
        shown[split] |= item.shown()
    if "train" not in splits:
        report.error("no_train", "No image is left to train on.")
    if "val" not in splits:
        report.error("no_val", "No image is left for validation: at least one class needs two different images.")
        return
    for label, name in enumerate(layout.classes):
        if label not in shown["val"] and label in shown["train"]:
            report.warn("class_without_val", f"The class {name} has no image for validation.", name)


# What is written in the end


def _write_dataset(
    dataset: Dataset, folder: Path, layout: Layout, taken: list[Taken], splits: list[Split]
) -> dict[str, Any]:
    """Write the index; returns the fields of the row."""
    ordered = sorted(
        zip(taken, splits, strict=True), key=lambda pair: (pair[1] != "train", pair[0].sample and pair[0].sample.label)
    )  # stable: within a class the order of names stays
    items = [item for item, _split in ordered]
    samples = [replace(item.sample, split=split) for item, split in ordered if item.sample]
    found = _fingerprint(layout.classes, items, samples)
    write_index(
        folder,
        name=dataset.name,
        tasks=list(layout.tasks),
        classes=layout.classes,
        fingerprint=found,
        samples=samples,
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
        "fingerprint": found,
        "size_bytes": index_bytes + sum(item.size_bytes for item in taken),
    }


def _fingerprint(classes: list[str], items: list[Taken], samples: list[Sample]) -> str:
    """SHA-256 in hex over the classes and the sorted (split, image, annotations): names and places do not matter."""
    lines = []
    for item, sample in zip(items, samples, strict=True):
        boxes = sorted(box.values() for box in sample.boxes)
        lines.append(json.dumps([sample.split, item.digest, sample.label, boxes, item.mask_digest]) + "\n")
    digest = hashlib.sha256(json.dumps(classes).encode())
    for line in sorted(lines):
        digest.update(line.encode())
    return digest.hexdigest()


def _share_same_content(dataset: Dataset, folder: Path, fingerprint: str, report: Report) -> None:
    """Say that the content is there already, and store it only once where the disk allows that."""
    ready = Dataset.objects.filter(status=Dataset.Status.READY, fingerprint=fingerprint).exclude(pk=dataset.pk)
    other = ready.order_by("pk").first()
    if other is None:
        return
    report.warn("same_content", f"“{other.name}” has the same content; the files are stored once.", other.name)
    try:
        share_files(folder, other.folder)
    except OSError as error:
        log.info("files are not shared", dataset=dataset.pk, other=other.pk, reason=str(error))


def _publish(folder: Path, final: Path) -> None:
    """Bring everything to the disk, then rename: a power cut leaves the whole dataset or none."""
    os.sync()  # one flush for all files: fsync of each would take minutes for many small ones
    folder.rename(final)
    descriptor = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
