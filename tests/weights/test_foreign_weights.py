"""Weights of other programs: tensors are matched by name and shape; nothing in a file is executed."""

import argparse
import collections
import datetime
import io
import json
import pathlib
import pickle
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from tests.helpers.library_weights import make_card
from trainingapp.contract.config import parse_config
from trainingapp.contract.errors import BadData
from trainingapp.contract.weight_files import refusal
from trainingapp.engine.model_files import take_upload
from trainingapp.engine.networks import build_network
from trainingapp.engine.state_files import MOST_PREFIXES, PREFIXES, Ignored, read_content

CLASSES = ["blue", "red"]
MODEL = "mobilenet_v3_small"
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(5)
    config = parse_config({"task": "classification", "model": MODEL, "image_size": 32})
    return dict(build_network(config, len(CLASSES)).state_dict())


@pytest.fixture
def card() -> dict[str, Any]:
    return make_card("classification", MODEL, 32, CLASSES)


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def halved(state: State) -> State:
    return {name: value / 2 if value.is_floating_point() else value for name, value in state.items()}


def settings() -> dict[str, Any]:
    """What training programs store beside the weights."""
    counts: Any = collections.defaultdict(list)
    counts["loss"].append(0.5)
    return {
        "epoch": 3,
        "best": np.float64(0.75),
        "step": np.int64(12),
        "curve": np.arange(6, dtype=np.float32),
        "names": np.array(["blue", "red"]),
        "args": argparse.Namespace(lr=0.1, data=pathlib.PosixPath("/data"), flags=[True, None]),
        "more": types.SimpleNamespace(a=1),
        "time": datetime.datetime(2026, 1, 1),
        "counts": counts,
        "optimizer": torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9).state_dict(),
    }


#: How a program arranged the weights: the content of its file, the keys and the prefix that must be found.
ARRANGED: dict[str, tuple[Callable[[State], Any], str, str]] = {
    "plain": (lambda s: s, "", ""),
    "model": (lambda s: {"model": s}, "model", ""),
    "state_dict": (lambda s: {"state_dict": prefixed(s, "module.")}, "state_dict", "module."),
    "model_state_dict": (lambda s: {"model_state_dict": s, "epoch": 1}, "model_state_dict", ""),
    "net": (lambda s: {"net": prefixed(s, "module."), "acc": 91.2}, "net", "module."),
    "ema before model": (lambda s: {"model": halved(s), "ema": s}, "ema", ""),
    "timm": (lambda s: {"arch": "x", "state_dict": halved(s), "state_dict_ema": s}, "state_dict_ema", ""),
    "torchvision": (
        lambda s: {"model": halved(s), "model_ema": {"n_averaged": torch.tensor(3), **prefixed(s, "module.")}},
        "model_ema",
        "module.",
    ),
    "ema_state_dict": (lambda s: {"model_state_dict": halved(s), "ema_state_dict": s}, "ema_state_dict", ""),
    "lightning": (
        lambda s: {"state_dict": {**prefixed(s, "model."), "criterion.weight": torch.ones(2)}, "loops": {}},
        "state_dict",
        "model.",
    ),
    "compiled in parallel": (lambda s: {"model": prefixed(s, "module._orig_mod.")}, "model", "module."),
    "compiled": (lambda s: prefixed(s, "_orig_mod."), "", ""),
    "wrapped twice": (lambda s: {"model": prefixed(s, "module.module.")}, "model", "module.module."),
    "backbone in net": (lambda s: {"model": prefixed(s, "net.backbone.")}, "model", "net.backbone."),
    "deep": (lambda s: {"state": {"train": {"weights": s}}}, "state.train.weights", ""),
    "teacher": (lambda s: {"student": halved(s), "teacher": prefixed(s, "backbone.")}, "teacher", "backbone."),
    "half precision": (lambda s: {"model": {n: v.half() if v.is_floating_point() else v for n, v in s.items()}},
                       "model", ""),
    "parameters": (lambda s: {n: nn.Parameter(v, requires_grad=False) for n, v in s.items()}, "", ""),
}  # fmt: skip


@pytest.mark.parametrize(
    ("arranged", "is_old"),
    [*((name, False) for name in ARRANGED), *((name, True) for name in ("plain", "lightning", "timm"))],
)
def test_a_state_dict_is_found_wherever_it_is_nested(
    arranged: str, is_old: bool, state: State, card: dict[str, Any], tmp_path: Path
) -> None:
    make, key, prefix = ARRANGED[arranged]
    content = make(state)
    if any(not isinstance(value, torch.Tensor) for value in content.values()):
        content = {**settings(), **content}
    path = tmp_path / "upload.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not is_old)
    assert refusal(path, "checkpoint.pth.tar") is None
    made = take_upload(card, path, tmp_path)
    report: Any = made["report"]
    assert (report["is_whole"], report["key"], report["prefix"]) == (True, key, prefix)
    stored = load_file(tmp_path / "weights.safetensors")
    tolerance = 1e-3 if arranged == "half precision" else 0.0
    for name, value in state.items():
        torch.testing.assert_close(stored[name], value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.pth", "a.ckpt", "a.pth.tar", "a.bin", "A.PTH"])
def test_the_content_of_a_file_decides_and_not_its_ending(
    name: str, state: State, card: dict[str, Any], tmp_path: Path
) -> None:
    for kind in ("safetensors", "pt"):
        path = tmp_path / f"upload.{kind}"
        if kind == "safetensors":
            save_file(prefixed(state, "module."), path)
        else:
            torch.save(state, path)
        if kind == "pt" and name.endswith(".safetensors"):
            assert "header is missing" in str(refusal(path, name))
            continue
        assert refusal(path, name) is None
        # The job knows the file by one of two names, which the content decided.
        path.rename(tmp_path / "file")
        assert take_upload(card, tmp_path / "file", tmp_path)["report"]["is_whole"]


def test_every_repetition_of_a_prefix_is_removed_up_to_a_limit(
    state: State, card: dict[str, Any], tmp_path: Path
) -> None:
    for prefix in PREFIXES:
        torch.save(prefixed(state, prefix * MOST_PREFIXES), tmp_path / "upload.pt")
        assert take_upload(card, tmp_path / "upload.pt", tmp_path)["report"]["prefix"] == prefix * MOST_PREFIXES
    torch.save(prefixed(state, "module." * (MOST_PREFIXES + 1)), tmp_path / "upload.pt")
    with pytest.raises(BadData, match="Nothing in the file fits"):
        take_upload(card, tmp_path / "upload.pt", tmp_path)


def test_settings_are_skipped_without_executing_their_code(tmp_path: Path) -> None:
    torch.save({**settings(), "model": {"a": torch.ones(2)}}, tmp_path / "a.pt")
    content = read_content(tmp_path / "a.pt")
    assert isinstance(content, dict)
    assert all(type(content[name]) is Ignored for name in ("best", "step", "curve", "args", "more", "time"))
    assert torch.equal(content["model"]["a"], torch.ones(2))
    # Outside of this reading nothing has been allowed.
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pt", weights_only=True)


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self.path)!r}, 'w')",))


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


def of_module(name: str, module: str) -> type:
    """A class as if it came from a package that is not installed."""
    made = type(name, (nn.Module,), {"__module__": module})
    parts = module.split(".")
    for number in range(len(parts)):
        sys.modules.setdefault(".".join(parts[: number + 1]), types.ModuleType(".".join(parts[: number + 1])))
    setattr(sys.modules[module], name, made)
    return made


def save_as_family(path: Path, module: str, name: str) -> None:
    before = set(sys.modules)
    try:
        model: Any = of_module(name, module)()
        model.layer = nn.Linear(2, 2)
        torch.save({"epoch": -1, "model": model.half(), "train_args": {"imgsz": 640}}, path)
    finally:
        for added in set(sys.modules) - before:
            del sys.modules[added]


def save_script(path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(path))  # type: ignore[no-untyped-call]


def save_exported(path: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), path)


def save_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def save_tar(path: Path, name: str) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())


SAVE = 'torch.save(model.state_dict(), "weights.pt")'

#: The content of a `.pt` file that is refused when it is opened, and parts of the reason.
REFUSED: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "code": (lambda path: torch.save({"model": {"a": torch.ones(2)}, "x": Runs(path.parent / "ran")}, path),
             ("for security reasons: it names exec", SAVE)),
    "code before 1.6": (lambda path: torch.save({"x": Runs(path.parent / "ran")}, path,
                                                _use_new_zipfile_serialization=False), ("it names exec", SAVE)),
    "plain pickle": (lambda path: path.write_bytes(pickle.dumps({"a": Runs(path.parent / "ran")})),
                     ("it names builtins.exec", SAVE)),
    "protocol 4": (lambda path: torch.save({"a": torch.ones(2)}, path, pickle_protocol=4), ("pickle protocol 4",)),
    "whole torchvision": (lambda path: torch.save(torchvision.models.resnet18(), path),
                          ("a whole model of torchvision (torchvision.models.resnet.ResNet)", SAVE)),
    "whole Ultralytics": (lambda path: save_as_family(path, "ultralytics.nn.tasks", "DetectionModel"),
                          ("a whole model of Ultralytics YOLO (ultralytics.nn.tasks.DetectionModel)",
                           'torch.save(YOLO("model.pt").model.state_dict(), "weights.pt")', "not available here")),
    "whole YOLOv5": (lambda path: save_as_family(path, "models.yolo", "DetectionModel"),
                     ("a whole model of Ultralytics YOLO (models.yolo.DetectionModel)",)),
    "whole timm": (lambda path: save_as_family(path, "timm.models.vision_transformer", "VisionTransformer"),
                   ("a whole model of timm", SAVE)),
    "fastai": (lambda path: save_as_family(path, "fastai.learner", "Learner"),
               ("a whole model of fastai", "torch.save(learn.model.state_dict()")),
    "whole own": (lambda path: torch.save(Own(), path),
                  (f"a whole model of the class {Own.__module__}.Own instead of its weights", SAVE)),
    "plain layers": (lambda path: torch.save(nn.Sequential(nn.Linear(2, 2)), path),
                     ("a whole model of the class torch.nn.modules.container.Sequential", SAVE)),
    "TorchScript": (save_script, ("This is a TorchScript file", "torch.jit.load(")),
    "torch.export": (save_exported, ("This is a torch.export file", "torch.export.load(")),
    "Keras 3": (lambda path: save_zip(path, {"config.json": b"{}", "model.weights.h5": b""}), ("a file of Keras",)),
    "SavedModel": (lambda path: save_zip(path, {"m/saved_model.pb": b"", "m/variables/v.index": b""}),
                   ("a file of TensorFlow",)),
    "Core ML": (lambda path: save_zip(path, {"Data/com.apple.CoreML/model.mlmodel": b""}), ("a file of Core ML",)),
    "NumPy": (lambda path: np.savez(path.open("wb"), a=np.ones(2)), ("a file of NumPy",)),
    "zipped": (lambda path: save_zip(path, {"run/best.pt": b"x"}), ("a zip archive. Unpack it",)),
    "a list": (lambda path: torch.save([1, 2], path), ("a list; a state dict", SAVE)),
    "no tensors": (lambda path: torch.save({"epoch": 3}, path), ("no tensors by name. Its keys: epoch", SAVE)),
    "no pickle": (lambda path: path.write_bytes(b"\x80\x02broken"), ("not a PyTorch file",)),
    "sparse": (lambda path: torch.save({"model": {"a": torch.eye(3).to_sparse()}}, path), ("sparse or quantized",)),
    "meta": (lambda path: torch.save({"a": torch.zeros(2, device="meta")}, path), ("sparse or quantized",)),
    "Ultralytics names": (lambda path: torch.save(
        {"model.0.conv.weight": torch.ones(2), "model.22.cv2.0.0.conv.weight": torch.ones(2)}, path),
        ("Nothing in the file fits", "are those of Ultralytics YOLO")),
    "Transformers names": (lambda path: torch.save(
        {"vit.encoder.layer.0.attention.output.dense.weight": torch.ones(2)}, path),
        ("are those of Hugging Face Transformers",)),
    "Detectron2 names": (lambda path: torch.save({"backbone.bottom_up.stem.conv1.weight": torch.ones(2)}, path),
                         ("are those of Detectron2",)),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_loaded_safely_is_named_with_what_to_save(
    case: str, card: dict[str, Any], tmp_path: Path
) -> None:
    make, parts = REFUSED[case]
    path = tmp_path / ("upload.pt2" if case == "torch.export" else "upload.pt")
    make(path)
    with pytest.raises(BadData) as caught:
        take_upload(card, path, tmp_path)
    text = str(caught.value)
    for part in parts:
        assert part in text
    assert "weights_only" not in text
    assert "add_safe_globals" not in text
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "weights.safetensors").exists()


LINES = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
HEADER = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
SAFETENSORS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)
TABLE = b"\x00" * 40 + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"

#: Name, content and part of the reason of files that are refused before they are stored.
NOT_WEIGHTS: list[tuple[str, bytes, str]] = [
    ("model.onnx", b"\x08\x08\x12\x07pytorch", "a file of ONNX"),
    ("model.pt", b"\x08\x08\x12\x07pytorch", "a file of ONNX"),
    ("model.h5", b"\x89HDF\r\n\x1a\n", "Keras"),
    ("model.ckpt", b"\x89HDF\r\n\x1a\n", "Keras"),
    ("model.keras", b"PK\x03\x04", "Keras"),
    ("saved_model.pb", b"\x08\x01\x12\x99", "TensorFlow"),
    ("frozen.pb", b"\x0a\x10", "TensorFlow"),
    ("model.tflite", b"\x1c\x00\x00\x00TFL3", "a file of TensorFlow Lite"),
    ("model.bin", b"\x20\x00\x00\x00TFL3", "a file of TensorFlow Lite"),
    ("model.ckpt", TABLE, "TensorFlow"),
    ("model.ckpt.index", TABLE, "TensorFlow"),
    ("model.ckpt.data-00000-of-00001", b"\x00\x01", "TensorFlow"),
    ("checkpoint.ckpt", b'model_checkpoint_path: "model.ckpt"', "TensorFlow"),
    ("yolov4.weights", b"\x00\x00\x00\x00\x02\x00\x00\x00\x05\x00\x00\x00", "Darknet"),
    ("model.pdparams", b"\x80\x04", "PaddlePaddle"),
    ("model.mlmodel", b"\x08\x04", "Core ML"),
    ("model.engine", b"ftrt", "TensorRT"),
    ("model.xml", b'<?xml version="1.0"?>\n<net name="x">', "OpenVINO"),
    ("model.bin", b"\x01\x02\x03\x04" * 9, "OpenVINO and ncnn"),
    ("model.gguf", b"GGUF", "GGUF"),
    ("flax_model.msgpack", b"\x81", "Flax"),
    ("weights.npz", b"PK\x03\x04", "NumPy"),
    ("weights.npy", b"\x93NUMPY", "NumPy"),
    ("model.torchscript", b"PK\x03\x04", "TorchScript"),
    ("model.pt2", b"PK\x03\x04", "torch.export"),
    ("model_final.pkl", b"\x80\x04", "Python pickles are not loaded"),
    ("sk.joblib", b"\x80\x04", "Python pickles are not loaded"),
    ("weights.zip", b"PK\x03\x04", "a zip archive"),
    ("best.pth.tar", b"\x1f\x8b\x08", "a gzip archive"),
    ("weights.7z", b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    ("model.safetensors.index.json", json.dumps(LINES).encode(), "lists the parts"),
    ("pytorch_model.bin", json.dumps(LINES).encode(), "lists the parts"),
    ("model-00001-of-00003.safetensors", SAFETENSORS, "part 1 of 3"),
    ("pytorch_model-00002-of-00002.bin", b"PK\x03\x04", "part 2 of 2"),
    ("best.pt", POINTER, "git lfs pull"),
    ("best.pt", b"\n<!DOCTYPE html><html>", "a web page"),
    ("notes.txt", b"hello", "Only .safetensors, .pth.tar"),
    ("best.pt", b"hello", "not written by torch.save"),
    ("best.pt", b"", "not written by torch.save"),
    ("x.safetensors", b"nothing at all, surely", "header is missing"),
]


@pytest.mark.parametrize(("name", "content", "words"), NOT_WEIGHTS, ids=[f"{n}-{w}" for n, _c, w in NOT_WEIGHTS])
def test_files_of_other_programs_are_named(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(content)
    found = refusal(path, name)
    assert found is not None
    assert words in str(found)


def test_tar_files_of_old_pytorch_differ_from_other_archives(tmp_path: Path) -> None:
    for member, words in (("sys_info", "PyTorch 0.1"), ("weights/best.pt", "a tar archive")):
        save_tar(tmp_path / "upload", member)
        assert words in str(refusal(tmp_path / "upload", "best.pth.tar"))


def test_one_of_one_parts_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(SAFETENSORS)
    assert refusal(tmp_path / "upload", "model-00001-of-00001.safetensors") is None
