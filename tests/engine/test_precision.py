"""Mixed precision is a choice of three; the format that it came to is reported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.trainers import EndAfter, change_order, events_of, newest_content, train_here
from trainingapp.contract.base_config import AmpChoice, DeterminismChoice
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.engine.checkpoint import CheckpointFolder, Found
from trainingapp.engine.device import choose_precision
from trainingapp.engine.number_format import precision_for
from trainingapp.engine.tasks.registry import read_dataset

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


def _pretend(monkeypatch: pytest.MonkeyPatch, *units: str, limit: str = "ALL") -> None:
    """A CPU that has these units alone, of which oneDNN uses those within `limit`."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(("avx512_f", *units), True))
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)


@pytest.mark.parametrize(
    ("units", "limit", "model", "name"),
    [
        ([], "ALL", "resnet18", "float32"),  # oneDNN would compute in bfloat16 there too, slowly
        (["amx_bf16"], "ALL", "resnet18", "bfloat16"),
        (["amx_bf16"], "ALL", "vit_b_16", "bfloat16"),
        (["amx_bf16"], "ALL", "mobilenet_v3_small", "float32"),
        (["amx_bf16"], "ALL", "timm/efficientnet_lite0", "float32"),
        (["avx512_bf16"], "avx512_core_bf16", "resnet18", "bfloat16"),
        (["amx_bf16", "avx512_bf16"], "AVX512_CORE_VNNI", "resnet18", "float32"),
    ],
)
def test_a_new_run_on_a_cpu_follows_its_units_and_the_network(
    units: list[str], limit: str, model: str, name: str, new_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch, *units, limit=limit)
    run_dir = new_run(epochs=1, amp="auto", model=model)
    spec = read_run_spec(run_dir, read_config_file(run_dir))
    precision, warning = precision_for(spec, read_dataset(spec), CPU)
    assert (precision.name, warning) == (name, None)
    change_order(run_dir, amp="off")
    spec = read_run_spec(run_dir, read_config_file(run_dir))
    assert precision_for(spec, read_dataset(spec), CPU)[0].name == "float32"


@pytest.mark.parametrize("units", [[], ["amx_bf16"]])
@pytest.mark.parametrize(
    ("trained_in", "name"), [("", "float32"), ("float32", "float32"), ("float16", "float32"), ("bfloat16", "bfloat16")]
)
def test_a_run_that_continues_keeps_its_format(
    units: list[str], trained_in: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch, *units)
    assert choose_precision(CPU, amp="auto", trained_in=trained_in)[0].name == name


def test_an_automatic_run_resumes_exactly_on_another_kind_of_cpu(new_run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that an earlier version began, whose checkpoints do not say that it trained in float32."""
    in_bfloat16, in_float32 = (new_run(name, epochs=2, amp="auto", model="resnet18") for name in "ab")
    _pretend(monkeypatch, "amx_bf16")
    train_here(in_bfloat16, EndAfter(3))
    _pretend(monkeypatch)
    train_here(in_float32, EndAfter(3))
    assert [newest_content(one)["precision"] for one in (in_bfloat16, in_float32)] == ["bfloat16", "float32"]

    change_order(in_bfloat16)
    train_here(in_bfloat16)
    _pretend(monkeypatch, "amx_bf16")
    monkeypatch.setattr(
        "trainingapp.engine.loop.CheckpointFolder.newest_valid", _as_before(CheckpointFolder.newest_valid)
    )
    change_order(in_float32)
    train_here(in_float32)
    for run_dir, name in ((in_bfloat16, "bfloat16"), (in_float32, "float32")):
        assert [event["environment"]["precision"] for event in _started(run_dir)] == [name, name]
        (check,) = [event for event in events_of(run_dir, "status") if event["state"] == "resume_check"]
        assert check["verdict"] == "exact"


def _as_before(newest_valid: Callable[[CheckpointFolder], Found | None]) -> Callable[[CheckpointFolder], Found | None]:
    """The same without the format that earlier versions did not write."""

    def found(folder: CheckpointFolder) -> Found | None:
        checkpoint = newest_valid(folder)
        if checkpoint is not None:
            checkpoint.content.pop("precision", None)
        return checkpoint

    return found


def _started(run_dir: Path) -> list[dict[str, Any]]:
    return [event for event in events_of(run_dir, "status") if event["state"] == "started"]


def test_on_a_cpu_it_is_on_where_the_processor_has_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor of the test is one of two kinds; the other is pretended."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert choose_precision(CPU, amp="on")[0].name == "bfloat16"
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    precision, warning = choose_precision(CPU, amp="on")
    assert precision.name == "float32"
    assert "does not support bfloat16" in str(warning)


def test_a_run_reports_its_precision(new_run) -> None:
    run_dir = new_run(epochs=1, amp="off")
    train_here(run_dir)
    (event,) = _started(run_dir)
    assert event["environment"]["precision"] == "float32"
    assert event["environment"]["deterministic"] is True
