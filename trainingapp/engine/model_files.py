"""Weights on their way into the library: taken from a checkpoint or an upload, tried on their network, written down."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import NotRequired, TypedDict

import torch
from safetensors.torch import save_file
from torch import nn

from trainingapp.contract.config import parse_config
from trainingapp.contract.errors import BadData
from trainingapp.contract.messages import sentences
from trainingapp.contract.messages.weights import (
    CHECKPOINT_INCOMPLETE,
    NOTHING_FITS,
    NOTHING_FITS_FAMILY,
    TENSOR_NOT_FINITE,
)
from trainingapp.contract.model_card import WEIGHTS_FILE, Card
from trainingapp.contract.storage.durable import flush, sha256_of
from trainingapp.engine.adapters import merged
from trainingapp.engine.checkpoint_content import Normalisation
from trainingapp.engine.networks import build_network
from trainingapp.engine.state_files import COUNTERS, best_state, family_of, read_content
from trainingapp.engine.transfer import TransferReport, first_names, load_matching, read_checkpoint, weights_of

NAMES_KEPT = 12
NAMES_SHOWN = 3


class MadeFile(TypedDict):
    """What is stored about a file that was written; `normalisation` where the checkpoint says what it was."""

    size_bytes: int
    sha256: str
    report: dict[str, object]
    normalisation: NotRequired[Normalisation]


def take_checkpoint(card: Card, checkpoint: Path, folder: Path) -> MadeFile:
    """Write FOLDER/weights.safetensors from a checkpoint of the studio. Raises WeightsUnavailable, BadData."""
    network = _network(card)
    content = read_checkpoint(checkpoint)
    report = load_matching(network, weights_of(content))
    left_out = _left_out(report)
    if left_out:
        raise BadData(CHECKPOINT_INCOMPLETE(names=first_names(left_out, NAMES_SHOWN)))
    normalisation = content["normalisation"]
    made = _written({**card, "normalisation": normalisation}, network, report, folder)
    return {**made, "normalisation": normalisation}


def take_upload(card: Card, upload: Path, folder: Path) -> MadeFile:
    """Write FOLDER/weights.safetensors from a file of another program (see `state_files`).

    The state dict in it that fits best is taken; what fits is kept. Raises BadData where nothing fits, or the file
    contains no weights that can be loaded safely.
    """
    network = _network(card)
    found = best_state(read_content(upload), network.state_dict())
    report = load_matching(network, merged(found.tensors))
    if not any(not name.endswith(COUNTERS) for name in report.matched):
        given, expected = (first_names(list(names), NAMES_SHOWN) for names in (found.tensors, network.state_dict()))
        family = family_of(found.tensors)
        nothing = NOTHING_FITS(architecture=card["architecture"], given=given, expected=expected)
        raise BadData(sentences(nothing, NOTHING_FITS_FAMILY(family=family) if family else None))
    made = _written(card, network, report, folder)
    made["report"] |= {"key": found.key, "prefix": found.prefix}
    return made


def _network(card: Card) -> nn.Module:
    return build_network(parse_config(card["config"]), len(card["classes"]))


def _left_out(report: TransferReport) -> list[str]:
    """The tensors of the network that a prediction needs and the file does not have."""
    return [name for name in (*report.missing, *report.other_shape) if not name.endswith(COUNTERS)]


def _written(card: Card, network: nn.Module, report: TransferReport, folder: Path) -> MadeFile:
    """Write the network, or what was loaded of it where something is missing. Raises BadData for NaN and infinity."""
    _check_finite(network, report.matched)
    left_out = _left_out(report)
    path = folder / WEIGHTS_FILE
    kept = {name: tensor for name, tensor in network.state_dict().items() if not left_out or name in report.matched}
    # safetensors needs tensors that share no memory and are contiguous.
    apart = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in kept.items()}
    save_file(apart, path, metadata={"format": "pt", "card": json.dumps(card, ensure_ascii=False)})
    flush(path)
    names = asdict(report)
    about: dict[str, object] = {
        "is_whole": not left_out,
        "counts": {kind: len(found) for kind, found in names.items()},
        "names": {kind: found[:NAMES_KEPT] for kind, found in names.items()},
    }
    return {"size_bytes": path.stat().st_size, "sha256": sha256_of(path), "report": about}


def _check_finite(network: nn.Module, names: list[str]) -> None:
    state = network.state_dict()
    for name in names:
        if state[name].is_floating_point() and not torch.isfinite(state[name].sum()):
            raise BadData(TENSOR_NOT_FINITE(tensor=name))
