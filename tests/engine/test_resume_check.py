"""The resume check: after a resume one step is repeated and compared; the run reports whether it is bit-exact."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.trainers import HARD, EndAfter, change_order, events_of, index_of, train_here
from trainingapp.contract.config import parse_config
from trainingapp.engine import loop
from trainingapp.engine.resume_check import MARKS_FILE, Mark, compared


def proofs(run_dir: Path) -> list[dict[str, Any]]:
    return [event for event in events_of(run_dir, "status") if event["state"] == "resume_check"]


def marks(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / MARKS_FILE).read_text().splitlines() if line]


@pytest.mark.parametrize("looks", [3, 7, *(pytest.param(each, marks=pytest.mark.long) for each in (0, 6, 8, 10))])
def test_a_paused_run_resumes_bit_exactly(new_run, looks: int) -> None:
    """Paused at its start, within an epoch, before, within and after a validation."""
    run_dir = new_run(**HARD, ema_decay=0.9)
    assert train_here(run_dir, EndAfter(looks)) == "paused"
    saved = index_of(run_dir)[-1]
    change_order(run_dir, num_workers=2)
    assert train_here(run_dir) == "completed"
    (event,) = proofs(run_dir)
    assert (event["verdict"], event["difference"], event["attempt"]) == ("exact", 0.0, 2)
    assert event["step"] == saved["step"] + 1
    assert "is bit-exact" in event["message"]


@pytest.mark.long
def test_a_killed_run_resumes_bit_exactly(new_run, start) -> None:
    run_dir = new_run(**HARD)
    trainer = start(run_dir)
    trainer.wait_for(lambda event: event["type"] == "checkpoint")
    trainer.wait_for(lambda event: event["type"] == "metrics" and event["step"] >= 9)
    os.kill(trainer.process.pid, signal.SIGKILL)
    trainer.wait()
    change_order(run_dir)
    assert start(run_dir).wait() == 0
    assert [event["verdict"] for event in proofs(run_dir)] == ["exact"]


def test_every_checkpoint_has_a_mark_of_the_step_after_it(new_run) -> None:
    run_dir = new_run(**HARD)
    train_here(run_dir)
    entries = index_of(run_dir)
    assert [(mark["after"], mark["step"]) for mark in marks(run_dir)] == [
        (entry["time"], entry["step"] + 1) for entry in entries[:-1]
    ]


def _shorten_the_memory(content: dict[str, Any]) -> None:
    for group in content["optimizer_state_dict"]["param_groups"]:
        group["betas"] = (0.5, 0.999)


def _change_a_weight(content: dict[str, Any]) -> None:
    content["model_state_dict"]["classifier.3.bias"] += 1.0


def _roll_the_generator(content: dict[str, Any]) -> None:
    """As in a run of an earlier version, whose dropout draws from the generator that is restored."""
    content["batch_seeds"] = False
    generator = torch.Generator().manual_seed(99)
    content["rng_state"]["cpu"] = generator.get_state()


@pytest.mark.parametrize("change", [_shorten_the_memory, _change_a_weight, _roll_the_generator])
def test_a_state_that_is_not_restored_is_detected(new_run, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Optimizer, weights and generators: the loss of each is detected."""
    run_dir = new_run(**HARD)
    assert train_here(run_dir, EndAfter(3)) == "paused"
    change_order(run_dir)
    restore = loop.TrainingState.restore

    def wrongly(self: Any, content: dict[str, Any]) -> list[str]:
        change(content)
        return restore(self, content)

    monkeypatch.setattr(loop.TrainingState, "restore", wrongly)
    train_here(run_dir)
    (event,) = proofs(run_dir)
    assert event["verdict"] in ("near", "differs")
    assert "no known cause has changed" in event["reason"]


def test_a_changed_configuration_is_named_as_the_reason(new_run) -> None:
    run_dir = new_run(**{**HARD, "dropout_rate": 0.0})
    assert train_here(run_dir, EndAfter(3)) == "paused"
    change_order(run_dir, learning_rate=0.5, num_workers=2, autosave_minutes=1)
    train_here(run_dir)
    (event,) = proofs(run_dir)
    assert event["verdict"] == "differs"
    assert event["reason"] == "learning_rate was 0.001, now 0.5"


@pytest.mark.parametrize(
    "changes",
    [
        {"keep_best": 2},
        {"keep_days": 3.0},
        {"keep_gb": 1.0},
        {"checkpoint_format": "plain"},
        {"keep_every_epochs": 2},
        {"best_metric": "loss"},
        {"momentum": 0.1},  # of AdamW, which has none
    ],
)
def test_a_setting_without_effect_is_not_given_as_the_reason(changes: dict[str, Any]) -> None:
    config = parse_config({}).model_dump(mode="json")
    found = compared(_mark(), _mark(2.0), config_then=config, config={**config, **changes})
    assert found.verdict == "differs"
    assert list(map(str, found.changes)) == ["no known cause has changed"]


def test_without_an_earlier_step_nothing_is_claimed(new_run, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = new_run(**HARD)
    monkeypatch.setattr(loop, "step_ahead", lambda *arguments: None)  # as after a kill right after the checkpoint
    assert train_here(run_dir, EndAfter(3)) == "paused"
    change_order(run_dir)
    train_here(run_dir)
    (event,) = proofs(run_dir)
    assert event["verdict"] == "unknown"
    assert "the step after this checkpoint was not recorded before" in event["message"]


@pytest.mark.parametrize("damage", [lambda text: text[:-20], lambda text: text + '\n{"after": 1'])
def test_a_truncated_line_is_ignored(new_run, damage: Callable[[str], str]) -> None:
    run_dir = new_run(**HARD)
    assert train_here(run_dir, EndAfter(3)) == "paused"
    path = run_dir / MARKS_FILE
    text = path.read_text()
    path.write_text(damage(text))
    change_order(run_dir)
    assert train_here(run_dir, EndAfter(3)) == "paused"
    change_order(run_dir)
    train_here(run_dir)
    is_whole = path.read_text().startswith(text)
    assert [event["verdict"] for event in proofs(run_dir)] == ["exact" if is_whole else "unknown", "exact"]


def test_a_failure_of_the_extra_step_does_not_affect_the_pause(new_run, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = new_run(**HARD)

    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("CUDA out of memory.")

    monkeypatch.setattr(loop, "training_step", fail)
    assert train_here(run_dir, EndAfter(0)) == "paused"
    assert index_of(run_dir)[-1]["step"] == 0


def _mark(loss: float = 1.0, norm: float = 2.0, **other: Any) -> Mark:
    values = {
        "after": 1.0,
        "step": 1,
        "attempt": 1,
        "norms": str(norm),
        "device": "cpu",
        "cpu_threads": 1,
        "torch": "2",
    }
    return Mark(loss=loss.hex(), norm=norm.hex(), **{**values, **other})


@pytest.mark.parametrize(
    ("earlier", "now", "verdict", "reason"),
    [
        (_mark(), _mark(), "exact", ""),
        (_mark(), _mark(device="cuda:0 (X)"), "exact", ""),
        (_mark(), _mark(1.0005, device="cuda:0 (X)"), "near", "the device was cpu, now cuda:0 (X)"),
        (_mark(), _mark(norm=2.0005, cpu_threads=2), "near", "the number of CPU threads was 1, now 2"),
        (_mark(), _mark(norm=2.0, norms="other", torch="3"), "near", "torch was 2, now 3"),
        (_mark(), _mark(1.1), "differs", "no known cause has changed"),
        (_mark(), _mark(float("nan")), "differs", "no known cause has changed"),
        (None, _mark(), "unknown", "the step after this checkpoint was not recorded before"),
    ],
)
def test_verdicts(earlier: Mark | None, now: Mark, verdict: str, reason: str) -> None:
    config = {"task": "classification", "deterministic": True, "num_workers": 0}
    found = compared(earlier, now, config_then={**config, "num_workers": 2}, config=config)
    assert (found.verdict, "; ".join(map(str, found.changes))) == (verdict, reason)


def test_a_run_that_need_not_repeat_reports_it() -> None:
    config = {"task": "classification", "deterministic": "fast"}
    found = compared(_mark(), _mark(1.0001, deterministic=False), config_then=config, config=config)
    assert "deterministic algorithms are off" in "; ".join(map(str, found.changes))


@pytest.mark.parametrize(
    ("precisions", "difference", "verdict"),
    [
        (("float32", "float32"), 0.0005, "near"),
        (("float32", "float32"), 0.003, "differs"),
        (("", "float32"), 0.003, "differs"),
        (("tf32", "tf32"), 0.003, "near"),
        (("float16", "float16"), 0.003, "near"),
        (("float16", "float16"), 0.01, "differs"),
        (("bfloat16", "bfloat16"), 0.01, "near"),
        (("bfloat16", "bfloat16"), 0.05, "differs"),
        (("float32", "bfloat16"), 0.01, "near"),
    ],
)
def test_the_tolerance_is_that_of_the_coarser_precision(
    precisions: tuple[str, str], difference: float, verdict: str
) -> None:
    earlier, now = (_mark(precision=one) for one in precisions)
    now = replace(now, loss=(1.0 + difference).hex())
    config = {"task": "classification"}
    assert compared(earlier, now, config_then=config, config=config).verdict == verdict


def test_what_automatic_came_to_is_named_as_the_reason() -> None:
    config = parse_config({}).model_dump(mode="json")
    earlier = _mark(precision="tf32", deterministic=True, device="cuda:0 (X)")
    now = _mark(1.5, precision="bfloat16", deterministic=False, device="cuda:0 (X)")
    found = compared(earlier, now, config_then={**config, "amp": "off"}, config=config)
    assert list(map(str, found.changes)) == [
        "the precision was tf32, now bfloat16",
        "the choice of algorithms was deterministic, now fast",
        "the run uses algorithms that are not bit-reproducible (deterministic algorithms are off)",
    ]


def test_a_mark_of_an_older_version_is_read_and_verified(new_run) -> None:
    """It lacks what was added since; its configuration has switches, which are the same choices."""
    run_dir = new_run(**HARD, amp=False, deterministic=True)
    assert train_here(run_dir, EndAfter(3)) == "paused"
    path = run_dir / MARKS_FILE
    old = [{name: one[name] for name in one.keys() - {"precision", "deterministic"}} for one in marks(run_dir)]
    path.write_text("".join(json.dumps(one) + "\n" for one in old))
    change_order(run_dir, learning_rate=0.5)
    train_here(run_dir)
    (event,) = proofs(run_dir)
    assert (event["verdict"], event["reason"]) == ("differs", "learning_rate was 0.001, now 0.5")
