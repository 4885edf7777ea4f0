"""What the studio takes on the disk, by user, run, dataset and purpose.

Measuring looks at every file, so its result is kept in DATA_DIR/disk_usage.json: pages read that and say how old it is.
They measure again after a day, and when asked.
"""

import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from trainingapp.contract.storage.durable import write_durably
from trainingapp.models import Dataset, TrainingRun, Weights
from trainingapp.models.trash import TRASH

USAGE_FILE = "disk_usage.json"
MODELS = {"runs": TrainingRun, "datasets": Dataset, "weights": Weights}


@dataclass(frozen=True)
class Share:
    """One thing and what it takes; `url` and `owner` are empty for what has no row any more."""

    name: str
    bytes: int
    files: int
    url: str = ""
    owner: str = ""


@dataclass(frozen=True)
class Usage:
    """What was measured, largest first. `other` is what belongs to nobody: trash, jobs, caches, the database."""

    measured_at: float
    disk_bytes: int
    free_bytes: int
    runs: list[Share] = field(default_factory=list)
    datasets: list[Share] = field(default_factory=list)
    weights: list[Share] = field(default_factory=list)
    other: list[Share] = field(default_factory=list)

    @property
    def used_bytes(self) -> int:
        return sum(share.bytes for share in (*self.runs, *self.datasets, *self.weights, *self.other))

    def by_user(self) -> list[dict[str, Any]]:
        """Each owner with the bytes of runs, datasets and weights, and their sum; largest first."""
        sums: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(MODELS, 0))
        for kind in MODELS:
            for share in getattr(self, kind):
                sums[share.owner][kind] += share.bytes
        rows = [{"name": name, **kinds, "total": sum(kinds.values())} for name, kinds in sums.items()]
        return sorted(rows, key=lambda row: -row["total"])


def usage() -> Usage | None:
    """What was measured last, with the present names and owners; None where nothing was yet."""
    try:
        stored = json.loads((Path(settings.DATA_DIR) / USAGE_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    disk = shutil.disk_usage(settings.DATA_DIR)
    kinds = {kind: _named(model, stored[kind]) for kind, model in MODELS.items()}
    other = [Share(name, *sizes) for name, sizes in stored["other"].items() if sizes[0]]
    return Usage(stored["measured_at"], disk.total, disk.free, **kinds, other=_largest_first(other))


def measure() -> Usage:
    """Look at every file now and keep the result. A file that several datasets share counts for the first of them."""
    seen: set[tuple[int, int]] = set()
    roots = {"runs": settings.RUNS_DIR, "datasets": settings.DATASETS_DIR, "weights": settings.WEIGHTS_DIR}
    stored: dict[str, Any] = {kind: _by_number(Path(root), seen) for kind, root in roots.items()}
    stored["other"] = {
        "trash": _sum(_size(Path(root) / TRASH, seen) for root in roots.values()),
        "jobs": _size(Path(settings.JOBS_DIR), seen),
        "uploads": _size(Path(settings.UPLOADS_DIR), seen),
        "downloaded weights": _size(Path(settings.WEIGHTS_CACHE_DIR), seen),
        "database": _database_size(seen),
    }
    stored["measured_at"] = time.time()
    write_durably(Path(settings.DATA_DIR) / USAGE_FILE, [json.dumps(stored).encode()])
    found = usage()
    assert found is not None
    return found


def _by_number(root: Path, seen: set[tuple[int, int]]) -> dict[str, tuple[int, int]]:
    folders = [folder for folder in root.iterdir() if not folder.name.startswith(".")] if root.is_dir() else []
    return {folder.name: _size(folder, seen) for folder in sorted(folders) if folder.is_dir()}


def _database_size(seen: set[tuple[int, int]]) -> tuple[int, int]:
    files = [path for path in Path(settings.DATA_DIR).glob("*.sqlite3*") if path.is_file()]
    return sum(_counted(path.stat(), seen) for path in files), len(files)


def _size(folder: Path, seen: set[tuple[int, int]]) -> tuple[int, int]:
    """Bytes and files below a folder; one that goes away meanwhile takes nothing."""
    total, count, todo = 0, 0, [str(folder)]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    else:
                        total, count = total + _counted(entry.stat(follow_symlinks=False), seen), count + 1
        except (FileNotFoundError, NotADirectoryError):
            continue
    return total, count


def _counted(status: os.stat_result, seen: set[tuple[int, int]]) -> int:
    """Bytes of a file that was not counted under another name."""
    if status.st_nlink > 1:
        key = (status.st_dev, status.st_ino)
        if key in seen:
            return 0
        seen.add(key)
    return status.st_size


def _sum(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    found = list(sizes)
    return sum(size for size, _files in found), sum(files for _size, files in found)


def _named(model: Any, sizes: dict[str, list[int]]) -> list[Share]:
    """The shares of rows, with their names; what has no row keeps the name of its folder."""
    numbers = [int(name) for name in sizes if name.isdecimal()]
    rows = {str(row.pk): row for row in _rows(model, numbers)}
    shares = []
    for name, (size, files) in sizes.items():
        row = rows.get(name)
        about = (
            (str(row), size, files, row.get_absolute_url(), row.owner.get_username()) if row else (name, size, files)
        )
        shares.append(Share(*about))
    return _largest_first(shares)


def _rows(model: Any, numbers: list[int]) -> Iterable[Any]:
    """In pieces: SQLite takes no more than so many numbers at a time."""
    for start in range(0, len(numbers), 500):
        yield from model.objects.filter(pk__in=numbers[start : start + 500]).select_related("owner")


def _largest_first(shares: list[Share]) -> list[Share]:
    return sorted(shares, key=lambda share: -share.bytes)
