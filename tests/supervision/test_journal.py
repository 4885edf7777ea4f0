"""The downtime journal: the evidence, and the action taken."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.helpers.saved import flip_a_bit, open_folder
from tests.helpers.saved import save as save_state
from tests.helpers.world import line, store_events
from tests.supervision.test_recovery import lost_worker
from trainingapp.contract.messages.runs import WORKER_LEFT
from trainingapp.models import Checkpoint, JournalEntry, TrainingRun
from trainingapp.supervision import HOST, note_restart, recover_run, worker_id
from trainingapp.supervision.journal import is_valid
from trainingapp.supervision.outcome import LEFT

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


@pytest.fixture
def silent(make: MAKE) -> TrainingRun:
    heartbeat = timezone.now() - timedelta(seconds=60)
    run = make("running", attempt=2, worker=lost_worker(), host=HOST, heartbeat_at=heartbeat, step=120, phase="train")
    store_events(run, line("the last word"))
    run.refresh_from_db()
    return run


def save(run: TrainingRun, file: str, step: int, content: bytes = b"PK weights", **fields: Any) -> Checkpoint:
    digest = hashlib.sha256(content).hexdigest()
    saved = Checkpoint.objects.create(
        run=run,
        file=file,
        step=step,
        epoch=1,
        attempt=1,
        reason="epoch",
        size_bytes=len(content),
        sha256=digest,
        created_at=timezone.now(),
        **fields,
    )
    saved.path.parent.mkdir(parents=True, exist_ok=True)
    saved.path.write_bytes(content)
    return saved


def test_a_checkpoint_with_corrupted_tensors_is_not_valid(silent: TrainingRun) -> None:
    folder = open_folder(silent.folder)
    for epoch in (1, 2):
        save_state(folder, epoch)
        path = silent.folder / "checkpoints" / f"epoch_{epoch}.pt"
        save(silent, path.name, epoch, path.read_bytes())
    packs = sorted((silent.folder / "checkpoints" / "packs").iterdir(), key=lambda pack: pack.stat().st_mtime_ns)
    assert is_valid(silent.checkpoints.get(file="epoch_2.pt"))
    flip_a_bit(packs[-1], packs[-1].stat().st_size // 2)
    assert not is_valid(silent.checkpoints.get(file="epoch_2.pt"))
    assert is_valid(silent.checkpoints.get(file="epoch_1.pt"))


def test_findings_and_actions_are_recorded(silent: TrainingRun) -> None:
    save(silent, "epoch_1.pt", 100)
    worker, heartbeat = silent.worker, silent.heartbeat_at
    recover_run(silent)
    entry = JournalEntry.objects.get()
    assert (entry.run, entry.run_name, entry.attempt, entry.found_by) == (silent, "try", 2, worker_id())
    assert (entry.action, entry.done_at is not None) == ("requeued", True)
    assert "was lost" in entry.message
    seen = entry.evidence
    assert (seen["worker"], seen["process"], seen["step"], seen["phase"]) == (worker, "gone", 120, "train")
    assert seen["heartbeat_at"] == heartbeat.isoformat() if heartbeat else False
    assert seen["last_event"]["type"] == "log"
    assert seen["checkpoint"] == {"file": "epoch_1.pt", "step": 100, "sound": True}
    assert seen["steps_lost"] == 20


def test_a_corrupted_checkpoint_does_not_count(silent: TrainingRun) -> None:
    save(silent, "epoch_1.pt", 100)
    save(silent, "epoch_2.pt", 115).path.write_bytes(b"rotten!")
    recover_run(silent)
    seen = JournalEntry.objects.get().evidence
    assert (seen["checkpoint"]["file"], seen["steps_lost"]) == ("epoch_1.pt", 20)


def test_without_a_valid_checkpoint_all_steps_are_repeated(silent: TrainingRun) -> None:
    save(silent, "epoch_1.pt", 100).path.unlink()
    recover_run(silent)
    seen = JournalEntry.objects.get().evidence
    assert (seen["checkpoint"]["sound"], seen["steps_lost"]) == (False, 120)


def test_a_run_of_another_host_is_reported_as_such(silent: TrainingRun) -> None:
    TrainingRun.objects.update(host="barn")
    silent.refresh_from_db()
    recover_run(silent)
    assert JournalEntry.objects.get().evidence["process"] == "elsewhere"


def test_a_worker_that_loses_the_race_writes_nothing(silent: TrainingRun) -> None:
    TrainingRun.objects.update(heartbeat_at=timezone.now())
    recover_run(silent)
    assert not JournalEntry.objects.exists()


@pytest.mark.parametrize("attempts", [0, 3])
def test_a_run_without_recoveries_left_is_recorded_as_lost(silent: TrainingRun, attempts: int) -> None:
    TrainingRun.objects.update(recoveries=attempts)
    silent.refresh_from_db()
    recover_run(silent)
    assert JournalEntry.objects.get().action == ("failed" if attempts == 3 else "requeued")


def test_runs_requeued_at_a_shutdown_are_recorded_once(make: MAKE) -> None:
    run = make("running", attempt=1, worker="a:1:2", step=30)
    make("queued")
    save(run, "step_30.pt", 30)
    run.transition("queued", message="The studio was stopped.", data={"cause": "shutdown"})
    note_restart()
    note_restart()
    entry = JournalEntry.objects.get()
    assert (entry.run, entry.action, entry.message) == (run, "requeued", "The studio was stopped.")
    assert entry.evidence["steps_lost"] == 0


def test_a_run_whose_worker_has_left_is_no_finding(make: MAKE) -> None:
    """The studio was not stopped, and nothing had to be recovered."""
    run = make("running", attempt=1, worker="a:1:2", host="a", step=30)
    run.transition("queued", message=WORKER_LEFT(host="a"), data={"cause": LEFT})
    note_restart()
    assert not JournalEntry.objects.exists()
