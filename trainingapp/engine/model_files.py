"""Weights on their way into the library: taken from a checkpoint or an upload, tried on their network, written down."""

import json
import math
import re
import zipfile
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from trainingapp.contract.config import parse_config
from trainingapp.contract.errors import BadData
from trainingapp.contract.messages.weights import (
    CHECKPOINT_INCOMPLETE,
    DECOMPRESSION_BOMB,
    MORE_THAN_TENSORS,
    MORE_THAN_TENSORS_NAMED,
    NO_TENSORS,
    NOT_A_STATE_DICT,
    NOT_PYTORCH,
    NOT_SAFETENSORS,
    NOTHING_FITS,
    TENSOR_NOT_DENSE,
    TENSOR_NOT_FINITE,
    TENSOR_TOO_LARGE,
)
from trainingapp.contract.model_card import WEIGHTS_FILE, Card
from trainingapp.contract.storage.durable import flush, sha256_of
from trainingapp.engine.networks import build_network
from trainingapp.engine.transfer import NAMES_SHOWN, TransferReport, checkpoint_weights, first_names, load_matching

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers put before the names of a network's tensors."""

WRAPPERS = ("ema_state_dict", "model_state_dict", "state_dict", "model", "model_ema")
"""Keys under which training programs keep the weights in a checkpoint."""

COUNTERS = "num_batches_tracked"
"""Buffers without which a network predicts just the same."""

NAMES_KEPT = 12
NAMES_SAID = 3


def take_checkpoint(card: Card, checkpoint: Path, folder: Path) -> dict[str, object]:
    """Write FOLDER/weights.safetensors from a checkpoint of the studio. Raises WeightsUnavailable, BadData."""
    return _written(card, checkpoint_weights(checkpoint), folder, must_be_whole=True)


def take_upload(card: Card, upload: Path, folder: Path) -> dict[str, object]:
    """Write FOLDER/weights.safetensors from a safetensors file or a `.pt`, which is never unpickled freely.

    What fits is kept; where nothing does, or the file is neither, BadData says why.
    """
    is_pickle = upload.suffix != ".safetensors"
    state = _unpickled(upload) if is_pickle else _safe(upload)
    return _written(card, _without_prefix(state), folder, must_be_whole=False)


def _written(card: Card, state: dict[str, torch.Tensor], folder: Path, *, must_be_whole: bool) -> dict[str, object]:
    network = build_network(parse_config(card["config"]), len(card["classes"]))
    report = load_matching(network, state)
    left_out = [name for name in (*report.missing, *report.other_shape) if not name.endswith(COUNTERS)]
    if must_be_whole and left_out:
        missing = first_names(left_out, NAMES_SAID)
        raise BadData(CHECKPOINT_INCOMPLETE(names=missing))
    if not any(not name.endswith(COUNTERS) for name in report.matched):
        given, expected = (first_names(list(names), NAMES_SAID) for names in (state, network.state_dict()))
        raise BadData(NOTHING_FITS(architecture=card["architecture"], given=given, expected=expected))
    _check_finite(network, report.matched)
    path = folder / WEIGHTS_FILE
    kept = {name: tensor for name, tensor in network.state_dict().items() if not left_out or name in report.matched}
    # safetensors needs tensors that share no memory and are contiguous.
    apart = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in kept.items()}
    save_file(apart, path, metadata={"format": "pt", "card": json.dumps(card, ensure_ascii=False)})
    flush(path)
    return {"size_bytes": path.stat().st_size, "sha256": sha256_of(path), "report": _told(report, left_out)}


def _told(report: TransferReport, left_out: list[str]) -> dict[str, object]:
    """How much fits, as the entry keeps it: numbers, and the first names of each kind."""
    names = asdict(report)
    counts = {kind: len(found) for kind, found in names.items()}
    return {"is_whole": not left_out, "counts": counts, "names": {k: found[:NAMES_KEPT] for k, found in names.items()}}


def _check_finite(network: nn.Module, names: list[str]) -> None:
    state = network.state_dict()
    for name in names:
        if state[name].is_floating_point() and not torch.isfinite(state[name].sum()):
            raise BadData(TENSOR_NOT_FINITE(tensor=name))


def _safe(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadData(NOT_SAFETENSORS(error=str(error))) from error


def _unpickled(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a `.pt` file by name; plain tensors and containers are all that it may hold."""
    _refuse_bomb(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))  # torch's own words begin with how to load it all the same
        if named is None:
            raise BadData(MORE_THAN_TENSORS()) from error
        raise BadData(MORE_THAN_TENSORS_NAMED(name=named[1])) from error
    except Exception as error:  # torch.load raises nearly anything for a file that is none
        raise BadData(NOT_PYTORCH(kind=type(error).__name__, error=str(error))) from error
    return _tensors(content)


def _refuse_bomb(path: Path) -> None:
    """PyTorch stores its tensors as they are: an archive that grows when it is opened is none of its."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(item.file_size for item in archive.infolist())
    if unpacked > path.stat().st_size * 1.5 + 10_000_000:
        raise BadData(DECOMPRESSION_BOMB(size=unpacked))


def _tensors(content: object) -> dict[str, torch.Tensor]:
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        raise BadData(NOT_A_STATE_DICT(type=type(content).__name__))
    found = {
        name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not found:
        raise BadData(NO_TENSORS(names=list(map(str, list(content)[:NAMES_SHOWN]))))
    return {name: _plain_tensor(name, value) for name, value in found.items()}


def _plain_tensor(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Refuses tensors that claim more numbers than the file holds."""
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise BadData(TENSOR_NOT_DENSE(tensor=name))
    if math.prod(tensor.shape) * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise BadData(TENSOR_TOO_LARGE(tensor=name))
    return tensor


def _without_prefix(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state
