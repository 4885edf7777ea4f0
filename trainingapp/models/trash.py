"""Folders on their way out: moved aside in one step, then removed, so that a crash leaves no half of anything."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import transaction

from trainingapp.models import Dataset, TrainingRun, Weights

TRASH = ".trash"


def trash_name(folder: Path) -> Path:
    """Where the folder of a row goes before it is removed; the row's number stays in the name."""
    return folder.parent / TRASH / f"{folder.name}.{uuid.uuid4().hex}"


@contextmanager
def moved(folder: Path, trash: Path) -> Iterator[None]:
    """Within: the folder is out of the way, in the trash. Put back when the block fails."""
    if not folder.exists():
        yield
        return
    trash.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(trash)
    try:
        yield
    except BaseException:
        trash.rename(folder)
        raise


def remove(trash: Path) -> bool:
    """Remove a folder in the trash; returns whether it is removed."""
    shutil.rmtree(trash, ignore_errors=True)
    return not trash.exists()


def sweep() -> None:
    """Finish deletions that a crash cut short: put back what still has its row, remove what has none."""
    roots = ((settings.RUNS_DIR, TrainingRun), (settings.DATASETS_DIR, Dataset), (settings.WEIGHTS_DIR, Weights))
    for root, model in roots:
        trash = Path(root) / TRASH
        for folder in trash.iterdir() if trash.is_dir() else ():
            pk, _dot, _token = folder.name.partition(".")
            with transaction.atomic():  # a deletion in progress holds the lock of its row: wait for it
                row = model._default_manager.select_for_update().filter(pk=pk).first()
                if row is not None and folder.exists() and not row.folder.exists():
                    folder.rename(row.folder)
            remove(folder)
