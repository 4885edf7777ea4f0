"""Maintenance of stored files: deleting checkpoints of runs without a trainer, comparing files with their hashes.

While a trainer works on a run, only it may change the run's folder: deleting takes the lock of the folder first.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TypeVar

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from trainingapp.accounts import audit
from trainingapp.contract import retention
from trainingapp.contract.errors import StillRunning
from trainingapp.contract.events import message_fields
from trainingapp.contract.messages import Message, Param, sentences
from trainingapp.contract.messages import runs as messages
from trainingapp.contract.number_text import size_text
from trainingapp.contract.retention import Choice, Item, Policy
from trainingapp.contract.run_directory import run_lock
from trainingapp.contract.storage.index import read_index
from trainingapp.contract.storage.packs import Packs
from trainingapp.contract.storage.reading import damage, file_damage
from trainingapp.contract.storage.sizes import Removal, all_parts, own_bytes, plan_removal, remove_checkpoints
from trainingapp.contract.tasks.registry import METRICS
from trainingapp.models import Checkpoint, RunEvent, TrainingRun, Weights
from trainingapp.models.bell import ring
from trainingapp.models.run import Status, append_events
from trainingapp.models.sharing import Visibility
from trainingapp.supervision.identity import runs_dir_id

Stored = TypeVar("Stored", Checkpoint, Weights)
logger = logging.getLogger(__name__)

#: States in which no trainer works on a run, and none is about to start.
AT_REST = (Status.PAUSED, Status.COMPLETED, Status.FAILED, Status.STOPPED)
#: Seconds that one call of the scrub may take.
SCRUB_S = 60.0
FILES_NAMED = 5


class BusyError(Exception):
    """A trainer works on the run, or is about to start."""


@dataclass(frozen=True)
class CleanUp:
    """What a policy does to the checkpoints of a run: which it keeps and why, which it deletes, and what that frees."""

    choice: Choice
    removal: Removal


def policy_of(run: TrainingRun) -> Policy:
    """The policy in the run's configuration; one of an earlier version lacks fields, which get their defaults."""
    plain, found = Policy(), run.config.get
    return Policy(
        last=found("keep_checkpoints", plain.last),
        best=found("keep_best", plain.best),
        every_epochs=found("keep_every_epochs", plain.every_epochs),
        days=found("keep_days", plain.days),
        gb=found("keep_gb", plain.gb),
    )


def may_resume(run: TrainingRun) -> bool:
    """Whether the run may need a checkpoint to resume from."""
    return run.status != Status.COMPLETED


def items_of(run: TrainingRun) -> list[Item]:
    """The run's checkpoints as the retention policy sees them, oldest first. Raises ValueError (a damaged index)."""
    folder = run.folder / "checkpoints"
    parts = all_parts(folder, Packs(folder))
    rows = {row.file: row for row in run.checkpoints.all()}
    metric = run.config.get("best_metric", "")
    items = []
    for entry in read_index(folder):
        row = rows.get(entry.file)
        is_pinned, is_valid = row is not None and row.is_pinned, not (row and row.damage)
        items.append(entry.item(metric, is_pinned=is_pinned, parts=parts[entry.file], is_valid=is_valid))
    return items


def plan_clean_up(run: TrainingRun, policy: Policy) -> CleanUp:
    """What the policy would do now. Raises ValueError (a damaged index)."""
    metric = METRICS.get(run.config.get("best_metric", ""))
    better = metric.higher_is_better if metric else True
    choice = retention.choose(
        items_of(run), policy, now=time.time(), higher_is_better=better, may_resume=may_resume(run)
    )
    return CleanUp(choice, plan_removal(run.folder / "checkpoints", choice.removed))


@contextmanager
def held(run: TrainingRun) -> Iterator[None]:
    """Hold the lock of the run's folder, so that no trainer works there and one that starts waits. Raises BusyError."""
    if not run.folder.is_dir():
        yield
        return
    try:
        with run_lock(run.folder, run.attempt, wait_s=1.0, by_studio=True):
            if TrainingRun.objects.filter(pk=run.pk, status=Status.RUNNING).exists():
                raise BusyError
            yield
    except StillRunning:
        raise BusyError from None


def remove(run: TrainingRun, choose: Callable[[], Collection[str]], *, by: str = "", verb: str = "") -> Removal:
    """Delete checkpoints, first the files and then the rows: after a crash in between, the rows can be deleted again.

    `choose` is called under the lock. `verb` is the audit entry where a user deletes them; the studio's own
    housekeeping is recorded in the run's log alone. Raises BusyError, and ValueError for a corrupted index.
    """
    folder = run.folder / "checkpoints"
    with held(run):
        files = choose()
        removal = remove_checkpoints(folder, files) if folder.is_dir() else Removal({}, {})
        stored = own_bytes(all_parts(folder, Packs(folder)))
        _delete_rows(run, files, stored, removal, by=by, verb=verb)
    return removal


def _delete_rows(
    run: TrainingRun, files: Collection[str], stored: dict[str, int], removal: Removal, *, by: str, verb: str
) -> None:
    """Delete the rows of `files`. `stored` are the bytes that each remaining file now needs alone."""
    with transaction.atomic():
        row = TrainingRun.objects.select_for_update().get(pk=run.pk)
        going = row.checkpoints.filter(file__in=files).select_related("run")
        if verb:
            for checkpoint in going:
                audit.record(verb, checkpoint, by=by, details={"bytes": checkpoint.stored_bytes})
        count, _models = going.delete()
        for file, stored_bytes in stored.items():
            row.checkpoints.filter(file=file).update(stored_bytes=stored_bytes)
        newest = row.checkpoints.first()
        if newest is not None and not newest.is_last:
            row.checkpoints.filter(pk=newest.pk).update(is_last=True)
        if count:
            named = [*sorted(files)[:FILES_NAMED], *(["…"] if len(files) > FILES_NAMED else [])]
            freed = size_text(removal.freed_bytes)
            deleted = messages.CHECKPOINTS_DELETED(count=len(files), size=freed, files=named)
            _log(row, sentences(deleted, messages.DELETED_BY(name=by) if by else None))
    ring(run.pk)


def _log(locked_run: TrainingRun, message: Message, level: str = "info") -> None:
    """Add a line to the run's log; the caller holds the lock of its row."""
    event = RunEvent(type=RunEvent.Type.LOG, level=level, time=timezone.now(), data=message_fields(message))
    event.epoch, event.step = locked_run.epoch, locked_run.step
    append_events(locked_run, [event])
    locked_run.save(update_fields=["event_seq", "updated_at"])


# By age


def apply_ages() -> None:
    """Delete checkpoints that are older than their run keeps them; a running trainer deletes its own."""
    old = TrainingRun.objects.filter(status__in=AT_REST, config__keep_days__gt=0)
    if here := runs_dir_id():
        old = old.filter(runs_dir_id__in=("", here))
    for run in old:
        limit = timezone.now() - timedelta(days=run.config["keep_days"])
        if not run.checkpoints.filter(created_at__lt=limit, is_pinned=False, is_best=False).exists():
            continue
        try:
            removal = remove(run, lambda run=run: plan_clean_up(run, policy_of(run)).choice.removed)  # type: ignore[misc]
            logger.info("Old checkpoints of run %s: %d bytes freed.", run.pk, removal.freed_bytes)
        except BusyError:
            continue
        except (ValueError, OSError) as error:
            logger.warning("Old checkpoints of run %s could not be removed: %s", run.pk, error)


# Comparing with hashes


def due_checkpoints() -> Iterable[Checkpoint]:
    """Checkpoints whose last comparison is SCRUB_DAYS ago, the oldest first."""
    limit = timezone.now() - timedelta(days=settings.SCRUB_DAYS)
    is_due = Q(checked_at=None, created_at__lt=limit) | Q(checked_at__lt=limit)
    due = Checkpoint.objects.filter(is_due).select_related("run")
    if here := runs_dir_id():  # the files of others are on hosts with other directories
        due = due.filter(run__runs_dir_id__in=("", here))
    return due.order_by(F("checked_at").asc(nulls_first=True), "created_at").iterator(chunk_size=50)


def scrub_some(most_s: float = SCRUB_S) -> int:
    """Compare what is due, oldest first, for about `most_s` seconds; returns the number of corrupted files."""
    if not settings.SCRUB_DAYS:
        return 0
    known = Known()
    found = _compare_some(most_s, due_checkpoints(), lambda checkpoint: compare(checkpoint, known))
    return found + _compare_some(most_s, due_weights(), compare_weights)


def _compare_some(most_s: float, due: Iterable[Stored], compared: Callable[[Stored], str]) -> int:
    deadline, found = time.monotonic() + most_s, 0
    for one in due:
        found += bool(compared(one))
        if time.monotonic() > deadline:
            break
    return found


class Known:
    """Records that were already compared in this scrub: what checkpoints of a run share is read once."""

    def __init__(self) -> None:
        self._run_id: int | None = None
        self._valid: set[str] = set()

    def of(self, run_id: int) -> set[str]:
        if run_id != self._run_id:
            self._run_id, self._valid = run_id, set()
        return self._valid


def compare(checkpoint: Checkpoint, known: Known | None = None) -> str:
    """Compare a checkpoint with its hashes, store what is wrong and log a change; returns the English text.

    Empty where nothing is wrong, and where a running trainer has replaced or deleted the checkpoint meanwhile.
    """
    valid = (known or Known()).of(checkpoint.run_id)
    found = damage(checkpoint.path, checkpoint.sha256, known_valid=valid)
    if found:  # a trainer may have rewritten packs while they were read
        found = damage(checkpoint.path, checkpoint.sha256, known_valid=valid)
    wrong = str(found or "")
    with transaction.atomic():
        run = TrainingRun.objects.select_for_update().filter(pk=checkpoint.run_id).first()
        row = Checkpoint.objects.filter(pk=checkpoint.pk, sha256=checkpoint.sha256).first()
        if run is None or row is None or (wrong and _is_replaced(run, row)):
            return ""
        if wrong != row.damage:
            _log(run, _damage_message(row, found), "error" if found else "info")
            transaction.on_commit(partial(ring, run.pk))
        row.damage, row.checked_at = wrong[:200], timezone.now()
        row.damage_data = dict(found.as_data()) if found else {}
        row.save(update_fields=["damage", "damage_data", "checked_at"])
    return wrong


def _is_replaced(run: TrainingRun, row: Checkpoint) -> bool:
    """Whether a running trainer has deleted this file or replaced it by another one of the same name."""
    if run.status != Status.RUNNING:
        return False
    try:
        entries = read_index(run.folder / "checkpoints")
    except (ValueError, TypeError):
        return False
    return not any((entry.file, entry.sha256) == (row.file, row.sha256) for entry in entries)


def _damage_message(row: Checkpoint, found: Message | None) -> Message:
    """The line of the log, with the runs that start from the checkpoint where it is corrupted."""
    if found is None:
        return messages.CHECKPOINT_VALID(file=row.file)
    damaged = messages.CHECKPOINT_DAMAGED(file=row.file, damage=found)
    others = TrainingRun.objects.filter(config__start_from=f"run/{row.run_id}/{row.file}").exclude(pk=row.run_id)
    # Only public names: every user who sees this run can read its log.
    public = others.filter(visibility=Visibility.EVERYBODY)
    names: list[Param] = [
        messages.QUOTED_NAME(name=name) for name in public.values_list("name", flat=True)[:FILES_NAMED]
    ]
    if hidden := others.count() - public.count():
        names.append(messages.PRIVATE_RUNS(count=hidden))
    return sentences(damaged, messages.RUNS_AFFECTED(names=names) if names else None)


def due_weights() -> list[Weights]:
    """Entries of the library whose last comparison is SCRUB_DAYS ago, the oldest first."""
    limit = timezone.now() - timedelta(days=settings.SCRUB_DAYS)
    ready = Weights.objects.filter(state=Weights.State.READY).exclude(sha256="")
    due = [(row.checked_at or row.created_at, row) for row in ready]
    return [row for seen, row in sorted(due, key=lambda pair: (pair[0], pair[1].pk)) if seen < limit]


def compare_weights(weights: Weights) -> str:
    """Compare an entry's file with its hash and store what is wrong; returns the English text, empty for nothing.

    A change is logged in the runs that start from the entry.
    """
    found = file_damage(weights.path, weights.sha256)
    wrong = str(found or "")
    with transaction.atomic():
        row = Weights.objects.select_for_update().filter(pk=weights.pk, sha256=weights.sha256).first()
        if row is None:
            return ""
        if wrong != row.damage:
            name = str(row)
            line = (
                messages.WEIGHTS_DAMAGED(weights=name, damage=found) if found else messages.WEIGHTS_VALID(weights=name)
            )
            runs = TrainingRun.objects.select_for_update().filter(config__start_from=row.start_name)
            for run in runs.order_by("pk"):
                _log(run, line, "error" if found else "info")
                transaction.on_commit(partial(ring, run.pk))
        scrub = {"checked_at": timezone.now().isoformat(), "damage": wrong}
        row.report = {**row.report, "scrub": {**scrub, "damage_data": dict(found.as_data()) if found else {}}}
        row.save(update_fields=["report"])
    return wrong
