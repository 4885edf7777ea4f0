"""Files of weights: which names and first bytes are accepted, and what other files are (no torch).

Only safetensors and files of `torch.save` contain weights that can be read here. People also try files of other
programs, lists of parts and web pages; these are named, with what to do instead.
"""

import re
from pathlib import Path

from trainingapp.contract.messages import Message, Template
from trainingapp.contract.messages.weights import (
    ARCHIVE,
    BIN_NOT_PYTORCH,
    ENDING_UNKNOWN,
    EXPORTED_NETWORK,
    GIT_LFS_POINTER,
    LEGACY_TAR,
    NO_SAFETENSORS_HEADER,
    NOT_TORCH_SAVE,
    OTHER_PROGRAM,
    PART_OF_WEIGHTS,
    PYTHON_PICKLE,
    SHARD_INDEX,
    WEB_PAGE,
)

ENDINGS = (".safetensors", ".pth.tar", ".pt.tar", ".pt", ".pth", ".ckpt", ".bin")
"""Accepted endings; what a file is, its content decides."""

LAST_BYTES_OF_TABLE = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
"""Magic number at the end of a table file of LevelDB, which TensorFlow's checkpoints are."""

BYTES_READ = 65_536

_EXPORTED = {
    ".onnx": "ONNX",
    ".tflite": "TensorFlow Lite",
    ".mlmodel": "Core ML",
    ".mlpackage": "Core ML",
    ".engine": "TensorRT",
    ".plan": "TensorRT",
    ".trt": "TensorRT",
    ".xml": "OpenVINO",
    ".param": "ncnn",
    ".torchscript": "TorchScript",
    ".ptl": "TorchScript",
    ".pt2": "torch.export",
}
_PROGRAMS = {
    ".h5": "Keras",
    ".hdf5": "Keras",
    ".keras": "Keras",
    ".pb": "TensorFlow",
    ".index": "TensorFlow",
    ".pdparams": "PaddlePaddle",
    ".pdiparams": "PaddlePaddle",
    ".pdmodel": "PaddlePaddle",
    ".params": "MXNet",
    ".weights": "Darknet",
    ".caffemodel": "Caffe",
    ".gguf": "llama.cpp (GGUF)",
    ".ggml": "llama.cpp (GGML)",
    ".msgpack": "Flax",
    ".npz": "NumPy",
    ".npy": "NumPy",
}
_PICKLES = (".pkl", ".pickle", ".joblib", ".dill")
_ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar", ".zst")

_FIRST_BYTES: tuple[tuple[bytes, Template, str], ...] = (
    (b"\x89HDF", OTHER_PROGRAM, "Keras (HDF5)"),
    (b"\x93NUMPY", OTHER_PROGRAM, "NumPy"),
    (b"GGUF", OTHER_PROGRAM, "llama.cpp (GGUF)"),
    (b"model_checkpoint_path", OTHER_PROGRAM, "TensorFlow"),
    (b"\x08\x01\x12", OTHER_PROGRAM, "TensorFlow"),
    (b"\x00\x00\x00\x00\x02\x00\x00\x00", OTHER_PROGRAM, "Darknet"),
    (b"ftrt", EXPORTED_NETWORK, "TensorRT"),
    (b"\x1f\x8b", ARCHIVE, "gzip"),
    (b"BZh", ARCHIVE, "bzip2"),
    (b"\xfd7zXZ\x00", ARCHIVE, "xz"),
    (b"7z\xbc\xaf\x27\x1c", ARCHIVE, "7z"),
    (b"Rar!", ARCHIVE, "RAR"),
    (b"\x28\xb5\x2f\xfd", ARCHIVE, "zstd"),
)


def is_safetensors(path: Path) -> bool:
    """Whether the file begins as safetensors files do: the length of the header, and the header, a JSON object."""
    with path.open("rb") as file:
        beginning = file.read(9)
    length = int.from_bytes(beginning[:8], "little")
    return len(beginning) == 9 and beginning[8:] == b"{" and length <= path.stat().st_size - 8


def refusal(path: Path, file_name: str) -> Message | None:
    """Why a file of this name and content cannot contain weights; None where it may.

    A zip is accepted here: what it holds is known when it is opened.
    """
    name = Path(file_name).name
    with path.open("rb") as file:
        beginning = file.read(BYTES_READ)
        file.seek(max(0, path.stat().st_size - len(LAST_BYTES_OF_TABLE)))
        end = file.read()
    found = _other_content(beginning, end) or _other_name(name)
    if found is not None or is_safetensors(path):
        return found
    if name.lower().endswith(".safetensors"):
        return NO_SAFETENSORS_HEADER()
    if not beginning.startswith((b"PK", b"\x80")):
        return BIN_NOT_PYTORCH() if name.lower().endswith(".bin") else NOT_TORCH_SAVE()
    return None


def _other_content(beginning: bytes, end: bytes) -> Message | None:
    for first, template, kind in _FIRST_BYTES:
        if beginning.startswith(first):
            return template(kind=kind)
    text = beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return GIT_LFS_POINTER()
    if text.startswith((b"<!doctype html", b"<html")):
        return WEB_PAGE()
    if text.startswith(b"<?xml") and b"<net " in text:
        return EXPORTED_NETWORK(kind="OpenVINO")
    if text.startswith(b"{") and b'"weight_map"' in text:
        return SHARD_INDEX()
    if beginning[4:8] == b"TFL3":
        return EXPORTED_NETWORK(kind="TensorFlow Lite")
    # The first field of ONNX is the version of its format, the next one the name of the program, a text.
    if beginning[:1] == b"\x08" and beginning[2:3] in (b"\x12", b"\x1a", b"\x3a"):
        return EXPORTED_NETWORK(kind="ONNX")
    if end == LAST_BYTES_OF_TABLE:
        return OTHER_PROGRAM(kind="TensorFlow")
    if beginning[257:262] == b"ustar":
        is_pytorch = beginning.startswith((b"sys_info", b"storages", b"tensors", b"pickle"))
        return LEGACY_TAR() if is_pytorch else ARCHIVE(kind="tar")
    return None


def _other_name(name: str) -> Message | None:
    lowered = name.lower()
    if lowered.endswith(".index.json"):
        return SHARD_INDEX()
    if lowered.endswith(ENDINGS):
        part = re.search(r"-(\d{5})-of-(\d{5})\.[a-z]+$", lowered)
        if part is not None and int(part[2]) > 1:
            return PART_OF_WEIGHTS(number=int(part[1]), count=int(part[2]))
        return None
    ending = Path(lowered).suffix
    if ending in _EXPORTED:
        return EXPORTED_NETWORK(kind=_EXPORTED[ending])
    if ending in _PROGRAMS or re.search(r"\.data-\d{5}-of-\d{5}$", lowered):
        return OTHER_PROGRAM(kind=_PROGRAMS.get(ending, "TensorFlow"))
    if ending in _PICKLES:
        return PYTHON_PICKLE()
    if ending in _ARCHIVES:
        return ARCHIVE(kind=ending.removeprefix("."))
    return ENDING_UNKNOWN(endings=list(ENDINGS), name=name)
