"""Mixed precision is a choice of three; the format that it came to is reported."""

import pytest
import torch

from tests.helpers.trainers import events_of, train_here
from trainingapp.contract.base_config import AmpChoice, DeterminismChoice
from trainingapp.engine.device import choose_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def has_bfloat16(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A GPU with or without bfloat16: torch asks the device, which a machine without GPUs cannot answer."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: request.param)


@pytest.mark.parametrize(
    ("has_bfloat16", "amp", "deterministic", "name"),
    [
        (True, "auto", "auto", "bfloat16"),
        (False, "auto", "auto", "float16"),
        (True, "on", "exact", "bfloat16"),
        (False, "on", "exact", "float16"),
        (True, "off", "exact", "float32"),
        (True, "off", "auto", "tf32"),
        (True, "off", "fast", "tf32"),
    ],
    indirect=["has_bfloat16"],
)
@pytest.mark.usefixtures("has_bfloat16")
def test_on_a_gpu(amp: AmpChoice, deterministic: DeterminismChoice, name: str) -> None:
    precision, warning = choose_precision(GPU, amp=amp, deterministic=deterministic)
    assert (precision.name, warning) == (name, None)
    assert precision.tf32 is (deterministic != "exact")


@pytest.mark.parametrize("amp", ["auto", "off"])
def test_on_a_cpu_automatic_is_off(amp: AmpChoice) -> None:
    precision, warning = choose_precision(CPU, amp=amp, deterministic="auto")
    assert (precision.name, precision.dtype, warning) == ("float32", None, None)


def test_on_a_cpu_it_is_on_where_the_processor_has_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor of the test is one of two kinds; the other is pretended."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert choose_precision(CPU, amp="on")[0].name == "bfloat16"
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    precision, warning = choose_precision(CPU, amp="on")
    assert precision.name == "float32"
    assert "does not support bfloat16" in str(warning)


def test_a_run_reports_its_precision(new_run) -> None:
    run_dir = new_run(epochs=1)
    train_here(run_dir)
    (event,) = [event for event in events_of(run_dir, "status") if event["state"] == "started"]
    assert event["environment"]["precision"] == "float32"
    assert event["environment"]["deterministic"] is True
