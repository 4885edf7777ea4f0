"""What the verbs share: the lock of a row, the checks of a name, and their one kind of refusal."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from trainingapp.contract.limits import MAX_PRIORITY, NAME_LENGTH
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import Dataset, Sweep, TrainingRun, Weights
from trainingapp.models.bell import ring
from trainingapp.models.run import Status
from trainingapp.models.trash import remove

NAMES_SHOWN = 5


class VerbError(ValueError):
    """The verb is not possible now; the message is shown to the user."""


class VersionError(VerbError):
    """Another user has changed the object since it was read."""


class FieldError(VerbError):
    """A parameter of the verb is wrong; `field` is its name."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def changed_meanwhile(item: object) -> VersionError:
    return VersionError(_("“%(name)s” was changed by another user. Read it again.") % {"name": item})


@dataclass(frozen=True)
class DeletionSize:
    """What a deletion frees."""

    bytes: int
    files: int


@contextmanager
def locked(run: TrainingRun) -> Iterator[None]:
    """A transaction that holds the lock of the run's row, read again; rings the bell after the commit."""
    run_id = run.pk
    with transaction.atomic():
        refresh_locked(run)
        yield
        transaction.on_commit(partial(ring, run_id))


def refresh_locked(row: TrainingRun | Dataset | Weights | Sweep) -> None:
    model: Any = type(row)
    try:
        row.refresh_from_db(from_queryset=model._default_manager.select_for_update())
    except model.DoesNotExist:
        raise VerbError(_("“%(name)s” was deleted.") % {"name": row}) from None


def not_possible(run: TrainingRun, verb: str) -> VerbError:
    message = _("The run “%(name)s” is %(status)s and cannot be %(verb)s.")
    return VerbError(message % {"name": run.name, "status": Status(run.status).label, "verb": verb})


def task_problem(name: str) -> str:
    """Why objects of this task can only be looked at and deleted; empty for an installed task."""
    if name in TASKS:
        return ""
    return _("The task “%(task)s” is not installed: its module is missing from STUDIO_TASKS.") % {"task": name}


def require_task(name: str) -> None:
    """Raises VerbError for a task that this installation does not have (any longer)."""
    if problem := task_problem(name):
        raise VerbError(problem)


def checked_name(name: str) -> str:
    name = name.strip()
    if not name:
        raise VerbError(_("A name is needed."))
    if len(name) > NAME_LENGTH:
        raise VerbError(_("The name has more than %(count)d characters.") % {"count": NAME_LENGTH})
    return name


def checked_priority(priority: int) -> int:
    if abs(priority) > MAX_PRIORITY:
        raise VerbError(_("The priority must lie between −%(max)d and %(max)d.") % {"max": MAX_PRIORITY})
    return priority


def folder_size(folder: Path) -> DeletionSize:
    found = [path.lstat() for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    return DeletionSize(bytes=sum(status.st_size for status in found if status.st_nlink < 2), files=len(found))


def remove_trash(trash: Path) -> None:
    """Remove what was moved away, and look whether it is gone. Raises VerbError, which names what is left."""
    if remove(trash):
        return
    size = folder_size(trash)
    names = [path.relative_to(trash).as_posix() for path in sorted(trash.rglob("*")) if not path.is_dir()]
    message = _(
        "It was deleted, but %(count)d files with %(bytes)d bytes could not be removed from %(path)s: %(names)s."
    )
    named = ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
    raise VerbError(message % {"count": size.files, "bytes": size.bytes, "path": trash, "names": named})
