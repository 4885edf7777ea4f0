"""The downtime journal: what was found of each run without a worker, and what was done."""

from datetime import datetime
from typing import Any

from django.utils import timezone

from trainingapp.contract.events import EVENTS_FILE
from trainingapp.contract.storage.reading import damage
from trainingapp.models import Checkpoint, JournalEntry, RunEvent, TrainingRun
from trainingapp.models.run import Status
from trainingapp.supervision.identity import HOST, worker_id
from trainingapp.supervision.outcome import SHUTDOWN, Outcome
from trainingapp.supervision.trainers import leftover_pid

#: What the outcome's status is called in the journal.
ACTIONS: dict[str, str] = {Status.QUEUED: "requeued"}


def evidence_of(run: TrainingRun) -> dict[str, Any]:
    """What can be seen of the run before anything is done about it."""
    last = run.events.order_by("-seq").first()
    events = run.folder / EVENTS_FILE
    return {
        "heartbeat_at": _text(run.heartbeat_at),
        "worker": run.worker,
        "host": run.host,
        "process": _process(run),
        "phase": run.phase,
        "step": run.step,
        "last_event": {"seq": last.seq, "type": last.type, "time": _text(last.time)} if last else None,
        "unread_bytes": max(0, events.stat().st_size - run.event_offset) if events.exists() else 0,
    }


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _process(run: TrainingRun) -> str:
    """Whether its trainer lives: alive, gone, or elsewhere, where it cannot be seen from here."""
    if run.host and run.host != HOST:
        return "elsewhere"
    return "alive" if leftover_pid(run.folder) is not None else "gone"


def open_entry(run: TrainingRun, evidence: dict[str, Any]) -> JournalEntry:
    """Write down what was found, before anything is done: a crash in between leaves it to be seen."""
    return JournalEntry.objects.create(
        run=run,
        run_name=run.name,
        attempt=run.attempt,
        found_by=worker_id(),
        found_at=timezone.now(),
        evidence=evidence,
    )


def close_entry(entry: JournalEntry, outcome: Outcome) -> None:
    """Write down what was done, and what it costs."""
    run = TrainingRun.objects.filter(journal=entry).first()
    saved = newest_checkpoint(run) if run else None
    lost = max(0, run.step - saved["step"]) if run and saved else (run.step if run else None)
    entry.evidence = {**entry.evidence, "checkpoint": saved, "steps_lost": lost}
    entry.action, entry.message = ACTIONS.get(outcome.to, outcome.to), outcome.message
    entry.done_at = timezone.now()
    entry.save(update_fields=["evidence", "action", "message", "done_at"])


def note_restart() -> None:
    """When a worker starts: an entry for each run that was put back in order when the studio was stopped."""
    for run in TrainingRun.objects.filter(status__in=(Status.QUEUED, Status.RUNNING)):
        queued = run.events.filter(type=RunEvent.Type.STATUS, data__to=Status.QUEUED.value).order_by("-seq").first()
        if queued is None or queued.data.get("cause") != SHUTDOWN:
            continue
        if not run.journal.filter(attempt=queued.attempt).exists():
            _note_put_back(run, queued)


def _note_put_back(run: TrainingRun, queued: RunEvent) -> None:
    saved = newest_checkpoint(run)
    step = queued.step or 0
    evidence = {
        "heartbeat_at": _text(queued.time),
        "process": "gone",
        "step": step,
        "last_event": {"seq": queued.seq, "type": queued.type, "time": _text(queued.time)},
        "checkpoint": saved,
        "steps_lost": max(0, step - saved["step"]) if saved else step,
    }
    now = timezone.now()
    JournalEntry.objects.create(
        run=run,
        run_name=run.name,
        attempt=queued.attempt,
        found_by=worker_id(),
        found_at=now,
        evidence=evidence,
        action=ACTIONS[Status.QUEUED],
        message=queued.data.get("message", ""),
        done_at=now,
    )


def newest_checkpoint(run: TrainingRun) -> dict[str, Any] | None:
    """The newest sound checkpoint of the run; where none is sound, the newest of all, which says so."""
    found = list(run.checkpoints.order_by("-step", "-id"))
    for saved in found:
        if is_sound(saved):
            return {"file": saved.file, "step": saved.step, "sound": True}
    return {"file": found[0].file, "step": 0, "sound": False} if found else None


def is_sound(saved: Checkpoint) -> bool:
    """Whether everything that it needs is there and is what was written."""
    try:
        return not damage(saved.path, saved.sha256)
    except OSError:
        return False
