"""Checkpoints on the disk and their rows: files without a row, rows without a file, packs that none needs, and rot."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from trainingapp.contract.storage.sizes import unneeded_packs
from trainingapp.models import Checkpoint, TrainingRun
from trainingapp.models.run import Status
from trainingapp.operations.doctor.files import file_without_row, is_old, remove_file
from trainingapp.operations.doctor.finding import Finding
from trainingapp.presentation.event_text import damage_text
from trainingapp.runs.checkpoint_files import BusyError, held


def checkpoint_rows() -> Iterator[Finding]:
    """Rows without their file, and those that the scrub has marked."""
    for saved in Checkpoint.objects.exclude(run__status=Status.RUNNING).select_related("run"):
        if not saved.path.exists():
            message = _("The checkpoint %(name)s has no file.") % {"name": saved}
            meaning = _("It was deleted manually or lost by the disk. The run resumes from another one.")
            yield Finding("files", "warning", message, meaning, _("Remove its row."), partial(_forget, saved))
        elif saved.damage:
            message = _("The checkpoint %(name)s %(wrong)s.") % {"name": saved, "wrong": damage_text(saved)}
            meaning = _(
                "The disk has changed it. Put its files back from a copy, or delete it: the run uses another one."
            )
            yield Finding("files", "warning", message, meaning)


def _forget(saved: Checkpoint) -> str:
    saved.delete()
    return _("The row of %(name)s was removed.") % {"name": saved}


def checkpoint_files() -> Iterator[Finding]:
    """Only of runs that nobody trains: a trainer saves a file before it says so."""
    for run in TrainingRun.objects.exclude(status__in=(Status.RUNNING, Status.QUEUED)):
        folder = run.folder / "checkpoints"
        known = set(run.checkpoints.values_list("file", flat=True)) | _indexed(folder)
        for path in sorted([*folder.glob("*.pt"), *folder.glob("*.tmp")]):
            if path.name not in known and is_old(path):
                yield file_without_row(path, partial(_remove_checkpoint, run, path))
        for path in unneeded_packs(folder):
            if is_old(path):
                yield _pack_without_use(run, path)


def _indexed(folder: Path) -> set[str]:
    """Files that the trainer itself counts as checkpoints."""
    try:
        return {str(entry["file"]) for entry in json.loads((folder / "index.json").read_text())}
    except (OSError, ValueError, TypeError, KeyError):
        return set()


def _pack_without_use(run: TrainingRun, path: Path) -> Finding:
    size = filesizeformat(path.stat().st_size)
    message = _("%(path)s (%(size)s) holds nothing that a checkpoint needs.") % {"path": path, "size": size}
    meaning = _("It was left by something that was cut short.")
    return Finding("files", "warning", message, meaning, _("Remove the file."), partial(_remove_pack, run, path))


def _remove_checkpoint(run: TrainingRun, path: Path) -> str:
    """Remove a file that is no checkpoint, and the packs that it alone needed."""
    folder = run.folder / "checkpoints"
    with _at_rest(run):
        others = unneeded_packs(folder)
        told = [remove_file(path)]
        told += [remove_file(pack) for pack in unneeded_packs(folder) if pack not in others]
    return " ".join(told)


def _remove_pack(run: TrainingRun, path: Path) -> str:
    """Looks again first: a trainer may have begun and ended since."""
    with _at_rest(run):
        if path not in unneeded_packs(run.folder / "checkpoints"):
            return _("%(path)s is needed now, and stays.") % {"path": path}
        return remove_file(path)


@contextmanager
def _at_rest(run: TrainingRun) -> Iterator[None]:
    try:
        with held(run):
            yield
    except BusyError:
        raise ValueError(_("A trainer works on run %(id)d.") % {"id": run.pk}) from None
