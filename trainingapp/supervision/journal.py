"""The downtime journal: the evidence about each run that was found without a worker, and what was done."""

from typing import Literal, NotRequired, TypedDict

from django.utils import timezone

from trainingapp.contract.events import EVENTS_FILE
from trainingapp.contract.messages import from_data
from trainingapp.contract.storage.reading import damage
from trainingapp.models import Checkpoint, JournalEntry, RunEvent, TrainingRun
from trainingapp.models.run import Status
from trainingapp.supervision.identity import HOST, worker_id
from trainingapp.supervision.outcome import SHUTDOWN, Outcome
from trainingapp.supervision.trainers import leftover_pid

#: The action of an outcome in the journal, where it is not the status.
ACTIONS: dict[str, str] = {Status.QUEUED: "requeued"}


class LastEvent(TypedDict):
    seq: int
    type: str
    time: str


class SavedCheckpoint(TypedDict):
    """`sound` is false where no checkpoint is valid; `step` is 0 then."""

    file: str
    step: int
    sound: bool


class Evidence(TypedDict):
    """What a journal entry stores about a run (`JournalEntry.evidence`); times are ISO 8601 texts.

    `process` is the state of its trainer: "elsewhere" where it ran on another host and cannot be checked.
    """

    heartbeat_at: str | None
    worker: NotRequired[str]
    host: NotRequired[str]
    process: Literal["alive", "gone", "elsewhere"]
    phase: NotRequired[str]
    step: int
    last_event: LastEvent | None
    unread_bytes: NotRequired[int]
    checkpoint: NotRequired[SavedCheckpoint | None]
    steps_lost: NotRequired[int | None]


def evidence_of(run: TrainingRun) -> Evidence:
    """What is known of the run before recovery changes anything."""
    last = run.events.order_by("-seq").first()
    newest = run.series.order_by("-last_seq").values("last_seq", "last_time").first()
    if newest and (last is None or newest["last_seq"] > last.seq):
        last = RunEvent(seq=newest["last_seq"], type=RunEvent.Type.METRICS, time=newest["last_time"])
    events = run.folder / EVENTS_FILE
    process: Literal["alive", "gone", "elsewhere"] = "elsewhere"
    if not run.host or run.host == HOST:
        process = "gone" if leftover_pid(run.folder) is None else "alive"
    return {
        "heartbeat_at": run.heartbeat_at.isoformat() if run.heartbeat_at else None,
        "worker": run.worker,
        "host": run.host,
        "process": process,
        "phase": run.phase,
        "step": run.step,
        "last_event": _as_evidence(last) if last else None,
        "unread_bytes": max(0, events.stat().st_size - run.event_offset) if events.exists() else 0,
    }


def _as_evidence(event: RunEvent) -> LastEvent:
    return {"seq": event.seq, "type": event.type, "time": event.time.isoformat()}


def open_entry(run: TrainingRun, evidence: Evidence) -> JournalEntry:
    """Store what was found before anything is done, so that it stays visible after a crash in between."""
    return JournalEntry.objects.create(
        run=run,
        run_name=run.name,
        attempt=run.attempt,
        found_by=worker_id(),
        found_at=timezone.now(),
        evidence=evidence,
    )


def close_entry(entry: JournalEntry, outcome: Outcome) -> None:
    """Store what was done, and how many steps have to be repeated."""
    run = TrainingRun.objects.filter(journal=entry).first()
    saved = newest_checkpoint(run) if run else None
    lost = max(0, run.step - (saved["step"] if saved else 0)) if run else None
    entry.evidence = {**entry.evidence, "checkpoint": saved, "steps_lost": lost}
    entry.action, entry.done_at = ACTIONS.get(outcome.to, outcome.to), timezone.now()
    entry.message, entry.message_data = str(outcome.message), dict(outcome.message.as_data())
    entry.save(update_fields=["evidence", "action", "message", "message_data", "done_at"])


def note_restart() -> None:
    """When a worker starts: add an entry for each run that was queued again because the studio was stopped."""
    for run in TrainingRun.objects.filter(status__in=(Status.QUEUED, Status.RUNNING)):
        queued = run.events.filter(type=RunEvent.Type.STATUS, data__to=Status.QUEUED.value).order_by("-seq").first()
        if queued is None or queued.data.get("cause") != SHUTDOWN:
            continue
        if run.journal.filter(attempt=queued.attempt).exists():
            continue
        saved, step = newest_checkpoint(run), queued.step or 0
        evidence: Evidence = {
            "heartbeat_at": queued.time.isoformat(),
            "process": "gone",
            "step": step,
            "last_event": _as_evidence(queued),
            "checkpoint": saved,
            "steps_lost": max(0, step - (saved["step"] if saved else 0)),
        }
        now, message = timezone.now(), from_data(queued.data)
        JournalEntry.objects.create(
            run=run,
            run_name=run.name,
            attempt=queued.attempt,
            found_by=worker_id(),
            found_at=now,
            evidence=evidence,
            action=ACTIONS[Status.QUEUED],
            message=queued.data.get("message", ""),
            message_data=dict(message.as_data()) if message else {},
            done_at=now,
        )


def newest_checkpoint(run: TrainingRun) -> SavedCheckpoint | None:
    """The newest valid checkpoint of the run; where none is valid the newest of all, marked as invalid."""
    found = list(run.checkpoints.order_by("-step", "-id"))
    for saved in found:
        if is_valid(saved):
            return {"file": saved.file, "step": saved.step, "sound": True}
    return {"file": found[0].file, "step": 0, "sound": False} if found else None


def is_valid(saved: Checkpoint) -> bool:
    """Whether everything that the checkpoint needs exists and matches its hashes."""
    try:
        return not damage(saved.path, saved.sha256)
    except OSError:
        return False
