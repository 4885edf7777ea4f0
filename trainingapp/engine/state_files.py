"""State dicts in files that other programs wrote: safetensors, and what `torch.save` wrote, never unpickled freely.

The restricted unpickler of torch accepts tensors and containers. Training programs store settings beside the weights,
such as numbers of NumPy and parsed arguments: their classes are replaced by stand-ins that run no code of theirs. Every
other class is refused, with what to save instead.
"""

import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from pickle import UnpicklingError
from typing import IO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from trainingapp.contract.errors import BadData
from trainingapp.contract.messages import Message, sentences
from trainingapp.contract.messages.weights import (
    ARCHIVE,
    DECOMPRESSION_BOMB,
    EXPORTED_NETWORK,
    MORE_THAN_TENSORS,
    MORE_THAN_TENSORS_NAMED,
    NO_TENSORS,
    NOT_A_STATE_DICT,
    NOT_PYTORCH,
    NOT_SAFETENSORS,
    OTHER_NETWORKS,
    OTHER_PROGRAM,
    PICKLE_PROTOCOL,
    SAVE_STATE_DICT,
    SCRIPT_MODEL,
    TENSOR_NOT_DENSE,
    TENSOR_TOO_LARGE,
    WHOLE_MODEL,
    WHOLE_MODEL_OF_FAMILY,
)
from trainingapp.contract.weight_files import ENDINGS, is_safetensors

PREFIXES = ("module.", "model.", "net.", "network.", "backbone.", "encoder.")
"""What programs put before the names of a network's tensors, also several times."""

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch itself puts into names, anywhere: torch.compile, FSDP, activation checkpointing."""

MOST_PREFIXES = 5
DEEPEST = 4
"""Levels of containers in which state dicts are looked for."""

COUNTERS = "num_batches_tracked"
"""Buffers without which a network predicts just the same."""

AVERAGED = re.compile(r"(?:^|_)(?:ema|swa|averaged|shadow|teacher)(?:_|$)")
"""Keys of averaged weights, which are preferred to those that were averaged: they are what was evaluated."""

KEYS_SHOWN = 8
MOST_INSTRUCTIONS = 2_000_000
"""Of a pickle, that are searched for the names of its classes."""

SAFE_PROTOCOL = 2
"""The pickle protocol of `torch.save`; the restricted unpickler does not read later ones."""

MOST_CANDIDATES = 1000

SAVE_CODE = 'torch.save(model.state_dict(), "weights.pt")'

State = Mapping[str, torch.Tensor]


class Ignored:
    """A stand-in for a class of settings: accepts the state of an object and stores nothing."""

    def __new__(cls, *_arguments: object, **_options: object) -> "Ignored":
        return super().__new__(cls)

    def __init__(self, *_arguments: object, **_options: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...


def _empty_dict(*_arguments: object) -> OrderedDict[object, object]:
    """What `collections.defaultdict` makes, without the function that its missing values come from."""
    return OrderedDict()


IGNORED = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype",
    "numpy.ndarray",
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
    *(f"datetime.{name}" for name in ("date", "datetime", "timedelta")),
    "mmengine.logging.history_buffer.HistoryBuffer",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.nodes.AnyNode",
    "typing.Any",
    "builtins.list",
    "builtins.int",
    "builtins.float",
    "builtins.str",
    "builtins.bool",
)
"""Classes of data, none of whose own code runs: each is replaced by `Ignored`."""

IGNORED_DICTS = (
    "yacs.config.CfgNode",
    "fvcore.common.config.CfgNode",
    "easydict.EasyDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
)
"""The same for dicts: they are read as ordered ones, which the restricted unpickler may fill."""

ACCEPTED = re.compile(
    r"torch\.\w+|torch\.(?:_utils|_tensor|storage|serialization)\.\w+|torch\.nn\.parameter\.Parameter|"
    r"collections\.(?:OrderedDict|Counter|defaultdict)|_codecs\.encode|(?:__builtin__|builtins)\.(?:set|bytearray|complex|list|dict|int|float|str|bool)"
)
"""Names in pickles that are not those of an object that is refused."""

FAMILIES = (
    (r"ultralytics\.|models\.(?:yolo|common|experimental)\.|yolov\d", "Ultralytics YOLO"),
    (r"torchvision\.", "torchvision"),
    (r"timm\.", "timm"),
    (r"segmentation_models_pytorch\.", "segmentation_models_pytorch"),
    (r"fastai\.", "fastai"),
    (r"transformers\.", "Hugging Face Transformers"),
    (r"mmdet\.|mmseg\.|mmpretrain\.|mmcls\.|mmengine\.", "OpenMMLab"),
    (r"detectron2\.", "Detectron2"),
    (r"(?:pytorch_)?lightning\.", "Lightning"),
)
"""Packages of classes that whole models are made of."""

HERE = frozenset({"torchvision", "timm", "segmentation_models_pytorch", "fastai", "Lightning"})
"""Families whose weights may fit a network of the studio."""

SAVE_CODES = {
    "Ultralytics YOLO": 'torch.save(YOLO("model.pt").model.state_dict(), "weights.pt")',
    "fastai": 'torch.save(learn.model.state_dict(), "weights.pt")',
}
"""How a family saves the weights alone, where it is not `SAVE_CODE`."""

TENSOR_NAMES = (
    (r"model\.\d+\.(?:conv|cv\d|m|bn|dfl)\.", "Ultralytics YOLO"),
    (r"(?:model\.)?(?:backbone|encoder)\.bottom_up\.|roi_heads\.box_predictor|proposal_generator\.", "Detectron2"),
    (r"(?:bbox_head|decode_head|auxiliary_head|rpn_head|roi_head|neck)\.", "OpenMMLab"),
    (r"(?:\w+\.)?(?:embedder|embeddings)\.|(?:\w+\.)?encoder\.(?:layer|stages)\.\d+\.", "Hugging Face Transformers"),
    (r"image_encoder\.|mask_decoder\.", "Segment Anything"),
    (r"visual\.|text_projection|logit_scale", "CLIP"),
    (r"transformer\.(?:encoder|decoder)\.|class_embed\.|bbox_embed\.", "DETR"),
)
"""Names of tensors by which other families are known."""


@dataclass(frozen=True)
class FoundState:
    """A state dict of a file, the keys under which it is, and the prefix that was removed from its names."""

    tensors: State
    key: str
    prefix: str


def read_content(path: Path) -> object:
    """What the file holds: tensors in containers, without the settings beside them. Raises BadData."""
    return _safetensors(path) if is_safetensors(path) or path.suffix == ".safetensors" else _unpickled(path)


def best_state(content: object, own: State) -> FoundState:
    """The state dict in `content` that has the most tensors of `own` by name and shape, after removing prefixes.

    Averaged weights are preferred among equals. Raises BadData where there is none, or it has tensors that cannot be
    stored.
    """
    if not isinstance(content, dict):
        raise BadData(sentences(NOT_A_STATE_DICT(type=type(content).__name__), SAVE_STATE_DICT(code=SAVE_CODE)))
    candidates = list(islice(_candidates(content), MOST_CANDIDATES))
    if not candidates:
        none = NO_TENSORS(names=[str(key) for key in list(content)[:KEYS_SHOWN]])
        raise BadData(sentences(none, SAVE_STATE_DICT(code=SAVE_CODE)))

    def rank(found: FoundState) -> tuple[int, bool, int]:
        fitting = sum(
            name in own and not name.endswith(COUNTERS) and not tensor.is_nested and tensor.shape == own[name].shape
            for name, tensor in found.tensors.items()
        )
        is_averaged = any(AVERAGED.search(part.lower()) for part in found.key.split("."))
        return fitting, is_averaged, len(found.tensors)

    best = max((variant for candidate in candidates for variant in _without_prefixes(candidate)), key=rank)
    for name, tensor in best.tensors.items():
        _check_plain(name, tensor)
    return best


def family_of(state: State) -> str:
    """The other family of networks that the names of the tensors belong to; empty where none is known."""
    for pattern, family in TENSOR_NAMES:
        if sum(re.match(pattern, name) is not None for name in state) * 4 >= len(state):
            return family
    return ""


def _candidates(content: object, key: str = "", depth: int = 0) -> Iterator[FoundState]:
    if not isinstance(content, dict) or depth > DEEPEST:
        return
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    tensors = {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield FoundState(tensors, key, "")
    for name, value in named.items():
        yield from _candidates(value, f"{key}.{name}" if key else name, depth + 1)


def _without_prefixes(found: FoundState) -> Iterator[FoundState]:
    """The state dict as it is, and without each sequence of prefixes that some of its names begin with."""
    tensors = found.tensors
    for wrapper in WRAPPERS:
        tensors = {name.replace(wrapper, ""): tensor for name, tensor in tensors.items()}
    todo = [(FoundState(tensors, found.key, ""), 0)]
    while todo:
        current, removed = todo.pop(0)
        yield current
        for prefix in PREFIXES if removed < MOST_PREFIXES else ():
            inner = {name.removeprefix(prefix): one for name, one in current.tensors.items() if name.startswith(prefix)}
            if inner:
                rest = {name: one for name, one in current.tensors.items() if not name.startswith(prefix)}
                todo.append((FoundState({**rest, **inner}, found.key, current.prefix + prefix), removed + 1))


def _check_plain(name: str, tensor: torch.Tensor) -> None:
    """Refuses tensors that claim more numbers than the file holds."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        raise BadData(TENSOR_NOT_DENSE(tensor=name))
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise BadData(TENSOR_TOO_LARGE(tensor=name))


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadData(NOT_SAFETENSORS(error=str(error))) from error


def _unpickled(path: Path) -> object:
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _check_archive(path)
    settings: list[Callable[..., object] | tuple[Callable[..., object], str]]
    settings = [*((Ignored, name) for name in IGNORED), *((OrderedDict, name) for name in IGNORED_DICTS)]
    settings.append((_empty_dict, "collections.defaultdict"))
    try:
        with torch.serialization.safe_globals(settings):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except UnpicklingError as error:
        raise BadData(_refused(path, is_zip=is_zip, error=str(error))) from error
    except Exception as error:  # torch.load raises nearly anything for a file that is none
        raise BadData(NOT_PYTORCH(kind=type(error).__name__, error=str(error))) from error


def _check_archive(path: Path) -> None:
    """Refuse a zip of another program, and one that grows when it is opened: PyTorch stores its tensors as they are."""
    with zipfile.ZipFile(path) as archive:
        items = archive.infolist()
    unpacked = sum(item.file_size for item in items)
    if unpacked > path.stat().st_size * 1.5 + 10_000_000:
        raise BadData(DECOMPRESSION_BOMB(bytes=unpacked))
    names = [item.filename for item in items]
    if (found := _other_archive(names)) is not None:
        raise BadData(found)


def _other_archive(names: list[str]) -> Message | None:
    """What a zip with these files is, where it is not what torch.save writes."""
    last = {name.rpartition("/")[2] for name in names}
    if any("/code/" in name for name in names) and last & {"constants.pkl", "model.json"}:
        code = 'torch.save(torch.jit.load("model.pt").state_dict(), "weights.pt")'
        return SCRIPT_MODEL(kind="TorchScript", code=code)
    if last & {"archive_format", "serialized_exported_program.json"}:
        code = 'torch.save(torch.export.load("model.pt2").state_dict, "weights.pt")'
        return SCRIPT_MODEL(kind="torch.export", code=code)
    if "model.weights.h5" in last:
        return OTHER_PROGRAM(kind="Keras")
    if "saved_model.pb" in last:
        return OTHER_PROGRAM(kind="TensorFlow")
    if any("com.apple.CoreML" in name for name in names):
        return EXPORTED_NETWORK(kind="Core ML")
    if names and all(name.endswith(".npy") for name in names):
        return OTHER_PROGRAM(kind="NumPy")
    if "data.pkl" not in last and any(name.lower().endswith(ENDINGS) for name in names):
        return ARCHIVE(kind="zip")
    return None


def _refused(path: Path, *, is_zip: bool, error: str) -> Message:
    """Why the restricted unpickler refused the file, and what to save instead."""
    protocol, names = _pickle_content(path, is_zip=is_zip)
    known = {*IGNORED, *IGNORED_DICTS}
    others = [name for name in names if name not in known and not ACCEPTED.fullmatch(name)]
    if any(name.startswith("torch.nn.modules.") for name in others):
        return _whole_model(others)
    named = re.search(r"GLOBAL (\S+)", error)  # the text of torch starts with how to load it nevertheless
    name = named[1] if named else next(iter(others), "")
    if not name and protocol > SAFE_PROTOCOL:
        return PICKLE_PROTOCOL(protocol=protocol)
    why = MORE_THAN_TENSORS_NAMED(name=name) if name else MORE_THAN_TENSORS()
    return sentences(why, SAVE_STATE_DICT(code=SAVE_CODE))


def _whole_model(names: list[str]) -> Message:
    """The message for a pickled network, whose class is the first one that is not of torch."""
    own = next((name for name in names if not name.startswith("torch.nn.modules.")), names[0])
    family = next((family for pattern, family in FAMILIES if re.match(pattern, own)), "")
    found = WHOLE_MODEL_OF_FAMILY(family=family, name=own) if family else WHOLE_MODEL(name=own)
    is_elsewhere = bool(family) and family not in HERE
    return sentences(
        found,
        SAVE_STATE_DICT(code=SAVE_CODES.get(family, SAVE_CODE)),
        OTHER_NETWORKS(family=family) if is_elsewhere else None,
    )


def _pickle_content(path: Path, *, is_zip: bool) -> tuple[int, list[str]]:
    """The protocol of the pickle, and the classes and functions that it names, in order. Nothing is executed."""
    if not is_zip:
        with path.open("rb") as file:
            return _names_in_pickles(file, pickles=4)  # the older format: three small ones, then the object
    with zipfile.ZipFile(path) as archive:
        inner = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
        if inner is None:
            return 0, []
        with archive.open(inner) as file:
            return _names_in_pickles(file, pickles=1)


def _names_in_pickles(file: IO[bytes], *, pickles: int) -> tuple[int, list[str]]:
    protocol, names, texts, instructions = 0, {}, ["", ""], 0
    try:
        for _number in range(pickles):
            for instruction, argument, _position in pickletools.genops(file):
                instructions += 1
                if instruction.name == "PROTO":
                    protocol = max(protocol, int(argument or 0))
                elif instruction.name == "GLOBAL":
                    names[str(argument).replace(" ", ".")] = True
                elif instruction.name == "STACK_GLOBAL":
                    names[".".join(texts)] = True
                elif "UNICODE" in instruction.name:
                    texts = [texts[1], str(argument)]
                if instructions > MOST_INSTRUCTIONS:
                    return protocol, list(names)
    except (ValueError, EOFError, UnicodeDecodeError, KeyError, IndexError):  # not a whole pickle: what was found
        pass
    return protocol, list(names)
