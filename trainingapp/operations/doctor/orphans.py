"""Files without their row, and rows without their files."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from django.conf import settings
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from trainingapp.contract.run_directory import CONFIG_FILE
from trainingapp.models import Dataset, Job, TrainingRun, Weights, trash
from trainingapp.models.run import Status
from trainingapp.operations.backup.scratch import BACKUP_PREFIX, RESTORE_PREFIX, abandoned
from trainingapp.operations.doctor import repairs
from trainingapp.operations.doctor.files import (
    bytes_of,
    file_without_row,
    first_findings,
    folder_without_row,
    folders,
    is_old,
)
from trainingapp.operations.doctor.finding import Finding, ok
from trainingapp.operations.doctor.saved import checkpoint_files, checkpoint_rows
from trainingapp.presentation.event_text import damage_text
from trainingapp.supervision.identity import data_dir_id, runs_dir_id


def orphans() -> Iterator[Finding]:
    """Compare the files of every kind with the rows, in both directions, and report interrupted deletions."""
    checks = (_rows_without_files, checkpoint_rows, _files_without_row, checkpoint_files, _interrupted_copies)
    found = [finding for check in checks for finding in first_findings(check())]
    roots = (Path(settings.RUNS_DIR), Path(settings.DATASETS_DIR))
    if left := [folder for root in roots for folder in folders(root / trash.TRASH)]:
        message = _("%(count)d deletions were interrupted (%(size)s).")
        message = message % {"count": len(left), "size": filesizeformat(bytes_of(left))}
        fix = _("Finish them: restore the files that have a row, remove the others.")
        meaning = _("A worker finishes them when it starts.")
        found.append(Finding("files", "warning", message, meaning, fix, repairs.finish_deletions))
    yield from found or [ok("files", _("All files have rows, and all rows have files."))]


def _files_without_row() -> Iterator[Finding]:
    for root, model in (
        (settings.RUNS_DIR, TrainingRun),
        (settings.DATASETS_DIR, Dataset),
        (settings.WEIGHTS_DIR, Weights),
    ):
        known = set(model._default_manager.values_list("pk", flat=True))
        for folder in folders(Path(root)):
            is_unknown = folder.name.isdecimal() and int(folder.name) not in known
            # The file of a model is complete before its row is written; runs and datasets have their row first.
            if model is Weights and not is_old(folder):
                continue
            # The supervisor renames an unexpected folder to *.orphan.
            if is_unknown or (model is TrainingRun and folder.name.endswith(".orphan")):
                yield folder_without_row(folder)
    jobs = {pk.hex for pk in Job.objects.values_list("pk", flat=True)}
    for folder in Path(settings.JOBS_DIR).glob("?" * 32):
        if folder.name not in jobs and is_old(folder):
            yield folder_without_row(folder)
    uploads = set(Dataset.objects.filter(source_is_upload=True).values_list("source", flat=True))
    for path in sorted(Path(settings.UPLOADS_DIR).glob("*.zip")):
        if str(path) not in uploads and is_old(path):
            yield file_without_row(path)


def _interrupted_copies() -> Iterator[Finding]:
    """Scratch folders of backups and restores whose process was killed."""
    for root in (Path(settings.DATA_DIR), Path(settings.RUNS_DIR)):
        for folder in [*abandoned(root, BACKUP_PREFIX), *abandoned(root, RESTORE_PREFIX)]:
            size = filesizeformat(bytes_of([folder]))
            message = _("%(folder)s (%(size)s) was left by an interrupted backup or restore.")
            message = message % {"folder": folder, "size": size}
            meaning, fix = _("The next backup or restore removes it."), _("Remove the folder.")
            yield Finding("files", "warning", message, meaning, fix, partial(repairs.remove, folder))


def _rows_without_files() -> Iterator[Finding]:
    trained = TrainingRun.objects.exclude(status__in=(Status.PENDING, Status.QUEUED)).filter(attempt__gt=0)
    datasets = Dataset.objects.filter(status=Dataset.Status.READY)
    if settings.OBJECT_STORE_URL:  # the files of others are on hosts with other directories
        trained = trained.filter(runs_dir_id__in=("", runs_dir_id()))
        datasets = datasets.filter(data_dir_id__in=("", data_dir_id()))
    for run in trained.only("name").iterator():  # a row holds up to 100 KB
        if not (run.folder / CONFIG_FILE).exists():
            message = _("Run %(id)d “%(name)s” has no folder.") % {"id": run.pk, "name": run.name}
            yield Finding("files", "error", message, _("Restore its files from a copy, or delete the run."))
    for dataset in datasets.only("name").iterator():
        if not dataset.folder.exists():
            message = _("The dataset “%(name)s” has no folder.") % {"name": dataset}
            yield Finding("files", "error", message, _("Its runs cannot be resumed. Restore its files, or delete it."))
    for weights in Weights.objects.iterator():
        if not weights.path.exists():
            message = _("The file of model “%(name)s” is missing.") % {"name": weights}
        elif weights.damage:
            message = _("The file of model “%(name)s” %(wrong)s.") % {"name": weights, "wrong": damage_text(weights)}
        else:
            continue
        yield Finding("files", "error", message, _("Restore the file from a copy, or delete the model."))
