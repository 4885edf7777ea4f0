"""What belongs to nothing, and how it is removed."""

import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from trainingapp.operations.doctor.finding import Finding

#: A file may be there some time before its row is.
YOUNG_S = 3600.0


def without_row(folder: Path) -> Finding:
    size = filesizeformat(bytes_of([folder]))
    message = _("%(folder)s (%(size)s) belongs to nothing.") % {"folder": folder, "size": size}
    meaning = _("It is of another database that used this folder, or of one that was put back from a copy.")
    return Finding("files", "warning", message, meaning, _("Remove the folder."), partial(_remove_folder, folder))


def file_without_row(path: Path, mend: Callable[[], str] | None = None) -> Finding:
    size = filesizeformat(path.stat().st_size)
    message = _("%(path)s (%(size)s) belongs to nothing.") % {"path": path, "size": size}
    meaning = _("It was left by something that was cut short.")
    return Finding("files", "warning", message, meaning, _("Remove the file."), mend or partial(remove_file, path))


def removed(path: Path) -> str:
    return _("%(path)s was removed.") % {"path": path}


def _remove_folder(folder: Path) -> str:
    shutil.rmtree(folder)
    return removed(folder)


def remove_file(path: Path) -> str:
    path.unlink(missing_ok=True)
    return removed(path)


def folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def is_old(path: Path) -> bool:
    return path.stat().st_mtime < time.time() - YOUNG_S


def bytes_of(paths: Iterable[Path]) -> int:
    return sum(path.lstat().st_size for folder in paths for path in folder.rglob("*") if path.is_file())
