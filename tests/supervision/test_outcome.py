"""The outcome of a run after the end of its trainer."""

from dataclasses import replace
from typing import Any

import pytest

from trainingapp.contract.config import parse_config
from trainingapp.contract.events import Ended, EndState, Failed, message_fields
from trainingapp.contract.messages import from_data
from trainingapp.contract.messages.runs import BATCH_HALVED
from trainingapp.contract.messages.training import NO_BFLOAT16
from trainingapp.models import TrainingRun
from trainingapp.supervision.outcome import End, judge


def ended(state: EndState) -> Ended:
    return Ended(state=state)


FAILED = Failed(error_class="bad_data", message="no image", lines=["here"])


@pytest.mark.parametrize(
    ("wanted", "end", "to"),
    [
        ("", End(ended("completed"), 0), "completed"),
        ("pause", End(ended("completed"), 0), "completed"),
        ("pause", End(ended("paused"), 0), "paused"),
        ("stop", End(ended("paused"), 0), "stopped"),
        ("stop", End(ended("stopped"), 0), "stopped"),
        ("", End(FAILED, 1), "failed"),
        ("stop", End(FAILED, 1), "failed"),
        ("", End(ended("interrupted"), 0, is_shutting_down=True), "queued"),
        ("pause", End(ended("interrupted"), 0, is_shutting_down=True), "paused"),
        ("", End(None, -9, is_shutting_down=True), "queued"),
        ("", End(ended("interrupted"), 0), "queued"),
        ("", End(None, -9), "queued"),
        ("", End(None, 1), "queued"),
        ("", End(None, None, is_worker_lost=True), "queued"),
        ("pause", End(None, None, is_worker_lost=True), "paused"),
        ("stop", End(None, None, is_worker_lost=True), "stopped"),
        ("stop", End(ended("interrupted"), is_worker_lost=True), "stopped"),
        ("pause", End(None, -9), "paused"),
        ("", End(ended("completed"), is_worker_lost=True), "completed"),
        ("", End(None, 28), "failed"),
    ],
)
def test_status(wanted: str, end: End, to: str) -> None:
    assert judge(TrainingRun(status="running", requested_action=wanted), end).to == to


LOST_RANK = Failed(error_class="lost_rank", message="Rank 1 on cuda:1 ended unexpectedly.", lines=[])


def test_a_lost_rank_is_retried_at_once_and_then_after_a_wait() -> None:
    first = judge(TrainingRun(status="running"), End(LOST_RANK, 1))
    assert (first.to, first.wait_s, first.data["error_class"]) == ("queued", 0.0, "lost_rank")
    again = judge(TrainingRun(status="running", recoveries=1), End(LOST_RANK, 1))
    assert again.to == "queued"
    assert again.wait_s > 0


def test_a_rank_that_the_system_killed_for_memory_is_a_lack_of_memory() -> None:
    assert End(LOST_RANK, 1, is_memory_kill=True).error_class == "out_of_memory"
    assert End(FAILED, 1, is_memory_kill=True).error_class == "bad_data"


def test_a_failure_keeps_its_class_message_and_lines() -> None:
    outcome = judge(TrainingRun(), End(FAILED, 1))
    assert outcome.fields == {
        "error_class": "bad_data",
        "error_message": "no image",
        "error_message_data": {"code": "verbatim", "params": {"text": "no image"}},
        "error_lines": ["here"],
    }


def test_the_code_of_the_trainers_message_is_kept() -> None:
    outcome = judge(TrainingRun(), End(Failed(error_class="error", **message_fields(NO_BFLOAT16())), 1))
    assert outcome.message == NO_BFLOAT16()
    assert from_data(outcome.fields["error_message_data"]) == NO_BFLOAT16()
    assert outcome.fields["error_message"] == str(NO_BFLOAT16())


def test_a_full_disk_is_named() -> None:
    assert judge(TrainingRun(), End(None, 28)).fields["error_class"] == "disk_full"


def test_an_unwritable_disk_is_named_and_retried() -> None:
    outcome = judge(TrainingRun(), End(None, 30))
    assert (outcome.to, outcome.fields["error_class"], outcome.wait_s) == ("queued", "read_only", 10)
    assert "read-only" in str(outcome.message)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (End(None, -9), "SIGKILL"),
        (End(None, -11), "SIGSEGV"),
        (End(None, 3), "exit status 3"),
        (End(None, is_worker_lost=True), "worker on barn"),
        (End(ended("interrupted"), 0), "interrupted by another process"),
    ],
)
def test_the_message_of_a_loss_names_the_cause_and_the_restart(end: End, words: str) -> None:
    outcome = judge(TrainingRun(host="barn", recoveries=1), end)
    assert words in str(outcome.message)
    assert "automatic restart 2 of 3" in str(outcome.message)
    assert (outcome.fields["recoveries"], outcome.fields["retries"]) == (2, {outcome.data["error_class"]: 1})
    assert outcome.fields["error_message"] == str(outcome.message)


def test_recoveries_are_limited() -> None:
    outcome = judge(TrainingRun(host="barn", recoveries=3), End(None, -9, lines=["last words"]))
    assert outcome.to == "failed"
    assert outcome.fields["error_class"] == "lost_trainer"
    assert outcome.fields["error_lines"] == ["last words"]
    assert "already restarted automatically 3 times" in str(outcome.message)


def test_a_shutdown_of_the_studio_costs_no_recovery() -> None:
    outcome = judge(TrainingRun(recoveries=3), End(ended("interrupted"), 0, is_shutting_down=True))
    assert outcome.to == "queued"
    assert "recoveries" not in outcome.fields
    assert "resumes when the studio starts again" in str(outcome.message)


@pytest.mark.parametrize("end", [End(ended("interrupted"), 0), End(None, -9)])
def test_a_worker_that_leaves_costs_no_recovery_and_is_not_the_end_of_the_studio(end: End) -> None:
    outcome = judge(TrainingRun(host="barn", recoveries=3), replace(end, is_shutting_down=True, is_leaving=True))
    assert (outcome.to, outcome.wait_s, outcome.data) == ("queued", 0.0, {"cause": "left"})
    assert "recoveries" not in outcome.fields
    assert str(outcome.message).startswith("The worker on barn has left.")


# Retries


def failed(error_class: str, message: str = "no") -> End:
    return End(Failed(error_class=error_class, message=message), 1)


@pytest.mark.parametrize(
    "error_class", ["bad_config", "bad_data", "damaged_weights", "non_finite_loss", "disk_full", "error"]
)
def test_permanent_failures_are_not_retried(error_class: str) -> None:
    outcome = judge(TrainingRun(), failed(error_class))
    assert (outcome.to, outcome.fields["error_class"]) == ("failed", error_class)


@pytest.mark.parametrize(
    ("end", "retries", "wait_s"),
    [
        (End(None, -9), 0, 10),
        (End(None, -9), 1, 20),
        (End(None, -9), 2, 40),
        (End(is_worker_lost=True), 0, 0),
        (End(is_worker_lost=True), 1, 10),
        (End(is_worker_lost=True), 2, 20),
        (failed("weights_unavailable"), 0, 30),
        (failed("weights_unavailable"), 2, 120),
        (failed("device_error"), 0, 10),
        (End(None, -9, cause="hang"), 0, 10),
        (failed("still_running"), 1, 30),
    ],
)
def test_the_wait_before_a_retry_grows(end: End, retries: int, wait_s: float) -> None:
    outcome = judge(TrainingRun(recoveries=retries, retries={end.error_class: retries}), end)
    assert (outcome.to, outcome.wait_s) == ("queued", wait_s)


def test_a_run_whose_folder_another_host_still_holds_waits_for_it() -> None:
    outcome = judge(TrainingRun(recoveries=4, retries={"still_running": 3}), failed("still_running"))
    assert (outcome.to, outcome.wait_s) == ("queued", 120)
    assert judge(TrainingRun(retries={"still_running": 20}), failed("still_running")).to == "failed"


def test_a_gpu_that_fails_twice_is_not_retried() -> None:
    outcome = judge(TrainingRun(recoveries=1, retries={"device_error": 1}), failed("device_error"))
    assert outcome.to == "failed"


@pytest.mark.parametrize("end", [End(None, -9), failed("out_of_memory"), End(is_worker_lost=True)])
def test_automatic_recovery_can_be_disabled_for_a_run(end: End) -> None:
    assert judge(TrainingRun(max_recoveries=0, config={}), end).to == "failed"


def test_the_runs_own_number_of_restarts_counts() -> None:
    assert judge(TrainingRun(max_recoveries=7, recoveries=6), End(None, -9)).to == "queued"
    assert judge(TrainingRun(max_recoveries=7, recoveries=7), End(None, -9)).to == "failed"


@pytest.mark.parametrize(("wanted", "to"), [("pause", "paused"), ("stop", "stopped")])
def test_a_requested_end_is_not_retried(wanted: str, to: str) -> None:
    outcome = judge(TrainingRun(requested_action=wanted), failed("device_error", "CUDA error"))
    assert outcome.to == to
    assert "CUDA error" in str(outcome.message)


# Memory


def run_of(corrections: list[Any] | None = None, **values: Any) -> TrainingRun:
    """A run with a batch of 8, or with `values` of the configuration."""
    config = parse_config({"batch_size": 8, **values}).model_dump(mode="json")
    return TrainingRun(task="classification", config=config, corrections=corrections or [])


def test_the_batch_is_halved_once_when_memory_runs_out() -> None:
    run = run_of(corrections=["before"])
    outcome = judge(run, failed("out_of_memory"))
    assert outcome.to == "queued"
    assert (outcome.fields["config"]["batch_size"], outcome.fields["config"]["accumulation_steps"]) == (4, 2)
    halved = BATCH_HALVED(old=8, new=4, steps=2)
    assert str(halved) in str(outcome.message)
    assert outcome.fields["corrections"][0] == "before"
    assert outcome.fields["corrections"][1] == {**halved.as_data(), "message": str(halved)}
    run.config, run.recoveries, run.retries = outcome.fields["config"], 1, outcome.fields["retries"]
    assert judge(run, failed("out_of_memory")).to == "failed"


def test_an_automatic_batch_size_is_halved() -> None:
    end = End(Failed(error_class="out_of_memory", message="no"), 1, batch_size=32)
    assert judge(run_of(auto_batch_size=True), end).fields["config"]["batch_size"] == 16


def test_a_batch_size_that_cannot_be_halved_fails() -> None:
    outcome = judge(run_of(batch_size=2), failed("out_of_memory"))
    assert outcome.to == "failed"
    assert "cannot be reduced further" in str(outcome.message)


def test_a_memory_kill_is_classified_as_out_of_memory() -> None:
    outcome = judge(run_of(), End(None, -9, is_memory_kill=True))
    assert outcome.data["error_class"] == "out_of_memory"
    assert judge(run_of(), End(None, -11, is_memory_kill=True)).data["error_class"] == "lost_trainer"


# Ends that the supervisor brought about


def test_a_force_stop_reports_what_is_lost() -> None:
    outcome = judge(TrainingRun(requested_action="kill", step=90), End(None, -9, cause="forced", saved_step=80))
    assert outcome.to == "stopped"
    assert "checkpoint of step 80; 10 steps are repeated" in str(outcome.message)
    assert judge(TrainingRun(requested_action="kill"), End(ended("completed"), 0)).to == "completed"
    assert judge(TrainingRun(requested_action="kill"), End(FAILED, 1)).to == "stopped"
    assert "from step 0" in str(judge(TrainingRun(requested_action="kill"), End(is_worker_lost=True)).message)


@pytest.mark.parametrize(("wanted", "to"), [("pause", "paused"), ("stop", "stopped")])
def test_the_message_names_a_trainer_that_did_not_respond(wanted: str, to: str) -> None:
    outcome = judge(TrainingRun(requested_action=wanted, step=9), End(None, -9, cause="unanswered", saved_step=8))
    assert (outcome.to, outcome.level) == (to, "warning")
    assert "did not respond within 120 s" in str(outcome.message)
    assert "1 step is repeated" in str(outcome.message)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (End(ended("stopped"), 0, cause="soft_limit"), "limit of 12 h was reached: the run saved a checkpoint"),
        (End(None, -9, cause="hard_limit", saved_step=1), "hard time limit of 24 h"),
        (End(ended("stopped"), is_worker_lost=True), "limit of 12 h"),
    ],
)
def test_a_time_limit_stops_the_run_with_a_message_and_is_not_a_failure(end: End, words: str) -> None:
    outcome = judge(TrainingRun(spent_s=12 * 3600.0), end)
    assert (outcome.to, outcome.fields["error_class"]) == ("stopped", "time_limit")
    assert words in str(outcome.message)
    assert "can be resumed" in str(outcome.message)


def test_a_stop_before_the_limit_does_not_mention_the_limit() -> None:
    outcome = judge(TrainingRun(spent_s=12 * 3600.0, requested_action="stop"), End(ended("stopped"), 0))
    assert str(outcome.message) == "Stopped."
