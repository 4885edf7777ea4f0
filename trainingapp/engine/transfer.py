"""Weights from another model, as far as they fit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from trainingapp.engine.checkpoint import Found, load_checkpoint
from trainingapp.engine.errors import WeightsUnavailable
from trainingapp.engine.run_files import Order
from trainingapp.engine.storage.index import Entry

NAMES_SHOWN = 8


@dataclass(frozen=True)
class TransferReport:
    """Names of parameters and buffers: taken over; of another shape; not in the source; in the source alone."""

    matched: list[str]
    other_shape: list[str]
    missing: list[str]
    unused: list[str]

    def lines(self) -> list[str]:
        """What the log says."""
        total = len(self.matched) + len(self.other_shape) + len(self.missing)
        parts = [
            (self.other_shape, "have another shape and start anew"),
            (self.missing, "are not in the source and start anew"),
            (self.unused, "of the source have no place here"),
        ]
        head = f"{len(self.matched)} of {total} tensors were taken over."
        return [head, *(f"{len(names)} {what}: {_named(names)}." for names, what in parts if names)]


def load_matching(model: nn.Module, state: dict[str, torch.Tensor]) -> TransferReport:
    """Copy every tensor of `state` that has the name and shape of one of the model's into it."""
    own = model.state_dict()
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


def checkpoint_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint of the studio, averaged ones where it has them, or in a file of its library.

    Raises WeightsUnavailable.
    """
    if path.suffix == ".safetensors":
        return library_state(path)
    content = read_checkpoint(path)
    return dict(content.get("ema_state_dict") or content["model_state_dict"])


def forked(order: Order) -> Found | None:
    """The checkpoint of another run that this one begins with, as if it were its own; None where there is none.

    The new run finds its best epoch and counts its time by itself. Raises WeightsUnavailable.
    """
    if order.fork_from is None:
        return None
    content = read_checkpoint(order.fork_from) | {
        "best": {"value": None, "epoch": 0},
        "is_best": False,
        "elapsed_s": 0.0,
    }
    entry = Entry(
        file=order.fork_from.name,
        reason="fork",
        size_bytes=order.fork_from.stat().st_size,
        sha256="",
        time=content["timestamp"],
        **{name: content[name] for name in ("epoch", "step", "step_in_epoch", "attempt", "metrics", "is_best")},
    )
    return Found(entry, content)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """All that a checkpoint of the studio holds. Raises WeightsUnavailable."""
    try:
        return load_checkpoint(path)
    except FileNotFoundError:
        raise WeightsUnavailable(f"The checkpoint to start from, {path.name}, is not there any more.") from None
    except Exception as error:  # torch.load raises nearly anything for a file that is none
        raise WeightsUnavailable(f"The checkpoint to start from, {path.name}, cannot be read: {error}") from error


def library_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of the library of weights. Raises WeightsUnavailable."""
    where = f"{path.parent.name}/{path.name}"
    try:
        return load_file(path)
    except FileNotFoundError:
        raise WeightsUnavailable(f"The weights {where} are not there any more.") from None
    except (OSError, SafetensorError) as error:
        raise WeightsUnavailable(f"The weights {where} cannot be read: {error}") from error


def _named(names: list[str]) -> str:
    rest = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
