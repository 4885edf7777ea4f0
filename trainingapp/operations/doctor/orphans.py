"""Files without their row, and rows without their files."""

from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from trainingapp.contract.run_directory import CONFIG_FILE
from trainingapp.models import Dataset, Job, TrainingRun, Weights, trash
from trainingapp.models.run import Status
from trainingapp.operations.doctor.files import bytes_of, file_without_row, folders, is_old, without_row
from trainingapp.operations.doctor.finding import Finding, ok
from trainingapp.operations.doctor.saved import checkpoint_files, checkpoint_rows
from trainingapp.presentation.event_text import damage_text


def orphans() -> Iterator[Finding]:
    """Every kind of thing that lies on the disk, looked at both ways."""
    found = [*_runs(), *checkpoint_rows(), *checkpoint_files(), *_datasets(), *_weights(), *_jobs(), *_uploads()]
    found += _trash()
    yield from found or [ok("files", _("Files and rows belong together."))]


def _runs() -> Iterator[Finding]:
    root = Path(settings.RUNS_DIR)
    known = set(TrainingRun.objects.values_list("pk", flat=True))
    for folder in folders(root):
        if folder.name.endswith(".orphan") or (folder.name.isdecimal() and int(folder.name) not in known):
            yield without_row(folder)
    for run in TrainingRun.objects.exclude(status__in=(Status.PENDING, Status.QUEUED)):
        if not (run.folder / CONFIG_FILE).exists() and run.attempt:
            message = _("Run %(id)d “%(name)s” has no folder.") % {"id": run.pk, "name": run.name}
            yield Finding("files", "error", message, _("Put its files back from a copy, or delete the run."))


def _datasets() -> Iterator[Finding]:
    known = set(Dataset.objects.values_list("pk", flat=True))
    for folder in folders(Path(settings.DATASETS_DIR)):
        if folder.name.isdecimal() and int(folder.name) not in known:
            yield without_row(folder)
    for dataset in Dataset.objects.filter(status=Dataset.Status.READY):
        if not dataset.folder.exists():
            message = _("The dataset “%(name)s” has no folder.") % {"name": dataset}
            yield Finding("files", "error", message, _("Its runs cannot be resumed. Restore its files, or delete it."))


def _weights() -> Iterator[Finding]:
    rows = list(Weights.objects.all())
    for weights in rows:
        if not weights.path.exists():
            message = _("The weights “%(name)s” have no file.") % {"name": weights}
            yield Finding("files", "error", message, _("Put the file back from a copy, or delete them."))
        elif weights.damage:
            message = _("The file of the weights “%(name)s” %(wrong)s.") % {
                "name": weights,
                "wrong": damage_text(weights),
            }
            yield Finding("files", "error", message, _("Put the file back from a copy, or delete them."))
    known = {weights.pk for weights in rows}
    for folder in folders(Path(settings.WEIGHTS_DIR)):
        if folder.name.isdecimal() and int(folder.name) not in known and is_old(folder):
            yield without_row(folder)


def _jobs() -> Iterator[Finding]:
    known = {pk.hex for pk in Job.objects.values_list("pk", flat=True)}
    for folder in Path(settings.JOBS_DIR).glob("?" * 32):
        if folder.name not in known and is_old(folder):
            yield without_row(folder)


def _uploads() -> Iterator[Finding]:
    known = set(Dataset.objects.filter(source_is_upload=True).values_list("source", flat=True))
    for path in sorted(Path(settings.UPLOADS_DIR).glob("*.zip")):
        if str(path) not in known and is_old(path):
            yield file_without_row(path)


def _trash() -> Iterator[Finding]:
    roots = (Path(settings.RUNS_DIR), Path(settings.DATASETS_DIR))
    left = [folder for root in roots for folder in folders(root / trash.TRASH)]
    if left:
        message = _("%(count)d deletions were cut short (%(size)s).")
        message = message % {"count": len(left), "size": filesizeformat(bytes_of(left))}
        fix = _("Finish them: put back what has its row, remove what has none.")
        yield Finding("files", "warning", message, _("A worker does it when it starts."), fix, _sweep)


def _sweep() -> str:
    trash.sweep()
    return _("The deletions were finished.")
