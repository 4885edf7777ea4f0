"""Disk usage of the studio, by user, run, dataset and purpose.

A measurement reads the size of every file, so its result is stored in DATA_DIR/disk_usage.json. Pages read that file
and show its age. They measure again after a day, or on request.
"""

import json
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

from django.conf import settings

from trainingapp.contract.storage.durable import write_durably
from trainingapp.models import Dataset, TrainingRun, Weights
from trainingapp.models.trash import TRASH

USAGE_FILE = "disk_usage.json"
Kind = Literal["runs", "datasets", "weights"]
#: SQLite limits the number of parameters of a query.
BATCH_ROWS = 500

#: Bytes and number of files.
Sizes = tuple[int, int]
#: Device and inode of the files with several names that were counted already.
Seen = set[tuple[int, int]]


class StoredUsage(TypedDict):
    """disk_usage.json. The keys of runs, datasets and weights are the names of their folders."""

    runs: dict[str, Sizes]
    datasets: dict[str, Sizes]
    weights: dict[str, Sizes]
    other: dict[str, Sizes]
    measured_at: float


class UserUsage(TypedDict):
    """Bytes of one owner; `name` is empty for files without a row."""

    name: str
    runs: int
    datasets: int
    weights: int
    total: int


@dataclass(frozen=True)
class Share:
    """The size of one run, dataset, model or purpose; `url` and `owner` are empty if it has no row."""

    name: str
    bytes: int
    files: int
    url: str = ""
    owner: str = ""


@dataclass(frozen=True)
class Usage:
    """The result of a measurement, largest first. `other` has no owner: trash, jobs, caches, the database.

    `measured_at` is in seconds since 1970; the figures of the disk are present ones.
    """

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

    def by_user(self) -> list[UserUsage]:
        """Each owner with the bytes of runs, datasets and weights, and their sum; largest first."""
        users: dict[str, UserUsage] = {}
        kinds: dict[Kind, list[Share]] = {"runs": self.runs, "datasets": self.datasets, "weights": self.weights}
        for kind, shares in kinds.items():
            for share in shares:
                unused = UserUsage(name=share.owner, runs=0, datasets=0, weights=0, total=0)
                user = users.setdefault(share.owner, unused)
                user[kind] += share.bytes
                user["total"] += share.bytes
        return sorted(users.values(), key=lambda user: -user["total"])


def usage() -> Usage | None:
    """The last measurement with the present names and owners; None if there is no valid one."""
    try:
        stored: StoredUsage = json.loads((Path(settings.DATA_DIR) / USAGE_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    disk = shutil.disk_usage(settings.DATA_DIR)
    return Usage(
        stored["measured_at"],
        disk.total,
        disk.free,
        runs=_shares(TrainingRun, stored["runs"]),
        datasets=_shares(Dataset, stored["datasets"]),
        weights=_shares(Weights, stored["weights"]),
        other=_largest_first([Share(name, *sizes) for name, sizes in stored["other"].items() if sizes[0]]),
    )


def measure() -> Usage:
    """Measure now and store the result. A file that several datasets share counts for the first of them."""
    seen: Seen = set()
    runs, datasets, weights = map(Path, (settings.RUNS_DIR, settings.DATASETS_DIR, settings.WEIGHTS_DIR))
    database = [path.stat() for path in Path(settings.DATA_DIR).glob("*.sqlite3*") if path.is_file()]
    stored: StoredUsage = {
        "runs": _folder_sizes(runs, seen),
        "datasets": _folder_sizes(datasets, seen),
        "weights": _folder_sizes(weights, seen),
        "other": {
            "trash": _size([runs / TRASH, datasets / TRASH, weights / TRASH], seen),
            "jobs": _size([Path(settings.JOBS_DIR)], seen),
            "uploads": _size([Path(settings.UPLOADS_DIR)], seen),
            "downloaded weights": _size([Path(settings.WEIGHTS_CACHE_DIR)], seen),
            "database": (sum(_counted(status, seen) for status in database), len(database)),
        },
        "measured_at": time.time(),
    }
    write_durably(Path(settings.DATA_DIR) / USAGE_FILE, [json.dumps(stored).encode()])
    found = usage()
    assert found is not None
    return found


def _folder_sizes(root: Path, seen: Seen) -> dict[str, Sizes]:
    """The size of each folder in `root`, without hidden ones."""
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return {path.name: _size([path], seen) for path in folders if path.is_dir() and not path.name.startswith(".")}


def _size(roots: Iterable[Path], seen: Seen) -> Sizes:
    """Bytes and number of the files below some folders; a folder that is deleted meanwhile does not count."""
    total, count, todo = 0, 0, [str(root) for root in roots]
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


def _counted(status: os.stat_result, seen: Seen) -> int:
    """Bytes of a file; 0 if it was counted under another name."""
    if status.st_nlink > 1:
        key = (status.st_dev, status.st_ino)
        if key in seen:
            return 0
        seen.add(key)
    return status.st_size


def _shares(model: type[TrainingRun] | type[Dataset] | type[Weights], sizes: dict[str, Sizes]) -> list[Share]:
    """The shares of rows, with their names; a folder without a row keeps its own name."""
    numbers = [int(name) for name in sizes if name.isdecimal()]
    shares = {name: Share(name, *size) for name, size in sizes.items()}
    for start in range(0, len(numbers), BATCH_ROWS):
        batch = numbers[start : start + BATCH_ROWS]
        for row in model._default_manager.filter(pk__in=batch).select_related("owner"):
            if (name := str(row.pk)) in sizes:  # a folder "007" is not that of row 7
                shares[name] = Share(str(row), *sizes[name], row.get_absolute_url(), row.owner.get_username())
    return _largest_first(list(shares.values()))


def _largest_first(shares: list[Share]) -> list[Share]:
    return sorted(shares, key=lambda share: -share.bytes)
