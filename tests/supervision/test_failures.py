"""Failure classes: by the log, by custom rules, and with patterns that take too long."""

import time

import pytest

from tests.helpers.gpu_errors import RECORDED
from trainingapp.models import FailureRule
from trainingapp.presentation.failure_advice import ADVICE
from trainingapp.supervision.failures import BY_CLASS, LINES_SHOWN, Rule, diagnose, own_rules, search_in_process


@pytest.mark.parametrize(
    ("line", "error_class"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "out_of_memory"),
        (
            "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory",
            "out_of_memory",
        ),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "out_of_memory"),
        ("MemoryError", "out_of_memory"),
        ("OSError: [Errno 28] No space left on device", "disk_full"),
        ("OSError: [Errno 30] Read-only file system: 'trainer.lock'", "read_only"),
        ("torch.AcceleratorError: CUDA error: device-side assert triggered", "device_assert"),
        ("RuntimeError: CUDA error: unspecified launch failure", "device_error"),
        ("CUDA error: uncorrectable ECC error encountered", "device_error"),
        ("torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2251", "device_error"),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "device_error"),
        ("RuntimeError: DataLoader worker (pid 123) is killed by signal: Killed.", "lost_trainer"),
        ("ValueError: something of its own", "error"),
        *((f"RuntimeError: {text}", error_class) for error_class, text in RECORDED),
    ],
)
def test_the_log_classifies_what_the_trainer_could_not(line: str, error_class: str) -> None:
    found = diagnose("error", ["before", line, "after"], ["shown"])
    assert found.rule.error_class == error_class
    assert found.lines == (["shown"] if error_class == "error" else ["before", line, "after"])


def test_a_trainer_that_waits_for_a_loader_without_shared_memory_is_not_only_a_hang() -> None:
    """The loader process reports it and lives on without the batch, so that the trainer waits until it is killed."""
    line = "RuntimeError: unable to allocate shared memory(shm) for file </torch_7_2>: No space left on device (28)"
    assert diagnose("hang", ["before", line, "after"], ["stacks"]).rule == Rule("shared_memory")
    assert diagnose("hang", ["before", "after"], ["stacks"]).rule.action == "retry"


@pytest.mark.parametrize("error_class", ["device_assert", "driver", "not_deterministic", "shared_memory"])
def test_what_fails_again_is_not_retried(error_class: str) -> None:
    assert BY_CLASS[error_class].action == "fail"


def test_every_class_has_advice() -> None:
    assert BY_CLASS.keys() <= ADVICE.keys()


def test_the_class_of_the_trainer_takes_precedence() -> None:
    assert diagnose("bad_data", ["CUDA error", "no image"], ["no image"]).rule.error_class == "bad_data"


def test_the_lines_around_the_match_are_shown() -> None:
    lines = [f"line {number}" for number in range(100)]
    lines[50] = "CUDA error"
    found = diagnose("lost_trainer", lines, lines[-LINES_SHOWN:])
    assert "CUDA error" in found.lines
    assert len(found.lines) == LINES_SHOWN


def rule(pattern: str, **values: object) -> FailureRule:
    fields = {"name": pattern, "error_class": "fan", "action": "retry", "max_retries": 5, "wait_s": 60, **values}
    return FailureRule.objects.create(pattern=pattern, **fields)


@pytest.mark.django_db
def test_custom_rules_are_tried_first_in_their_order() -> None:
    rule("fan .* stopped", order=2)
    rule("stopped", order=1, error_class="other", action="fail")
    rule("the fan", order=0, is_enabled=False)
    found = diagnose("out_of_memory", ["x", "the fan has stopped"], [], own_rules())
    assert found.rule == Rule("other", "fail", "stopped", 5, 60.0)
    assert found.lines == ["x", "the fan has stopped"]
    assert diagnose("out_of_memory", ["nothing of it"], [], own_rules()).rule.error_class == "out_of_memory"


def test_a_pattern_that_takes_too_long_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainingapp.supervision.failures.PATTERN_S", 1.0)
    began = time.monotonic()
    careless = ("(a+)+$", Rule("careless"))
    found = diagnose("error", ["a" * 2000 + "b", "CUDA error"], [], [careless])
    assert found.rule.error_class == "device_error"
    assert time.monotonic() - began < 30, "it would have taken longer than the universe lasts"


def test_an_invalid_pattern_is_skipped() -> None:
    assert search_in_process("fan (", ["fan ("]) == []


def test_what_is_searched_is_found() -> None:
    assert search_in_process(r"^b.r$", ["foo", "bar", "bär"]) == [1, 2]
