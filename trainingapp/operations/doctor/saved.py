"""Checkpoints and their rows: files without a row, rows without a file, packs that no checkpoint needs, and damage."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from trainingapp.contract.storage.index import INDEX_FILE
from trainingapp.contract.storage.sizes import unneeded_packs
from trainingapp.models import Checkpoint, TrainingRun
from trainingapp.models.run import Status
from trainingapp.operations.doctor import repairs
from trainingapp.operations.doctor.files import file_without_row, is_old
from trainingapp.operations.doctor.finding import Finding
from trainingapp.presentation.event_text import damage_text


def checkpoint_rows() -> Iterator[Finding]:
    """Rows without their file, and rows whose file failed the hash check."""
    for saved in Checkpoint.objects.exclude(run__status=Status.RUNNING).select_related("run"):
        if not saved.path.exists():
            message = _("The checkpoint %(name)s has no file.") % {"name": saved}
            meaning = _("It was deleted manually or lost by the disk. The run resumes from another one.")
            fix = _("Remove its row.")
            yield Finding("files", "warning", message, meaning, fix, partial(repairs.remove_row, saved))
        elif saved.damage:
            message = _("The checkpoint %(name)s %(wrong)s.") % {"name": saved, "wrong": damage_text(saved)}
            meaning = _(
                "The stored data changed. Restore its files from a copy, or delete it: the run uses another one."
            )
            yield Finding("files", "warning", message, meaning)


def checkpoint_files() -> Iterator[Finding]:
    """Files without a row, of runs that are not being trained: a trainer saves a file before it reports it."""
    for run in TrainingRun.objects.exclude(status__in=(Status.RUNNING, Status.QUEUED)):
        folder = run.folder / "checkpoints"
        known = set(run.checkpoints.values_list("file", flat=True)) | _indexed(folder)
        for path in sorted([*folder.glob("*.pt"), *folder.glob("*.tmp")]):
            if path.name not in known and is_old(path):
                yield file_without_row(path, partial(repairs.remove_checkpoint_file, run, path))
        for path in unneeded_packs(folder):
            if is_old(path):
                size = filesizeformat(path.stat().st_size)
                message = _("%(path)s (%(size)s) contains nothing that a checkpoint needs.")
                message = message % {"path": path, "size": size}
                meaning, fix = _("An interrupted operation left it."), _("Remove the file.")
                yield Finding("files", "warning", message, meaning, fix, partial(repairs.remove_pack, run, path))


def _indexed(folder: Path) -> set[str]:
    """Files that the trainer counts as checkpoints.

    Reads the names alone, not by `read_index`: an entry of another version still protects its file.
    """
    try:
        return {str(entry["file"]) for entry in json.loads((folder / INDEX_FILE).read_text())}
    except (OSError, ValueError, TypeError, KeyError):
        return set()
