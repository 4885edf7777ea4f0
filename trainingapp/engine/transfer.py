"""Weights from another model, as far as they fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import nn

from trainingapp.contract.errors import CorruptedWeights, WeightsUnavailable
from trainingapp.contract.messages import Message, message_of
from trainingapp.contract.messages.weights import (
    NAMES_AND_MORE,
    START_CHECKPOINT_MISSING,
    START_CHECKPOINT_UNREADABLE,
    START_FILE_CORRUPTED,
    START_WEIGHTS_MISSING,
    START_WEIGHTS_UNREADABLE,
    TENSORS_LOADED,
    TENSORS_MISSING,
    TENSORS_OTHER_SHAPE,
    TENSORS_UNUSED,
)
from trainingapp.contract.run_directory import RunSpec, Stored
from trainingapp.contract.storage.durable import CorruptedFile
from trainingapp.contract.storage.reading import check_hash
from trainingapp.engine.adapters import ADAPTERS, merged
from trainingapp.engine.checkpoint import Found, entry_of, load_checkpoint, load_stored
from trainingapp.engine.checkpoint_content import CheckpointContent

NAMES_SHOWN = 8


@dataclass(frozen=True)
class TransferReport:
    """Names of parameters and buffers: taken over; of another shape; not in the source; in the source alone."""

    matched: list[str]
    other_shape: list[str]
    missing: list[str]
    unused: list[str]

    def messages(self) -> list[Message]:
        """The report as lines of the log."""
        total = len(self.matched) + len(self.other_shape) + len(self.missing)
        parts = (
            (TENSORS_OTHER_SHAPE, self.other_shape),
            (TENSORS_MISSING, self.missing),
            (TENSORS_UNUSED, self.unused),
        )
        lines = [part(count=len(names), names=first_names(names, NAMES_SHOWN)) for part, names in parts if names]
        return [TENSORS_LOADED(loaded=len(self.matched), total=total), *lines]


def load_matching(model: nn.Module, state: Mapping[str, torch.Tensor]) -> TransferReport:
    """Copy every tensor of `state` that has the name and shape of one of the model's into it. Adapters begin anew."""
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith(ADAPTERS)}
    same = [name for name in own if name in state]
    matched = [name for name in same if state[name].shape == own[name].shape]
    with torch.no_grad():
        for name in matched:
            own[name].copy_(state[name])
    return TransferReport(
        matched=matched,
        other_shape=[name for name in same if state[name].shape != own[name].shape],
        missing=[name for name in own if name not in state],
        unused=[name for name in state if name not in own],
    )


def starting_weights(spec: RunSpec) -> dict[str, torch.Tensor] | None:
    """The weights that the configuration's `start_from` names; None where it names none.

    Raises WeightsUnavailable, CorruptedWeights.
    """
    return checkpoint_weights(spec.start_from, spec.start_from_stored) if spec.start_from else None


def checkpoint_weights(path: Path, stored: Stored | None = None) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint of the studio (see `weights_of`), or in a file of its library.

    Raises WeightsUnavailable, CorruptedWeights.
    """
    if path.suffix == ".safetensors":
        return library_state(path, stored)
    return weights_of(read_checkpoint(path, stored))


def weights_of(content: CheckpointContent) -> dict[str, torch.Tensor]:
    """The weights that a checkpoint is used with: averaged ones where it has them, of the plain network."""
    return merged(content.get("ema_state_dict") or content["model_state_dict"])


def forked(spec: RunSpec) -> Found | None:
    """The checkpoint of another run that this one starts from, as if it were its own; None without one.

    The new run finds its best epoch and counts its time by itself. Raises WeightsUnavailable, CorruptedWeights.
    """
    if spec.fork_from is None:
        return None
    content = read_checkpoint(spec.fork_from, spec.fork_from_stored)
    content.update({"best": {"value": None, "epoch": 0}, "is_best": False, "elapsed_s": 0.0})
    size_bytes = spec.fork_from.stat().st_size
    return Found(entry_of(content, file=spec.fork_from.name, reason="fork", size_bytes=size_bytes), content)


def read_checkpoint(path: Path, stored: Stored | None = None) -> CheckpointContent:
    """All that a checkpoint of the studio holds. Raises WeightsUnavailable, and CorruptedWeights for an altered one."""
    try:
        return load_stored(path, stored.sha256) if stored else load_checkpoint(path)
    except FileNotFoundError:
        raise WeightsUnavailable(START_CHECKPOINT_MISSING(file=path.name)) from None
    except Exception as error:  # torch.load raises nearly anything for a file that is none
        if stored and isinstance(error, CorruptedFile):
            raise _corrupted(stored, error) from error
        raise WeightsUnavailable(START_CHECKPOINT_UNREADABLE(file=path.name, error=message_of(error))) from error


def library_state(path: Path, stored: Stored | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a file of the library of weights. Raises WeightsUnavailable, and CorruptedWeights."""
    where = f"{path.parent.name}/{path.name}"
    try:
        return load(_checked(path, stored)) if stored else load_file(path)
    except FileNotFoundError:
        raise WeightsUnavailable(START_WEIGHTS_MISSING(path=where)) from None
    except (OSError, SafetensorError) as error:
        raise WeightsUnavailable(START_WEIGHTS_UNREADABLE(path=where, error=str(error))) from error


def _checked(path: Path, stored: Stored) -> bytes:
    """The content of the file, which is read once. Raises OSError, CorruptedWeights."""
    content = path.read_bytes()
    try:
        check_hash(content, stored.sha256)
    except CorruptedFile as error:
        raise _corrupted(stored, error) from error
    return content


def _corrupted(stored: Stored, error: CorruptedFile) -> CorruptedWeights:
    return CorruptedWeights(START_FILE_CORRUPTED(name=stored.shown_name, damage=error.message))


def first_names(names: list[str], most: int) -> Message | list[str]:
    """The first names of a list, and how many more there are."""
    more = len(names) - most
    return NAMES_AND_MORE(names=names[:most], more=more) if more > 0 else names
