"""The device that a run requests, and the device that the studio assigns."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from trainingapp.contract.config import parse_config
from trainingapp.contract.errors import BadConfig, DeviceUnavailable, classify
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.engine.device import device_for, device_name


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"device_count": 2, "device": "cuda:1"}, "device_count", "must be 1 unless device is auto, cpu or cuda"),
        ({"device_count": 0, "device": "cpu"}, "device_count", "greater than or equal to 1"),
        (
            {"device_count": 2, "devices_at_least": 3, "device": "cpu"},
            "devices_at_least",
            "must not exceed device_count",
        ),
        ({"devices_at_least": 2}, "devices_at_least", "must not exceed device_count"),
        ({"reduction": "sloppy"}, "reduction", "'exact' or 'fast'"),
        ({"share_device": True}, "share_device", "needs min_free_memory_gb"),
        ({"min_free_memory_gb": -1}, "min_free_memory_gb", "greater than or equal to 0"),
        ({"device": "gpu"}, "device", "match pattern"),
        ({"device": "mps"}, "device", "GPUs of Apple (mps) and Intel (xpu) are not supported"),
        ({"device": "xpu:1"}, "device", "GPUs of Apple (mps) and Intel (xpu) are not supported"),
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
    assert [parse_config({"device": device, "device_count": 2}).device_count for device in ("auto", "cuda")] == [2, 2]
    several = parse_config({"device": "cpu", "device_count": 4, "devices_at_least": 2})
    assert (parse_config({"device": "cpu", "device_count": 4}).least_devices, several.least_devices) == (4, 2)
    plain = parse_config({})
    assert (plain.devices_at_least, plain.least_devices, plain.reduction) == (0, 1, "exact")
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


def test_several_devices_are_one_for_each_rank(tmp_path: Path) -> None:
    spec = order(tmp_path, {}, devices=["cuda:2", "cuda:0"], device_uuids=["GPU-b", "GPU-a"])
    assert (spec.devices, spec.device_uuids) == (("cuda:2", "cuda:0"), ("GPU-b", "GPU-a"))
    assert (spec.device, spec.device_uuid) == ("cuda:2", "GPU-b")
    slots = order(tmp_path, {}, devices=["cpu", "cpu"])
    assert (slots.devices, slots.device_uuids, slots.device, slots.device_uuid) == (("cpu", "cpu"), (), "cpu", "")
    one = order(tmp_path, {}, device="cuda:1", device_uuid="GPU-c")
    assert (one.devices, one.device_uuids, one.device_uuid) == (("cuda:1",), ("GPU-c",), "GPU-c")
    assert order(tmp_path, {}).devices == ()


def test_devices_of_several_hosts_may_have_the_same_number(tmp_path: Path) -> None:
    given = {"devices": ["cuda:0", "cuda:1", "cuda:0"], "hosts": ["barn", "barn", "shed"]}
    spec = order(tmp_path, {}, **given, address="10.0.0.1", interface="eth1")
    assert [spec.is_elsewhere(rank) for rank in range(3)] == [False, False, True]
    assert (spec.address, spec.interface) == ("10.0.0.1", "eth1")
    alone = order(tmp_path, {}, devices=["cpu", "cpu"])
    assert (alone.hosts, alone.address, alone.interface) == ((), "127.0.0.1", "lo")
    assert not alone.is_elsewhere(1)


@pytest.mark.parametrize(
    "given",
    [
        {"devices": "cpu"},
        {"devices": ["cpu", "gpu"]},
        {"devices": ["cpu", "cuda:0"]},
        {"devices": ["cuda:0", "cuda:0"]},
        {"devices": ["cuda:0", "cuda:1"], "device_uuids": ["GPU-a"]},
        {"devices": ["cuda:0", "cuda:0"], "hosts": ["barn", "barn"]},
        {"devices": ["cuda:0", "cuda:1"], "hosts": ["barn"]},
    ],
)
def test_an_invalid_assignment_of_several_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"devices? (is|are) .*; (it|they) must be"):
        order(tmp_path, {}, **given)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU that torch can use")
@pytest.mark.parametrize("uuid", ["", "GPU-00000000-1111-2222-3333-444444444444"])
@pytest.mark.parametrize("requested", ["auto", "cuda"])
def test_an_assigned_gpu_is_never_exchanged_for_the_cpu(
    uuid: str, requested: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    spec = order(tmp_path, {"device": requested}, device="cuda:3", device_uuid=uuid)
    with pytest.raises(DeviceUnavailable, match="torch cannot use cuda:3, which was assigned to the run: ") as caught:
        device_for(spec)
    assert classify(caught.value).error_class == "device_unavailable"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == uuid


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU that torch can use")
def test_without_an_assignment_the_configuration_decides(tmp_path: Path) -> None:
    assert device_for(order(tmp_path, {"device": "auto"})) == torch.device("cpu")
    with pytest.raises(BadConfig, match="no GPU that torch can use"):
        device_for(order(tmp_path, {"device": "cuda"}))


class Cuda:
    """What torch reports of two GPUs, which are not here: the names and what is done to them are recorded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: str = "") -> None:
        self.current: int | None = None
        self.error = error
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=f"uuid-{number}"))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA H200")
        monkeypatch.setattr(torch.cuda, "set_device", self.use)
        monkeypatch.setattr(torch, "ones", lambda _count, device: torch.zeros(1))

    def use(self, number: int) -> None:
        if self.error:
            raise RuntimeError(self.error)
        self.current = number


def test_the_uuid_decides_which_gpu_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)
    device = device_for(order(tmp_path, {}, device="cuda:5", device_uuid="GPU-uuid-1"))
    assert (device, cuda.current) == (torch.device("cuda", 1), 1)
    assert device_name(device, "cuda:5") == "cuda:5 (NVIDIA H200)"
    with pytest.raises(DeviceUnavailable, match="No CUDA GPU has the UUID GPU-uuid-7"):
        device_for(order(tmp_path, {}, device="cuda:5", device_uuid="GPU-uuid-7"))


def test_a_full_gpu_is_out_of_memory_and_not_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cuda(monkeypatch, error="CUDA error: out of memory")
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        device_for(order(tmp_path, {}, device="cuda:0"))
    assert classify(caught.value).error_class == "out_of_memory"
