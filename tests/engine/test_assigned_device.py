"""The device that a run requests, and the device that the studio assigns."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from trainingapp.contract.config import parse_config
from trainingapp.contract.errors import BadConfig
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.engine.device import device_for


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"device_count": 2}, "device_count", "must be 1 unless device is cpu"),
        ({"device_count": 2, "device": "cuda"}, "device_count", "must be 1 unless device is cpu"),
        ({"device_count": 0, "device": "cpu"}, "device_count", "greater than or equal to 1"),
        ({"share_device": True}, "share_device", "needs min_free_memory_gb"),
        ({"min_free_memory_gb": -1}, "min_free_memory_gb", "greater than or equal to 0"),
        ({"device": "gpu"}, "device", "match pattern"),
    ],
)
def test_an_impossible_request_is_refused_at_its_field(values: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_config(values)
    assert [item["loc"] for item in caught.value.errors()] == [(field,)]
    assert words in caught.value.errors()[0]["msg"]


def test_possible_requests() -> None:
    assert parse_config({"device": "cpu", "device_count": 4}).device_count == 4
    assert parse_config({"device": "cuda", "share_device": True, "min_free_memory_gb": 2}).share_device
    plain = parse_config({})
    assert (plain.device, plain.device_count, plain.min_free_memory_gb, plain.share_device) == ("auto", 1, 0.0, False)


def order(tmp_path: Path, config: dict[str, Any], **more: Any) -> Any:
    record = {"config": config, "dataset_dir": str(tmp_path), "attempt": 1, **more}
    (tmp_path / "config.json").write_text(json.dumps(record))
    return read_run_spec(tmp_path, read_config_file(tmp_path))


def test_the_assigned_device_takes_precedence_over_the_configuration(tmp_path: Path) -> None:
    assert order(tmp_path, {"device": "cuda"}, device="cpu").device == "cpu"
    assert device_for(order(tmp_path, {"device": "cuda"}, device="cpu")) == torch.device("cpu")
    assert device_for(order(tmp_path, {"device": "cpu"})) == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:x", 7])
def test_an_invalid_assignment_is_refused(tmp_path: Path, device: Any) -> None:
    with pytest.raises(BadConfig, match=r"device is .*; it must be cpu or cuda:N"):
        order(tmp_path, {}, device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU that torch can use")
def test_a_gpu_that_torch_cannot_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An automatic choice falls back to the CPU; a request for a GPU is an error."""
    with caplog.at_level(logging.WARNING):
        assert device_for(order(tmp_path, {"device": "auto"}, device="cuda:0")) == torch.device("cpu")
    assert "torch cannot use it" in caplog.text
    with pytest.raises(BadConfig, match="no GPU that torch can use"):
        device_for(order(tmp_path, {"device": "cuda"}, device="cuda:0"))
