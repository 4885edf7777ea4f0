"""Weights from another model, as far as they fit."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from trainingapp.engine.checkpoint import load_checkpoint
from trainingapp.engine.errors import WeightsUnavailable

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
    """The weights in a checkpoint of the studio, averaged ones where it has them. Raises WeightsUnavailable."""
    try:
        content = load_checkpoint(path)
        return dict(content.get("ema_state_dict") or content["model_state_dict"])
    except FileNotFoundError:
        raise WeightsUnavailable(f"The checkpoint to start from, {path.name}, is not there any more.") from None
    except Exception as error:  # torch.load raises nearly anything for a file that is none
        raise WeightsUnavailable(f"The checkpoint to start from, {path.name}, cannot be read: {error}") from error


def _named(names: list[str]) -> str:
    rest = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
