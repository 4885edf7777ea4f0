"""Findings about files without a database row, and helpers of the checks that look for them."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from trainingapp.operations.doctor import repairs
from trainingapp.operations.doctor.finding import Finding

#: Seconds for which a file may exist before its row does.
YOUNG_S = 3600.0
#: Findings of one kind that are reported one by one.
MOST_FINDINGS = 100


def folder_without_row(folder: Path) -> Finding:
    size = filesizeformat(bytes_of([folder]))
    message = _("%(folder)s (%(size)s) has no database row.") % {"folder": folder, "size": size}
    meaning = _("It belongs to another database that used this folder, or to rows newer than a restored database.")
    return Finding("files", "warning", message, meaning, _("Remove the folder."), partial(repairs.remove, folder))


def file_without_row(path: Path, repair: Callable[[], str] | None = None) -> Finding:
    """`repair` replaces the plain removal of the file."""
    size = filesizeformat(path.stat().st_size)
    message = _("%(path)s (%(size)s) has no database row.") % {"path": path, "size": size}
    meaning = _("An interrupted operation left it.")
    return Finding("files", "warning", message, meaning, _("Remove the file."), repair or partial(repairs.remove, path))


def first_findings(found: Iterable[Finding]) -> list[Finding]:
    """The first MOST_FINDINGS of a kind, and one more that counts the others: a lost disk makes tens of thousands."""
    remaining = iter(found)
    first = list(islice(remaining, MOST_FINDINGS))
    others = Counter(finding.severity for finding in remaining)
    if count := others.total():
        message = ngettext(
            "%(count)d further problem of this kind was found.",
            "%(count)d further problems of this kind were found.",
            count,
        ) % {"count": count}
        meaning = _("Only the first %(count)d are listed.") % {"count": MOST_FINDINGS}
        first.append(Finding("files", "error" if others["error"] else "warning", message, meaning))
    return first


def folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def is_old(path: Path) -> bool:
    """Whether the file is so old that its row should exist."""
    return path.stat().st_mtime < time.time() - YOUNG_S


def bytes_of(paths: Iterable[Path]) -> int:
    return sum(path.lstat().st_size for folder in paths for path in folder.rglob("*") if path.is_file())
