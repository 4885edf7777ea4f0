"""From the file to the database: every event exactly once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tests.helpers.events import write
from tests.helpers.threads import in_threads
from tests.helpers.world import stored_events
from trainingapp.contract.events import LONGEST_LINE_BYTES, EventLog
from trainingapp.models import Checkpoint, RunEvent, TrainingRun
from trainingapp.supervision.event_store import EventStore, LostRunError
from trainingapp.supervision.log_rate_limit import punch_hole, trim_log
from trainingapp.supervision.trainers import log_tail

MAKE = Callable[..., TrainingRun]
WORKER = "here:1:2"


@pytest.fixture
def running(make: MAKE) -> TrainingRun:
    run = make("running", attempt=1, worker=WORKER)
    run.folder.mkdir(parents=True)
    return run


def log_of(run: TrainingRun, attempt: int = 1) -> EventLog:
    return EventLog(run.folder / "events.jsonl", attempt)


def point(log: EventLog, step: int, split: str = "train", **data: Any) -> None:
    write(log, "metrics", epoch=1, step=step, split=split, values={"loss": 1.0, "top1": 0.5}, **data)


def saved(log: EventLog, file: str, step: int, *, is_best: bool = False, removed: tuple[str, ...] = ()) -> None:
    facts = {"reason": "epoch", "size_bytes": 3, "sha256": "0" * 64, "metrics": {"top1": 0.5}}
    write(log, "checkpoint", epoch=1, step=step, file=file, is_best=is_best, removed=removed, **facts)


def seqs() -> list[int]:
    return [event.seq for event in everything()]


def everything(type_: str = "") -> list[RunEvent]:
    return stored_events(TrainingRun.objects.get().pk, type_)


@pytest.mark.django_db
def test_each_event_becomes_one_row_in_order(running: TrainingRun) -> None:
    log = log_of(running)
    log.log("hello")
    point(log, 1)
    EventStore(running).pull_all()
    first, second = everything()
    assert (first.seq, first.type, first.data) == (1, "log", {"message": "hello"})
    assert (second.seq, second.step, second.data["values"]) == (2, 1, {"loss": 1.0, "top1": 0.5})
    running.refresh_from_db()
    assert running.event_offset == (running.folder / "events.jsonl").stat().st_size
    assert running.metrics == {"train/loss": 1.0, "train/top1": 0.5}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("assigned", "reported", "shown"),
    [
        ("cuda:0", "cuda:0 (NVIDIA H100)", "cuda:0 (NVIDIA H100)"),
        ("cuda:0, cuda:1", "cuda:0 (NVIDIA H100)", "cuda:0, cuda:1 (NVIDIA H100)"),
        ("cuda:0 … cuda:7", "cuda:0 (NVIDIA H100)", "cuda:0 … cuda:7 (NVIDIA H100)"),
        ("cpu", "cpu", "cpu"),
    ],
)
def test_all_devices_of_an_attempt_are_named(running: TrainingRun, assigned: str, reported: str, shown: str) -> None:
    TrainingRun.objects.update(device=assigned)
    write(log_of(running), "status", state="started", epoch=0, step=0, device=reported)
    EventStore(running).pull_all()
    running.refresh_from_db()
    assert running.device == shown


@pytest.mark.django_db
def test_measurements_of_the_machine_are_no_metrics_and_no_sign_of_life(running: TrainingRun) -> None:
    log = log_of(running)
    point(log, 1)
    EventStore(running).pull_all()
    before = TrainingRun.objects.get()
    write(log, "system", epoch=1, step=1, values={"gpu_utilization": 0.5})
    EventStore(TrainingRun.objects.get()).pull_all()
    run = TrainingRun.objects.get()
    assert (run.metrics, run.last_event_at) == (before.metrics, before.last_event_at)
    assert everything()[-1].data == {"split": "system", "values": {"gpu_utilization": 0.5}}


@pytest.mark.django_db
def test_storing_again_stores_nothing(running: TrainingRun) -> None:
    log_of(running).log("hello")
    for _ in range(3):
        EventStore(TrainingRun.objects.get()).pull_all()
    assert seqs() == [1]


@pytest.mark.django_db
def test_a_reader_with_an_old_offset_stores_nothing_twice(running: TrainingRun) -> None:
    behind = EventStore(TrainingRun.objects.get())
    log = log_of(running)
    log.log("one")
    EventStore(running).pull_all()
    log.log("two")
    behind.pull()
    behind.pull_all()
    assert [row.data["message"] for row in RunEvent.objects.all()] == ["one", "two"]


@pytest.mark.django_db
def test_an_incomplete_line_is_stored_once_complete(running: TrainingRun) -> None:
    log_of(running).log("whole")
    path = running.folder / "events.jsonl"
    line = json.dumps(
        {"type": "log", "time": 1.0, "attempt": 1, "epoch": 0, "step": 0, "level": "info", "message": "x"}
    )
    with path.open("a") as file:
        file.write(line[:20])
    store = EventStore(running)
    store.pull_all()
    assert seqs() == [1]
    with path.open("a") as file:
        file.write(line[20:] + "\n")
    store.pull_all()
    assert [row.data["message"] for row in RunEvent.objects.all()] == ["whole", "x"]


@pytest.mark.django_db
def test_a_corrupted_line_is_stored_as_an_error(running: TrainingRun) -> None:
    (running.folder / "events.jsonl").write_bytes(b"\x00\x00garbage\n")
    EventStore(running).pull_all()
    row = RunEvent.objects.get()
    assert (row.type, row.level) == ("log", "error")
    assert row.data["message"].endswith(r"\x00\x00garbage"), "a database may keep no NUL"


@pytest.mark.django_db
def test_the_last_lines_of_a_trainers_output_contain_no_nul(running: TrainingRun) -> None:
    (running.folder / "trainer.log").write_bytes(b"one\ntwo\0\n")
    assert log_tail(running.folder) == ["one", "two\ufffd"]


@pytest.mark.django_db(transaction=True)
def test_a_crash_within_the_transaction_loses_neither_event_nor_offset(
    running: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_of(running).log("hello")
    save = TrainingRun.save

    def die(self: TrainingRun, *args: Any, **kwargs: Any) -> None:
        save(self, *args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "save", die)
        with pytest.raises(KeyboardInterrupt):
            EventStore(running).pull()
    assert seqs() == []
    assert TrainingRun.objects.get().event_offset == 0
    EventStore(TrainingRun.objects.get()).pull_all()
    assert seqs() == [1]


@pytest.mark.django_db(transaction=True)
def test_concurrent_readers_store_each_event_once(running: TrainingRun) -> None:
    log = log_of(running)
    for step in range(200):
        point(log, step)
    stores = [EventStore(TrainingRun.objects.get()) for _ in range(3)]
    assert in_threads([store.pull_all for store in stores]) == [None] * 3
    assert seqs() == list(range(1, 201))
    assert [event.step for event in everything()] == list(range(200))
    assert connection.is_usable()


@pytest.mark.django_db
@pytest.mark.parametrize("change", [{"attempt": 2}, {"worker": "there:1:2"}, {"status": "queued"}])
def test_a_worker_that_lost_the_run_writes_nothing(running: TrainingRun, change: dict[str, Any]) -> None:
    store = EventStore(running)
    log_of(running).log("hello")
    TrainingRun.objects.update(**change)
    for act in (store.pull, store.look):
        with pytest.raises(LostRunError):
            act()
    assert not everything()


@pytest.mark.django_db
def test_progress_is_stored_on_the_run_only(running: TrainingRun) -> None:
    progress = {"phase": "train", "total_epochs": 3, "total_steps": 30, "elapsed_s": 2.5, "eta_s": 7.0}
    write(log_of(running), "progress", epoch=1, step=9, **progress)
    EventStore(running).pull_all()
    run = TrainingRun.objects.get()
    assert (run.epoch, run.step, run.total_steps, run.phase, run.eta_s) == (1, 9, 30, "train", 7.0)
    assert run.elapsed_s == 2.5
    assert not everything()


@pytest.mark.django_db
def test_a_checkpoint_is_being_saved_until_its_event_is_stored(running: TrainingRun) -> None:
    log, store = log_of(running), EventStore(running)
    progress = {"phase": "train", "total_epochs": 3, "total_steps": 30, "elapsed_s": 2.5}
    write(log, "progress", epoch=2, step=11, saving="epoch_1.pt", **progress)
    store.pull_all()
    assert TrainingRun.objects.get().saving == "epoch_1.pt"
    assert not Checkpoint.objects.exists()
    saved(log, "epoch_1.pt", 10)
    store.pull_all()
    assert TrainingRun.objects.get().saving == ""
    assert Checkpoint.objects.get().file == "epoch_1.pt"
    write(log, "progress", epoch=2, step=12, saving="epoch_2.pt", **progress)
    write(log, "progress", epoch=2, step=13, **progress)
    store.pull_all()
    assert TrainingRun.objects.get().saving == ""


@pytest.mark.django_db
def test_the_best_value_is_that_of_the_best_epoch(running: TrainingRun) -> None:
    log = log_of(running)
    point(log, 5, "val", is_best=True, best_metric="top1")
    write(log, "metrics", epoch=2, step=10, split="val", values={"loss": 1.0, "top1": 0.1}, is_best=False)
    EventStore(running).pull_all()
    run = TrainingRun.objects.get()
    assert (run.best_metric_name, run.best_metric, run.best_epoch) == ("top1", 0.5, 1)


@pytest.mark.django_db
def test_one_checkpoint_each_is_best_and_last_and_removed_ones_are_deleted(running: TrainingRun) -> None:
    log = log_of(running)
    saved(log, "epoch_1.pt", 5, is_best=True)
    saved(log, "epoch_2.pt", 10)
    saved(log, "epoch_3.pt", 15, is_best=True, removed=("epoch_2.pt",))
    saved(log, "step_17.pt", 17)
    EventStore(running).pull_all()
    rows = Checkpoint.objects.order_by("step").values_list("file", "is_best", "is_last")
    assert list(rows) == [("epoch_1.pt", False, False), ("epoch_3.pt", True, False), ("step_17.pt", False, True)]


@pytest.mark.django_db
def test_the_own_size_of_each_checkpoint_follows_the_events(running: TrainingRun) -> None:
    log = log_of(running)
    facts = {"reason": "epoch", "size_bytes": 9, "sha256": "0" * 64, "metrics": {}, "is_best": False, "removed": []}
    write(log, "checkpoint", epoch=1, step=1, file="epoch_1.pt", stored_bytes={"epoch_1.pt": 9}, **facts)
    write(
        log, "checkpoint", epoch=2, step=2, file="epoch_2.pt", stored_bytes={"epoch_1.pt": 2, "epoch_2.pt": 4}, **facts
    )
    Checkpoint.objects.create(
        run=running, file="epoch_2.pt", attempt=1, epoch=2, step=2, size_bytes=1, created_at=timezone.now(),
        is_pinned=True, damage="is damaged",
    )  # fmt: skip
    EventStore(running).pull_all()
    rows = Checkpoint.objects.order_by("step").values_list("stored_bytes", "size_bytes", "damage", "is_pinned")
    assert list(rows) == [(2, 9, "", False), (4, 9, "", True)]
    assert "stored_bytes" not in RunEvent.objects.first().data


@pytest.mark.django_db
def test_a_repeated_checkpoint_keeps_one_row(running: TrainingRun) -> None:
    log = log_of(running)
    saved(log, "epoch_1.pt", 5)
    saved(log, "epoch_1.pt", 5, is_best=True)
    EventStore(running).pull_all()
    assert Checkpoint.objects.get().is_best


@pytest.mark.django_db
@pytest.mark.parametrize("is_one_batch", [True, False])
def test_a_new_attempt_supersedes_what_it_repeats(running: TrainingRun, is_one_batch: bool) -> None:
    log = log_of(running)
    for step in (1, 2, 3):
        point(log, step)
    write(log, "log", epoch=1, step=3, level="info", message="kept")
    if not is_one_batch:
        EventStore(running).pull_all()
    TrainingRun.objects.update(attempt=2)
    log = log_of(running, attempt=2)
    write(log, "status", epoch=1, step=2, state="started", device="cpu", resumed_from="step_2.pt")
    point(log, 3)
    EventStore(TrainingRun.objects.get()).pull_all()
    metrics = [(event.attempt, event.step, event.superseded) for event in everything("metrics")]
    assert metrics == [(1, 1, False), (1, 2, False), (1, 3, True), (2, 3, False)]
    assert not RunEvent.objects.get(type="log").superseded
    assert TrainingRun.objects.get().device == "cpu"


@pytest.mark.django_db
@pytest.mark.parametrize("is_one_batch", [True, False])
@pytest.mark.parametrize("is_due", [True, False])
def test_a_repeated_validation_supersedes_the_one_of_the_same_step(
    running: TrainingRun, is_one_batch: bool, is_due: bool
) -> None:
    log = log_of(running)
    point(log, 2)
    write(log, "metrics", epoch=1, step=2, split="val", values={"top1": 0.5}, is_best=True, best_metric="top1")
    if not is_one_batch:
        EventStore(running).pull_all()
    TrainingRun.objects.update(attempt=2)
    log = log_of(running, attempt=2)
    write(
        log, "status", epoch=1, step=2, state="started", device="cpu", resumed_from="step_2.pt", validation_due=is_due
    )
    EventStore(TrainingRun.objects.get()).pull_all()
    metrics = [(event.data["split"], event.superseded) for event in everything("metrics")]
    assert metrics == [("train", False), ("val", is_due)]


@pytest.mark.django_db
def test_the_final_status_of_a_trainer_can_be_read_later(running: TrainingRun) -> None:
    write(log_of(running), "status", state="paused")
    EventStore(running).pull_all()
    late = EventStore(TrainingRun.objects.get())
    assert late.final is not None
    assert late.final.state == "paused"


# Fences


def stored_messages() -> list[str]:
    return [row.data["message"] for row in RunEvent.objects.filter(type="log").order_by("seq")]


@pytest.mark.django_db
def test_events_of_an_earlier_attempt_are_ignored_once_the_current_one_has_started(running: TrainingRun) -> None:
    old = log_of(running, 1)
    old.log("before")
    TrainingRun.objects.update(attempt=2)
    running.refresh_from_db()
    store = EventStore(running)
    store.pull_all()
    new = log_of(running, 2)
    write(new, "status", state="started", device="cpu")
    old.log("late")
    point(old, 9)
    saved(old, "epoch_9.pt", 9)
    write(old, "status", state="completed")
    new.log("heard")
    store.pull_all()
    old.log("very late")
    store.pull_all()
    first, second, notice = stored_messages()
    assert (first, second) == ("before", "heard")
    assert "Only events of attempt 2 are stored" in notice
    assert not everything("metrics")
    assert not Checkpoint.objects.exists()
    assert store.final is None, "the last word of another attempt is not ours"


@pytest.mark.django_db
def test_a_worker_that_takes_over_recognizes_a_started_attempt(running: TrainingRun) -> None:
    TrainingRun.objects.update(attempt=2)
    running.refresh_from_db()
    write(log_of(running, 2), "status", state="started", device="cpu", batch_size=16)
    EventStore(running).pull_all()
    other = EventStore(running)
    assert other.batch_size == 16
    log_of(running, 1).log("late")
    other.pull_all()
    assert "late" not in stored_messages()


# A file that was cut


@pytest.mark.django_db
def test_a_file_truncated_by_a_crash_continues_at_its_last_complete_line(running: TrainingRun) -> None:
    log = log_of(running)
    for number in range(10):
        log.log(f"line {number}")
    store = EventStore(running)
    store.pull_all()
    path = running.folder / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6]) + lines[6][:20])
    assert store.has_news()
    store.pull_all()
    again = log_of(running, 1)
    again.log("after")
    store.pull_all()
    cut = sum(map(len, lines[6:]))
    expected = [f"line {number}" for number in range(10)]
    notice = f"events.jsonl was truncated by {cut} bytes. The events that were already stored are kept."
    assert stored_messages() == [*expected, notice, "after"]
    assert TrainingRun.objects.get().event_offset == path.stat().st_size


@pytest.mark.django_db
def test_a_very_long_line_is_read_in_pieces(running: TrainingRun) -> None:
    path = running.folder / "events.jsonl"
    with path.open("wb") as file:
        file.write(b"x" * (LONGEST_LINE_BYTES + 100))
    store = EventStore(running)
    store.pull()
    assert store.run.event_offset == LONGEST_LINE_BYTES
    with path.open("ab") as file:
        file.write(b"\n")
    log_of(running).log("after")
    store.pull_all()
    assert stored_messages()[-1] == "after"
    assert "Unreadable line" in stored_messages()[0]


# Floods


def flood(run: TrainingRun, count: int, start: float = 1000.0, per_s: float = 1000.0) -> None:
    with (run.folder / "events.jsonl").open("a") as file:
        for number in range(count):
            event = {"type": "log", "level": "info", "message": f"line {number}", "time": start + number / per_s}
            file.write(json.dumps({**event, "attempt": 1, "epoch": 1, "step": 1}) + "\n")


@pytest.mark.django_db
def test_of_too_many_lines_the_first_are_stored_and_the_others_counted(running: TrainingRun) -> None:
    flood(running, 5000)
    point(log_of(running), 7)
    store = EventStore(running)
    store.pull_all()
    store.pull()
    found = stored_messages()
    assert found[:3] == ["line 0", "line 1", "line 2"]
    left_out = 5000 - (len(found) - 1)
    assert left_out > 2900
    assert found[-1] == f"{left_out:,} lines were left out here: lines were written faster than the log is stored."
    notice = RunEvent.objects.filter(type="log").order_by("seq").last()
    assert notice is not None
    assert (notice.data["code"], notice.data["params"]) == ("lines_left_out", {"count": left_out})
    assert [event.step for event in everything("metrics")] == [7], "only lines of the log are left out"
    assert seqs() == list(range(1, len(found) + 2))


@pytest.mark.django_db
def test_after_too_many_lines_the_log_continues(running: TrainingRun) -> None:
    flood(running, 3000)
    flood(running, 50, start=5000, per_s=1)
    EventStore(running).pull_all()
    found = stored_messages()
    assert found[-50:] == [f"line {number}" for number in range(50)]
    assert "left out here" in found[-51]


@pytest.mark.django_db
def test_a_long_message_is_kept_at_both_ends(running: TrainingRun) -> None:
    log_of(running).log("a" * 50_000 + "z" * 50_000)
    EventStore(running).pull_all()
    (message,) = stored_messages()
    assert len(message) < 9000
    assert message.startswith("aaa")
    assert message.endswith("zzz")


def test_the_middle_of_a_long_log_is_left_out_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "trainer.log"
    with path.open("ab", buffering=0) as file:
        for number in range(40_000):
            file.write(b"line %d\n" % number)
        assert trim_log(path, 1 << 20) == 0
        cut = trim_log(path, 80_000)
        file.write(b"goes on\n")
    text = path.read_text()
    assert len(text) < 25_000
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 39999\ngoes on\n")
    assert f"{cut} bytes were left out here" in text
    assert trim_log(path, 80_000) == 0
    assert trim_log(tmp_path / "none", 1) == 0


def test_freed_space_is_returned_and_offsets_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"a" * 100_000 + b"b" * 1_000_000 + b"c" * 100_000)
    blocks = path.stat().st_blocks
    punch_hole(path, 100_000, 1_100_000)
    content = path.read_bytes()
    assert (content[:100_000], content[1_100_000:]) == (b"a" * 100_000, b"c" * 100_000)
    assert len(content) == 1_200_000
    assert path.stat().st_blocks < blocks / 2
    punch_hole(path, 10, 20)
    assert path.read_bytes() == content
