"""torch.compile: a run with it resumes bit-exact, and one without a compiler says so and trains."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.helpers.trainers import HARD, EndAfter, assert_same_result, change_order, events_of, train_here
from trainingapp.contract.config import parse_config
from trainingapp.engine import compilation


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compiled code of this test alone."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _lines(run_dir: Path, level: str) -> list[str]:
    return [event["message"] for event in events_of(run_dir, "log") if event["level"] == level]


@pytest.mark.long
def test_without_a_compiler_the_run_says_so_and_is_the_same(
    new_run: Callable[..., Path], caches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    config: dict[str, Any] = {"epochs": 1, "dropout_rate": 0.3, "augmentation": "strong", "model": "timm/resnet10t"}
    plain, asked = new_run("plain", **config), new_run("asked", compile=True, **config)
    assert train_here(plain) == train_here(asked) == "completed"
    (warning,) = _lines(asked, "warning")
    assert warning.startswith("The network trains without torch.compile: ")
    assert_same_result(asked, plain)  # nor did the attempt to compile it change weights, averages or random numbers


def test_another_error_of_the_first_step_is_not_taken_for_one_of_the_compiler(
    new_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(state: object) -> None:
        raise RuntimeError("a label out of range")

    monkeypatch.setattr(compilation, "set_training", lambda *arguments, **options: None)
    monkeypatch.setattr("trainingapp.engine.tasks.classification.task.ClassificationTask.loss", lambda *a: failing(a))
    with pytest.raises(RuntimeError, match="a label out of range"):
        train_here(new_run(epochs=1, compile=True))


@pytest.mark.long
def test_a_compiled_run_resumes_exactly(new_run: Callable[..., Path], caches: None) -> None:
    config = {**HARD, "epochs": 2, "compile": True, "model": "timm/resnet10t"}
    straight, cut = new_run("straight", **config), new_run("cut", **config)
    assert train_here(straight) == "completed"
    assert not _lines(straight, "warning")
    for looks in (8, 3):  # within the validation, whose step comes after batches of other sizes; within an epoch
        torch._dynamo.reset()  # as in a process of its own: the code is loaded from the disk or made again
        assert train_here(cut, EndAfter(looks)) == "paused"
        change_order(cut)
    torch._dynamo.reset()
    assert train_here(cut) == "completed"
    assert_same_result(cut, straight)
    checks = [event["verdict"] for event in events_of(cut, "status") if event["state"] == "resume_check"]
    assert checks == ["exact", "exact"]


def test_detection_refuses_it_by_name() -> None:
    with pytest.raises(ValidationError, match="compile"):
        parse_config({"task": "detection", "compile": True})
