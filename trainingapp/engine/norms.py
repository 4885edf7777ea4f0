"""The norms of all tensors of a model: a short proof that two models hold the same values."""

import hashlib

import torch
from torch import nn


def tensor_norms(model: nn.Module) -> torch.Tensor:
    """float64 [n] on the CPU: of parameters and of the averages of batch norms."""
    tensors = [tensor.detach() for tensor in model.state_dict().values() if tensor.is_floating_point()]
    return torch.stack(torch._foreach_norm(tensors)).double().cpu()


def norms_digest(norms: torch.Tensor) -> str:
    """A hash of the norms, bit by bit."""
    return hashlib.sha256(norms.numpy().tobytes()).hexdigest()
