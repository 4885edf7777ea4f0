"""Files without their row, and rows without their files."""

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from django.conf import settings
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from trainingapp import trash
from trainingapp.doctor.finding import Finding, ok
from trainingapp.engine.run_files import CONFIG_FILE
from trainingapp.models import Checkpoint, Dataset, Job, TrainingRun, Weights
from trainingapp.models.run import Status

#: A file may be there some time before its row is.
YOUNG_S = 3600.0


def orphans() -> Iterator[Finding]:
    """Every kind of thing that lies on the disk, looked at both ways."""
    found = [*_runs(), *_checkpoint_rows(), *_checkpoint_files(), *_datasets(), *_weights(), *_jobs(), *_uploads()]
    found += _trash()
    yield from found or [ok("files", _("Files and rows belong together."))]


def _runs() -> Iterator[Finding]:
    root = Path(settings.RUNS_DIR)
    known = set(TrainingRun.objects.values_list("pk", flat=True))
    for folder in _folders(root):
        if folder.name.endswith(".orphan") or (folder.name.isdecimal() and int(folder.name) not in known):
            yield _without_row(folder)
    for run in TrainingRun.objects.exclude(status__in=(Status.PENDING, Status.QUEUED)):
        if not (run.folder / CONFIG_FILE).exists() and run.attempt:
            message = _("Run %(id)d “%(name)s” has no folder.") % {"id": run.pk, "name": run.name}
            yield Finding("files", "error", message, _("Put its files back from a copy, or delete the run."))


def _checkpoint_rows() -> Iterator[Finding]:
    for saved in Checkpoint.objects.exclude(run__status=Status.RUNNING).select_related("run"):
        if not saved.path.exists():
            message = _("The checkpoint %(name)s has no file.") % {"name": saved}
            meaning = _("It was removed by hand, or the disk lost it. The run goes on from another one.")
            yield Finding("files", "warning", message, meaning, _("Remove its row."), partial(_forget, saved))


def _forget(saved: Checkpoint) -> str:
    saved.delete()
    return _("The row of %(name)s was removed.") % {"name": saved}


def _checkpoint_files() -> Iterator[Finding]:
    """Only of runs that nobody trains: a trainer saves a file before it says so."""
    for run in TrainingRun.objects.exclude(status__in=(Status.RUNNING, Status.QUEUED)):
        folder = run.folder / "checkpoints"
        known = set(run.checkpoints.values_list("file", flat=True)) | _indexed(folder)
        for path in sorted([*folder.glob("*.pt"), *folder.glob("*.tmp")]):
            if path.name not in known and _is_old(path):
                yield _file_without_row(path)


def _indexed(folder: Path) -> set[str]:
    """Files that the trainer itself counts as checkpoints."""
    try:
        return {str(entry["file"]) for entry in json.loads((folder / "index.json").read_text())}
    except (OSError, ValueError, TypeError, KeyError):
        return set()


def _datasets() -> Iterator[Finding]:
    known = set(Dataset.objects.values_list("pk", flat=True))
    for folder in _folders(Path(settings.DATASETS_DIR)):
        if folder.name.isdecimal() and int(folder.name) not in known:
            yield _without_row(folder)
    for dataset in Dataset.objects.filter(status=Dataset.Status.READY):
        if not dataset.folder.exists():
            message = _("The dataset “%(name)s” has no folder.") % {"name": dataset}
            yield Finding("files", "error", message, _("Its runs cannot go on. Put its files back, or delete it."))


def _weights() -> Iterator[Finding]:
    rows = list(Weights.objects.all())
    for weights in rows:
        if not weights.path.exists():
            message = _("The weights “%(name)s” have no file.") % {"name": weights}
            yield Finding("files", "error", message, _("Put the file back from a copy, or delete them."))
    known = {weights.pk for weights in rows}
    for folder in _folders(Path(settings.WEIGHTS_DIR)):
        if folder.name.isdecimal() and int(folder.name) not in known and _is_old(folder):
            yield _without_row(folder)


def _jobs() -> Iterator[Finding]:
    known = {pk.hex for pk in Job.objects.values_list("pk", flat=True)}
    for folder in Path(settings.JOBS_DIR).glob("?" * 32):
        if folder.name not in known and _is_old(folder):
            yield _without_row(folder)


def _uploads() -> Iterator[Finding]:
    known = set(Dataset.objects.filter(source_is_upload=True).values_list("source", flat=True))
    for path in sorted(Path(settings.UPLOADS_DIR).glob("*.zip")):
        if str(path) not in known and _is_old(path):
            yield _file_without_row(path)


def _trash() -> Iterator[Finding]:
    roots = (Path(settings.RUNS_DIR), Path(settings.DATASETS_DIR))
    left = [folder for root in roots for folder in _folders(root / trash.TRASH)]
    if left:
        message = _("%(count)d deletions were cut short (%(size)s).")
        message = message % {"count": len(left), "size": filesizeformat(_bytes_of(left))}
        fix = _("Finish them: put back what has its row, remove what has none.")
        yield Finding("files", "warning", message, _("A worker does it when it starts."), fix, _sweep)


def _sweep() -> str:
    trash.sweep()
    return _("The deletions were finished.")


def _without_row(folder: Path) -> Finding:
    size = filesizeformat(_bytes_of([folder]))
    message = _("%(folder)s (%(size)s) belongs to nothing.") % {"folder": folder, "size": size}
    meaning = _("It is of another database that used this folder, or of one that was put back from a copy.")
    return Finding("files", "warning", message, meaning, _("Remove the folder."), partial(_remove_folder, folder))


def _file_without_row(path: Path) -> Finding:
    size = filesizeformat(path.stat().st_size)
    message = _("%(path)s (%(size)s) belongs to nothing.") % {"path": path, "size": size}
    meaning = _("It was left by something that was cut short.")
    return Finding("files", "warning", message, meaning, _("Remove the file."), partial(_remove_file, path))


def _remove_folder(folder: Path) -> str:
    shutil.rmtree(folder)
    return _("%(path)s was removed.") % {"path": folder}


def _remove_file(path: Path) -> str:
    path.unlink(missing_ok=True)
    return _("%(path)s was removed.") % {"path": path}


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _is_old(path: Path) -> bool:
    return path.stat().st_mtime < time.time() - YOUNG_S


def _bytes_of(folders: Iterable[Path]) -> int:
    return sum(path.lstat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
