"""Layers that keep the weights they start with."""

from torch import nn

from trainingapp.contract.base_config import BaseRunConfig
from trainingapp.engine.adapters import ADAPTERS


def is_frozen(config: BaseRunConfig, epoch: int) -> bool:
    """Whether the backbone is frozen in this epoch, counted from 1."""
    return config.freeze == "backbone" and (config.freeze_epochs == 0 or epoch <= config.freeze_epochs)


def set_training(model: nn.Module, head_prefixes: tuple[str, ...], *, frozen: bool) -> None:
    """Put the model into training mode. Where `frozen`, the backbone gets no gradients and is in evaluation mode.

    Without gradients alone, its batch norms would still update their statistics. Adapters in it train.
    """
    model.train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not frozen or name.startswith(head_prefixes) or name.endswith(ADAPTERS))
    if not frozen:
        return
    for name, module in model.named_modules():
        holds_head = any(prefix.startswith(f"{name}.") for prefix in head_prefixes) if name else True
        if not holds_head and not f"{name}.".startswith(head_prefixes):
            module.eval()
