"""The loss of a detector in validation, with the same norms and without dropout, beside the boxes that it finds.

The boxes come from torchvision's evaluation mode, the losses from `detector_losses`, which take the network in the same
mode. The layers that take the time work once: their outputs serve both.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from trainingapp.engine.tasks.detection.losses import detector_losses
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets
from trainingapp.engine.tasks.detection.networks import Targets

#: Modules that give the same for the same images whichever is wanted.
SHARED = ("backbone", "head", "rpn.head", "network.model.backbone", "network.model.encoder")


def boxes_and_losses(
    model: nn.Module, images_NCHW: torch.Tensor, targets: PaddedTargets, *, seed: int
) -> tuple[Targets, dict[str, torch.Tensor]]:
    """What the detector returns in evaluation mode, and its losses by torchvision's names.

    The detector must be in evaluation mode and stays in it; its state and the global random generators do not change.
    A two-stage detector draws the proposals that count for its loss: `seed` determines which.
    """
    modules = dict(model.named_modules())
    devices = [images_NCHW.device] if images_NCHW.device.type == "cuda" else []
    with _working_once([modules[name] for name in SHARED if name in modules]):
        boxes: Targets = model(images_NCHW)
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            losses = detector_losses(model, images_NCHW, targets)
    return boxes, losses


@contextmanager
def _working_once(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Within, each module computes its output in its first call and returns the same one afterwards."""
    for module in modules:
        module.forward = _first_output(module.forward)
    try:
        yield
    finally:
        for module in modules:
            del module.forward  # the attribute hides the method of the class


def _first_output(forward: Callable[..., object]) -> Callable[..., object]:
    found: list[object] = []

    def remembered(*inputs: object) -> object:
        if not found:
            found.append(forward(*inputs))
        return found[0]

    return remembered
