"""Runs with small checkpoints on disk and the rows that a supervisor stores for them."""

from datetime import UTC, datetime
from typing import Any

from tests.helpers.saved import saved_run
from trainingapp.contract.storage.index import read_index
from trainingapp.contract.storage.packs import Packs
from trainingapp.contract.storage.sizes import all_parts, own_bytes
from trainingapp.models import Checkpoint, TrainingRun


def stored(run: TrainingRun, epochs: int = 4, **options: Any) -> TrainingRun:
    """The run with the given number of checkpoints."""
    saved_run(run.folder, epochs, **options)
    add_rows(run)
    return run


def add_rows(run: TrainingRun) -> None:
    folder = run.folder / "checkpoints"
    own = own_bytes(all_parts(folder, Packs(folder)))
    entries = read_index(folder)
    for entry in entries:
        names = ("file", "attempt", "epoch", "step", "reason", "size_bytes", "sha256", "metrics", "is_best")
        fields = {name: getattr(entry, name) for name in names}
        fields |= {"stored_bytes": own[entry.file], "is_last": entry == entries[-1]}
        Checkpoint.objects.update_or_create(
            run=run, file=entry.file, defaults=fields | {"created_at": datetime.fromtimestamp(entry.time, UTC)}
        )
