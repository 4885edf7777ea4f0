"""Import a dataset: from a zip or a server folder to a folder of the studio that is never changed again.

The pictures go one by one into DATASETS_DIR/.import-{id}; only when every one of them is sound, the folder is flushed
to the disk and renamed. So a crash leaves nothing but that temporary folder, which the next attempt empties, and a lock
on it keeps a second worker away. Any error refuses the whole import: the report names all of them and no file stays.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import structlog
from django.conf import settings
from django.utils import timezone

from trainingapp.datasets.archive import SourceFile, check_disk, copy_limited, open_source
from trainingapp.datasets.class_folders import Layout, Picture, choose_val, recognise
from trainingapp.datasets.errors import DatasetError, ReportItem
from trainingapp.datasets.report import Report
from trainingapp.datasets.validation import NOTES, examine
from trainingapp.engine.dataset_files import Sample, Split, write_index
from trainingapp.models import Dataset

Progress = Callable[[int, int], None]
"""Called with pictures done and pictures in all."""

PROGRESS_INTERVAL_S = 0.5
_THREADS = min(4, os.cpu_count() or 1)
_WINDOW = 8 * _THREADS
log = structlog.get_logger(__name__)


class _GoneError(Exception):
    """The dataset was deleted, or decided by somebody else, while it was imported."""


@dataclass(frozen=True)
class _Taken:
    """A picture that was copied; `width` is 0 where `problems` says why it cannot be used."""

    picture: Picture
    digest: str
    size_bytes: int
    width: int = 0
    height: int = 0
    notes: tuple[str, ...] = ()
    problems: list[ReportItem] = field(default_factory=list)


def check_upload(path: Path) -> None:
    """Refuse a zip that cannot be a dataset, from its table of contents alone. Raises DatasetError."""
    if path.is_dir():
        raise DatasetError.one("not_a_zip", "This is a folder, not a zip.")
    with open_source(path) as source:
        report = Report()
        recognise(source, report)
        report.raise_errors()


def run_import(dataset: Dataset, *, on_progress: Progress | None = None) -> None:
    """Read `dataset.source` and make the dataset ready, or refused with a report. `dataset` is refreshed.

    Never raises for bad data, a full disk or a source that cannot be read. Doing it again after a crash, or after it
    was done, is harmless; while another process does it, this returns at once.
    """
    with _own_folder(dataset) as folder:
        if folder is None:
            return
        try:
            _import(dataset, folder, _Heartbeat(dataset, on_progress))
        except _GoneError:
            log.info("import abandoned: the dataset was deleted", dataset=dataset.pk)
        except DatasetError as error:
            _refuse(dataset, error.items)
        except OSError as error:
            _refuse(dataset, [_os_error_item(error)])
        _remove_upload(dataset)


@contextmanager
def _own_folder(dataset: Dataset) -> Iterator[Path | None]:
    """The empty temporary folder, locked; None when there is nothing to do or another process is at it.

    Whatever is left of the folder at the end is removed, and so is a final folder that no row vouches for.
    """
    folder = Path(settings.DATASETS_DIR) / f".import-{dataset.pk}"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not _lock(descriptor, folder):
            yield None
            return
        stored = Dataset.objects.filter(pk=dataset.pk).first()
        if stored is None or stored.status != Dataset.Status.IMPORTING:
            shutil.rmtree(folder)
            _remove_upload(dataset)
            _refresh(dataset)
            yield None
            return
        _empty(folder)
        shutil.rmtree(dataset.folder, ignore_errors=True)  # renamed, but the row never came to say so
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _refresh(dataset)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> bool:
    """Whether this process now holds the folder; False too when it was renamed or removed meanwhile."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_ino == folder.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _refresh(dataset: Dataset) -> None:
    if Dataset.objects.filter(pk=dataset.pk).exists():
        dataset.refresh_from_db()


class _Heartbeat:
    """Says in the dataset's row that the import lives and how far it is, about twice a second."""

    def __init__(self, dataset: Dataset, on_progress: Progress | None) -> None:
        self.dataset = dataset
        self.on_progress = on_progress
        self._next_s = 0.0

    def beat(self, done: int, total: int) -> None:
        """Raises _GoneError when there is no such import any more."""
        if self.on_progress:
            self.on_progress(done, total)
        if time.monotonic() < self._next_s and done != total:
            return
        _update(self.dataset, heartbeat_at=timezone.now(), progress_done=done, progress_total=total)
        self._next_s = time.monotonic() + PROGRESS_INTERVAL_S


def _update(dataset: Dataset, **values: Any) -> None:
    """Write to the row while it is still importing. Raises _GoneError otherwise."""
    if not Dataset.objects.filter(pk=dataset.pk, status=Dataset.Status.IMPORTING).update(**values):
        raise _GoneError


def _import(dataset: Dataset, folder: Path, heartbeat: _Heartbeat) -> None:
    report = Report()
    _update(dataset, heartbeat_at=timezone.now())
    with open_source(Path(dataset.source)) as source:
        layout = recognise(source, report)
        report.raise_errors()  # nothing is copied for a layout that cannot be used
        needed = [*(picture.file for picture in layout.pictures), *layout.extras]
        check_disk(folder, sum(file.size_bytes for file in needed))
        taken = _copy_pictures(layout, folder, heartbeat, report)
        extras_bytes = sum(_copy(file, folder / file.path)[1] for file in layout.extras)
    _check_duplicates(taken, report)
    report.raise_errors()  # of pictures: validation needs sound ones to choose from
    splits = _splits(taken)
    _check_val(taken, splits, layout.classes, report)
    report.raise_errors()
    values = _write_dataset(dataset, folder, layout, taken, splits)
    values["size_bytes"] += extras_bytes
    _publish(folder, dataset.folder)
    try:
        _update(dataset, status=Dataset.Status.READY, report=report.items(), **values)
    except _GoneError:
        shutil.rmtree(dataset.folder, ignore_errors=True)
        raise


# Pictures


def _copy_pictures(layout: Layout, folder: Path, heartbeat: _Heartbeat, report: Report) -> list[_Taken]:
    """Copy and decode every picture; problems and notes go into the report."""
    taken: list[_Taken] = []
    total = len(layout.pictures)
    with ThreadPoolExecutor(_THREADS) as pool:
        for item in _map_windowed(pool, lambda picture: _take(picture, folder), layout.pictures):
            report.extend(item.problems)
            taken.append(item)
            heartbeat.beat(len(taken), total)
    _report_notes(taken, report)
    return taken


def _map_windowed(
    pool: ThreadPoolExecutor, work: Callable[[Picture], _Taken], pictures: Iterable[Picture]
) -> Iterator[_Taken]:
    """Like `pool.map`, but with few tasks waiting at a time, so that memory stays flat and an error ends it soon."""
    rest = iter(pictures)
    while window := list(islice(rest, _WINDOW)):
        yield from pool.map(work, window)


def _take(picture: Picture, folder: Path) -> _Taken:
    path = folder / picture.stored_path
    try:
        digest, size_bytes = _copy(picture.file, path)
    except DatasetError as error:
        return _Taken(picture, "", 0, problems=error.items)
    try:
        facts = examine(path, picture.file.path)
    except DatasetError as error:
        return _Taken(picture, digest, size_bytes, problems=error.items)
    return _Taken(picture, digest, size_bytes, facts.width, facts.height, facts.notes)


def _copy(file: SourceFile, path: Path) -> tuple[str, int]:
    """Copy byte by byte; returns the SHA-256 and the number of bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("xb") as target:
        size_bytes = copy_limited(file, target, digest.update)
    return digest.hexdigest(), size_bytes


def _report_notes(taken: list[_Taken], report: Report) -> None:
    examples: dict[str, list[str]] = defaultdict(list)
    for item in taken:
        for note in item.notes:
            examples[note].append(item.picture.file.path)
    for code, files in examples.items():
        subject = "1 picture is" if len(files) == 1 else f"{len(files):,} pictures are"
        report.warn(code, f"{subject} {NOTES[code]}.", files[0], count=len(files))


def _check_duplicates(taken: list[_Taken], report: Report) -> None:
    """Warn of equal pictures: across classes one label is wrong, across splits the validation is too good."""
    first: dict[str, _Taken] = {}
    for item in taken:
        if not item.digest:
            continue
        other = first.setdefault(item.digest, item)
        if other is item:
            continue
        here, there = item.picture.file.path, other.picture.file.path
        if item.picture.label != other.picture.label:
            report.warn("duplicate_label", f"{here} equals {there}, which has another class.", here)
        if item.picture.split != other.picture.split:
            report.warn("leak", f"{here} equals {there}: training sees a picture of the validation.", here)
        elif item.picture.label == other.picture.label:
            report.warn("duplicate", f"{here} equals {there}.", here)


def _splits(taken: list[_Taken]) -> list[Split]:
    """The split of each picture, chosen where the source has no validation pictures."""
    if any(item.picture.split == "val" for item in taken):
        return [item.picture.split or "train" for item in taken]
    by_label: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for index, item in enumerate(taken):
        by_label[item.picture.label].append((index, item.digest))
    val = set[int]().union(*(choose_val(digests) for digests in by_label.values()))
    return ["val" if index in val else "train" for index in range(len(taken))]


def _check_val(taken: list[_Taken], splits: list[Split], classes: list[str], report: Report) -> None:
    with_val = {item.picture.label for item, split in zip(taken, splits, strict=True) if split == "val"}
    if not with_val:
        report.error("no_val", "No picture is left for validation: at least one class needs two different pictures.")
        return
    for label, name in enumerate(classes):
        if label not in with_val:
            report.warn("class_without_val", f"The class {name} has no picture for validation.", name)


# What is written in the end


def _write_dataset(
    dataset: Dataset, folder: Path, layout: Layout, taken: list[_Taken], splits: list[Split]
) -> dict[str, Any]:
    """Write the index; returns the fields of the row."""
    ordered = sorted(
        zip(taken, splits, strict=True), key=lambda pair: (pair[1] != "train", pair[0].picture.label)
    )  # stable: within a class the order of names stays
    fingerprint = _fingerprint(layout.classes, ordered)
    samples = (
        Sample(item.picture.stored_path, item.picture.label, split, item.width, item.height) for item, split in ordered
    )
    write_index(
        folder,
        name=dataset.name,
        recipes=["classification"],
        classes=layout.classes,
        fingerprint=fingerprint,
        samples=samples,
    )
    index_bytes = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return {
        "classes": layout.classes,
        "counts": _counts(layout.classes, ordered),
        "pictures": dict(Counter(split for _item, split in ordered)),
        "recipes": ["classification"],
        "fingerprint": fingerprint,
        "size_bytes": index_bytes + sum(item.size_bytes for item in taken),
    }


def _fingerprint(classes: list[str], ordered: list[tuple[_Taken, Split]]) -> str:
    """SHA-256 in hex over the sorted (split, class, SHA-256) of all pictures: names and places do not matter."""
    lines = sorted(f"{split}\t{classes[item.picture.label]}\t{item.digest}\n" for item, split in ordered)
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()


def _counts(classes: list[str], ordered: list[tuple[_Taken, Split]]) -> dict[str, dict[str, int]]:
    found = Counter((split, item.picture.label) for item, split in ordered)
    return {split: {name: found[split, label] for label, name in enumerate(classes)} for split in get_args(Split)}


def _publish(folder: Path, final: Path) -> None:
    """Bring everything to the disk, then rename: a power cut leaves the whole dataset or none."""
    os.sync()  # one flush for all files: fsync of each would take minutes for many small ones
    folder.rename(final)
    descriptor = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse(dataset: Dataset, items: list[ReportItem]) -> None:
    Dataset.objects.filter(pk=dataset.pk, status=Dataset.Status.IMPORTING).update(
        status=Dataset.Status.REFUSED, report=items, heartbeat_at=timezone.now()
    )
    log.info("import refused", dataset=dataset.pk, errors=len(items))


def _remove_upload(dataset: Dataset) -> None:
    """Remove the uploaded zip, and never anything that lies elsewhere."""
    path = Path(dataset.source)
    if dataset.source_is_upload and path.resolve().is_relative_to(Path(settings.UPLOADS_DIR).resolve()):
        path.unlink(missing_ok=True)


def _os_error_item(error: OSError) -> ReportItem:
    name = error.filename if isinstance(error.filename, str) else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        code, message = "disk_full", "The disk of the studio filled up during the import. Nothing was kept."
    elif isinstance(error, FileNotFoundError):
        code, message = "source_missing", f"{Path(name).name or 'The source'} is not there (any more)."
    elif isinstance(error, PermissionError):
        code, message = "not_permitted", f"The studio may not read or write {Path(name).name or 'a file'}."
    else:
        code, message = "read_error", f"A file could not be read or written: {error.strerror or error}."
    return {"level": "error", "code": code, "file": Path(name).name, "message": message}
