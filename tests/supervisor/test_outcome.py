"""What the end of a trainer means for its run."""

from typing import Any

import pytest

from trainingapp.models import TrainingRun
from trainingapp.supervisor.outcome import End, judge


def said(state: str, **data: Any) -> dict[str, Any]:
    return {"state": state, **data}


FAILED = said("failed", error_class="bad_data", message="no picture", lines=["here"])


@pytest.mark.parametrize(
    ("wanted", "end", "to"),
    [
        ("", End(said("completed"), 0), "completed"),
        ("pause", End(said("completed"), 0), "completed"),
        ("pause", End(said("paused"), 0), "paused"),
        ("stop", End(said("paused"), 0), "stopped"),
        ("stop", End(said("stopped"), 0), "stopped"),
        ("", End(FAILED, 1), "failed"),
        ("stop", End(FAILED, 1), "failed"),
        ("", End(said("interrupted"), 0, is_shutting_down=True), "queued"),
        ("pause", End(said("interrupted"), 0, is_shutting_down=True), "paused"),
        ("", End(None, -9, is_shutting_down=True), "queued"),
        ("", End(said("interrupted"), 0), "queued"),
        ("", End(None, -9), "queued"),
        ("", End(None, 1), "queued"),
        ("", End(None, None, is_worker_lost=True), "queued"),
        ("pause", End(None, None, is_worker_lost=True), "paused"),
        ("stop", End(None, None, is_worker_lost=True), "stopped"),
        ("stop", End(said("interrupted"), is_worker_lost=True), "stopped"),
        ("pause", End(None, -9), "paused"),
        ("", End(said("completed"), is_worker_lost=True), "completed"),
        ("", End(None, 28), "failed"),
    ],
)
def test_status(wanted: str, end: End, to: str) -> None:
    assert judge(TrainingRun(status="running", wanted=wanted), end).to == to


def test_a_failure_keeps_its_class_message_and_lines() -> None:
    outcome = judge(TrainingRun(), End(FAILED, 1))
    assert outcome.fields == {"error_class": "bad_data", "error_message": "no picture", "error_lines": ["here"]}


def test_a_full_disk_is_named() -> None:
    assert judge(TrainingRun(), End(None, 28)).fields["error_class"] == "disk_full"


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (End(None, -9), "SIGKILL"),
        (End(None, -11), "SIGSEGV"),
        (End(None, 3), "exit status 3"),
        (End(None, is_worker_lost=True), "worker on barn"),
        (End(said("interrupted"), 0), "interrupted from outside"),
    ],
)
def test_a_loss_says_what_was_seen_and_what_comes(end: End, words: str) -> None:
    outcome = judge(TrainingRun(host="barn", recoveries=1), end)
    assert words in outcome.message
    assert "2 of 3 times" in outcome.message
    assert outcome.fields == {"recoveries": 2}


def test_a_run_does_not_go_on_for_ever() -> None:
    outcome = judge(TrainingRun(host="barn", recoveries=3), End(None, -9, lines=["last words"]))
    assert outcome.to == "failed"
    assert outcome.fields["error_class"] == "lost_trainer"
    assert outcome.fields["error_lines"] == ["last words"]
    assert "3 times already" in outcome.message


def test_stopping_the_studio_costs_no_recovery() -> None:
    outcome = judge(TrainingRun(recoveries=3), End(said("interrupted"), 0, is_shutting_down=True))
    assert outcome.to == "queued"
    assert "recoveries" not in outcome.fields
    assert "goes on at the next start" in outcome.message
