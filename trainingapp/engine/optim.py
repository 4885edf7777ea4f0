"""Optimizers."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from trainingapp.contract.base_config import BaseRunConfig
from trainingapp.contract.schedule import Schedule
from trainingapp.engine.layers import layer_depths

ADAM_BETA = 0.9
"""Beta 1 of Adam and AdamW: the share of the mean gradient that a step keeps."""

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def make_optimizer(
    model: nn.Module, config: BaseRunConfig, head_prefixes: tuple[str, ...] = ()
) -> torch.optim.Optimizer:
    """The optimizer that the config names; weight decay for weights only, not for biases and norms.

    `head_prefixes` begin the names of the parameters outside of the backbone; see `backbone_lr_factor`. fused: one pass
    over each tensor, on CPUs and GPUs.
    """
    groups = list(_parameter_groups(model, config, head_prefixes))
    rate, momentum = config.learning_rate, config.momentum
    match config.optimizer:
        case "SGD":
            return torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=True)
        case "Adam":
            return DenseAdam(groups, lr=rate, fused=True)
        case "AdamW":
            return DenseAdamW(groups, lr=rate, fused=True)
        case "RMSprop":
            return torch.optim.RMSprop(groups, lr=rate, momentum=momentum)


class _DenseStep(torch.optim.Adam):
    """Has the fused kernel see the weights in the order in which they lie in memory.

    On a CPU it copies tensors that are channels last, there and back, which takes as long as the step itself. The
    result is the same bit by bit, because each number is computed by itself.
    """

    def _init_group(self, group: dict[str, Any], *lists: list[torch.Tensor]) -> bool:
        has_complex = super()._init_group(group, *lists)  # type: ignore[no-untyped-call]
        tensors = lists[:4]  # weights, gradients, first and second moments; with amsgrad there would be more
        if not group["amsgrad"]:
            for place, columns in enumerate(zip(*tensors, strict=True)):
                if all(map(_is_rearranged, columns)):
                    for column in tensors:
                        column[place] = column[place].detach().permute(0, 2, 3, 1)
        return bool(has_complex)


def _is_rearranged(tensor: torch.Tensor) -> bool:
    """Whether it lies in the memory of a CPU with its channels last."""
    is_last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return is_last and tensor.device.type == "cpu" and not tensor.is_contiguous()


class DenseAdam(_DenseStep):
    """torch's Adam."""


class DenseAdamW(_DenseStep, torch.optim.AdamW):
    """torch's AdamW."""


def _parameter_groups(
    model: nn.Module, config: BaseRunConfig, head_prefixes: tuple[str, ...]
) -> Iterator[dict[str, object]]:
    """Two groups by weight decay, for each learning rate: the backbone, or each of its layers, may have its own.

    Frozen parameters are included: the optimizer skips them while they have no gradient.
    """
    exempt = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, NORMS) or name.endswith("bias") or parameter.ndim <= 1
    }
    for factor, parameters in _places(model, config, head_prefixes):
        kept = {"lr_factor": factor}
        yield {"params": [p for p in parameters if id(p) not in exempt], "weight_decay": config.weight_decay, **kept}
        yield {"params": [p for p in parameters if id(p) in exempt], "weight_decay": 0.0, **kept}


def _places(
    model: nn.Module, config: BaseRunConfig, head_prefixes: tuple[str, ...]
) -> Iterator[tuple[float, list[nn.Parameter]]]:
    """The parameters by learning rate: (factor, parameters), those of the head first.

    With L layers in the backbone, layer l, counted from 0 at the input, has the factor layer_decay^(L - l) (Clark et
    al., ELECTRA, arXiv:2003.10555; Bao et al., BEiT, arXiv:2106.08254).
    """
    named = list(model.named_parameters())
    if config.backbone_lr_factor == 1 and config.layer_decay == 1:
        yield 1.0, [parameter for _name, parameter in named]
        return
    yield 1.0, [parameter for name, parameter in named if name.startswith(head_prefixes)]
    rest = {name: parameter for name, parameter in named if not name.startswith(head_prefixes)}
    if config.layer_decay == 1:
        yield config.backbone_lr_factor, list(rest.values())
        return
    depths = layer_depths(model, list(rest))
    count = max(depths.values(), default=0) + 1
    for depth in range(count):
        factor = config.backbone_lr_factor * config.layer_decay ** (count - depth)
        yield factor, [parameter for name, parameter in rest.items() if depths[name] == depth]


def begin_momenta(optimizer: torch.optim.Optimizer) -> None:
    """Give weights that are no longer frozen a momentum of zero. To be called when an epoch begins.

    torch creates the buffers of fused SGD at the first step only, and fails where a later gradient has none. With zeros
    the step is that of a first one.
    """
    if not isinstance(optimizer, torch.optim.SGD) or not any(
        "momentum_buffer" in one for one in optimizer.state.values()
    ):
        return
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if weight.requires_grad and group["momentum"] and "momentum_buffer" not in optimizer.state[weight]:
                optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_factor", 1.0)


def set_momentum(optimizer: torch.optim.Optimizer, schedule: Schedule, step: int, momentum: float) -> None:
    """Give every group the momentum of this step, which rises to `momentum`, or to ADAM_BETA for Adam and AdamW."""
    for group in optimizer.param_groups:
        has_betas = "betas" in group
        value = schedule.momentum_at(step, ADAM_BETA if has_betas else momentum)
        if value is None:
            return
        if has_betas:
            group["betas"] = (value, group["betas"][1])
        else:
            group["momentum"] = value


def clip_gradients(
    model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, longest: float
) -> None:
    """Scale the gradients, as one vector, to a norm of at most `longest` (Pascanu et al., arXiv:1211.5063).

    0 leaves them unchanged.
    """
    if longest > 0:
        # The norm is that of the true gradients; `scaler.step` does not unscale them a second time.
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), longest)
