"""Scratch folders of backups and restores, and the disk space that these need."""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from trainingapp.operations.backup.parts import BackupError

BACKUP_PREFIX, RESTORE_PREFIX = ".backup-", ".restore-"
LOCK_FILE = "lock"
#: Seconds within which a process locks its new folder. Versions before 0.2 did not lock theirs.
UNLOCKED_S = 3600.0


@contextmanager
def scratch(root: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `root`, removed afterwards. A killed process leaves its folder, which the next one removes."""
    for path in abandoned(root, prefix):
        shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=prefix) as name, (Path(name) / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(name)


def abandoned(root: Path, prefix: str) -> list[Path]:
    """The scratch folders in `root` whose process is gone: the system released its lock."""
    return [path for path in sorted(root.glob(f"{prefix}*")) if path.is_dir() and _is_abandoned(path)]


def _is_abandoned(folder: Path) -> bool:
    try:
        with (folder / LOCK_FILE).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return folder.exists() and folder.stat().st_mtime < time.time() - UNLOCKED_S
    return True


def require_space(needs: Iterable[tuple[Path, int]]) -> None:
    """Raise BackupError unless each disk has the bytes that the folders on it need together."""
    by_disk: dict[int, tuple[Path, int]] = {}
    for folder, count in needs:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        device = nearest.stat().st_dev
        first, sum_before = by_disk.get(device, (nearest, 0))
        by_disk[device] = first, sum_before + count
    for folder, needed in by_disk.values():
        free = shutil.disk_usage(folder).free
        if needed > free:
            message = _("Not enough disk space in %(folder)s: about %(needed)s are needed, %(free)s are free.")
            values = {"folder": folder, "needed": filesizeformat(needed), "free": filesizeformat(free)}
            raise BackupError(message % values)
