"""What the drill reports about the work that kills cost, and when it kills."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from trainingapp.contract.events import AnyEvent, EventLog, Metrics, Progress, Started, parse_event
from trainingapp.operations.drill import Report
from trainingapp.operations.drill.losses import EpochEnds, Loss, durable_seconds, losses

pytestmark = pytest.mark.any_database


def event(type_: str, time: float, step: int, attempt: int = 1, **fields: Any) -> AnyEvent:
    return parse_event({"type": type_, "time": time, "attempt": attempt, "epoch": 1, "step": step, **fields})


def started(time: float, step: int, attempt: int = 1) -> AnyEvent:
    return event("status", time, step, attempt, state="started")


def ended(time: float, step: int, attempt: int = 1) -> AnyEvent:
    return event("status", time, step, attempt, state="interrupted")


def trained(time: float, step: int, attempt: int = 1) -> AnyEvent:
    return event("metrics", time, step, attempt, split="train", values={"loss": 1.0})


def save(time: float, step: int, attempt: int = 1) -> AnyEvent:
    fields = {"phase": "save", "total_epochs": 3, "total_steps": 90, "elapsed_s": 1.0}
    return event("progress", time, step, attempt, **fields)


def saved(time: float, step: int, attempt: int = 1) -> AnyEvent:
    fields: dict[str, Any] = {"reason": "epoch", "size_bytes": 1, "sha256": "", "metrics": {}, "is_best": False}
    return event("checkpoint", time, step, attempt, file=f"step_{step}.pt", removed=[], **fields)


def test_the_loss_of_a_kill_is_what_is_repeated_beside_what_was_promised() -> None:
    events = [
        *(started(100.0, 0), save(110.0, 10), trained(111.0, 11), save(118.0, 18), trained(120.0, 20)),
        *(started(130.0, 18, attempt=2), trained(131.0, 19, attempt=2), ended(132.0, 19, attempt=2)),
        started(140.0, 19, attempt=3),
    ]
    # The save of step 18 had begun 2 s before: it was not promised yet, but was there.
    assert losses(events) == [Loss(steps=2, promised=10)]


def test_a_save_that_was_promised_and_is_not_there_is_a_problem() -> None:
    events = [started(100.0, 0), save(110.0, 10), trained(120.0, 20), started(130.0, 0, attempt=2)]
    report = Report()
    report.add_work(7, "detection", events)
    assert report.problems == ["run 7 (detection): a kill cost 20 steps, at most 10 were promised"]
    assert not report.is_certified


def test_a_trainer_that_was_killed_before_its_first_step_lost_nothing() -> None:
    assert losses([started(100.0, 6), started(110.0, 6, attempt=2)]) == [Loss(0, 0)]


def test_what_a_killed_trainer_writes_after_the_next_one_has_started_does_not_count() -> None:
    events = [started(100.0, 0), started(110.0, 0, attempt=2), trained(111.0, 50), started(120.0, 0, attempt=3)]
    assert losses(events) == [Loss(0, 0), Loss(0, 0)]


def test_a_save_takes_until_its_event() -> None:
    events = [started(100.0, 0), save(110.0, 10), trained(111.0, 11), saved(111.5, 10), save(120.0, 20)]
    assert durable_seconds(events) == [1.5]


def test_the_report_has_worst_and_median_beside_the_promise() -> None:
    report = Report(Counter(trainer=3), losses=[Loss(2, 10), Loss(9, 12), Loss(3, 30)], durable_s=[0.5, 1.5])
    found = json.loads(json.dumps(report.as_json()))
    assert found["lost_steps"] == {"worst": 9, "median": 3, "promised": 30}
    assert found["durable_s"] == {"worst": 1.5, "median": 1.0, "promised": 5.0}
    nothing = Report().as_json()
    assert nothing["lost_steps"] == {"worst": None, "median": None, "promised": None}


def test_the_end_of_an_epoch_is_noticed_once(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", 1)
    validated = {"split": "val", "values": {"loss": 1.0}}
    log.write(Metrics(**validated))
    ends = EpochEnds(tmp_path / "events.jsonl")
    assert not ends.has_come(), "that was before"
    log.write(Metrics(split="train", values={"loss": 1.0}))
    log.write(Metrics(**validated, extra=True))
    assert not ends.has_come()
    log.write(Metrics(**validated))
    log.write(Progress(phase="save", total_epochs=1, total_steps=2, elapsed_s=1.0))
    assert ends.has_come()
    assert not ends.has_come()
    log.write(Started())
    assert not ends.has_come()
    assert not EpochEnds(tmp_path / "nothing.jsonl").has_come()
