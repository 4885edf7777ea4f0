"""Checkpoints and their rows: files without a row, rows without a file, packs that no checkpoint needs, and damage."""

import json
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from django.conf import settings
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
from trainingapp.supervision.identity import runs_dir_id


def checkpoint_rows() -> Iterator[Finding]:
    """Rows without their file, and rows whose file failed the hash check."""
    rows = Checkpoint.objects.exclude(run__status=Status.RUNNING).order_by("run_id", "pk")
    if here := runs_dir_id():  # the files of others are on hosts with other directories
        rows = rows.filter(run__runs_dir_id__in=("", here))
    # Only the columns that are needed, and one look into each folder: there are as many as a hundred rows for each run.
    values = rows.values_list("run_id", "pk", "file", "damage").iterator()
    for run_id, saved in groupby(values, key=itemgetter(0)):
        present = _names(Path(settings.RUNS_DIR) / str(run_id) / "checkpoints")
        for _run_id, pk, file, damage in saved:
            if file not in present:
                message = _("The checkpoint %(name)s has no file.") % {"name": f"{run_id}/{file}"}
                meaning = _("It was deleted manually or lost by the disk. The run resumes from another one.")
                fix = _("Remove its row.")
                yield Finding("files", "warning", message, meaning, fix, partial(repairs.remove_checkpoint_row, pk))
            elif damage:
                wrong = damage_text(Checkpoint.objects.get(pk=pk))
                message = _("The checkpoint %(name)s %(wrong)s.") % {"name": f"{run_id}/{file}", "wrong": wrong}
                meaning = _(
                    "The stored data changed. Restore its files from a copy, or delete it: the run uses another one."
                )
                yield Finding("files", "warning", message, meaning)


def checkpoint_files() -> Iterator[Finding]:
    """Files without a row, of runs that are not being trained: a trainer saves a file before it reports it."""
    for run in TrainingRun.objects.exclude(status__in=(Status.RUNNING, Status.QUEUED)).only("name").iterator():
        folder = run.folder / "checkpoints"
        names = {name for name in _names(folder) if name.endswith((".pt", ".tmp"))}
        if unlisted := names - _indexed(folder):
            for name in sorted(unlisted.difference(run.checkpoints.values_list("file", flat=True))):
                if is_old(folder / name):
                    yield file_without_row(folder / name, partial(repairs.remove_checkpoint_file, run, folder / name))
        for path in unneeded_packs(folder):
            if is_old(path):
                size = filesizeformat(path.stat().st_size)
                message = _("%(path)s (%(size)s) contains nothing that a checkpoint needs.")
                message = message % {"path": path, "size": size}
                meaning, fix = _("An interrupted operation left it."), _("Remove the file.")
                yield Finding("files", "warning", message, meaning, fix, partial(repairs.remove_pack, run, path))


def _names(folder: Path) -> set[str]:
    """The names in a folder; none if it does not exist."""
    try:
        return {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return set()


def _indexed(folder: Path) -> set[str]:
    """Files that the trainer counts as checkpoints.

    Reads the names alone, not by `read_index`: an entry of another version still protects its file.
    """
    try:
        return {str(entry["file"]) for entry in json.loads((folder / INDEX_FILE).read_text())}
    except (OSError, ValueError, TypeError, KeyError):
        return set()
