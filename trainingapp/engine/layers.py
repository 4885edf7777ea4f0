"""The layers of a backbone from its input to its output, for learning rates that depend on the depth."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Any

from torch import nn


def layer_depths(model: nn.Module, names: Sequence[str]) -> dict[str, int]:
    """The layer of each of these parameters, counted from 0 at the input, without gaps.

    Networks of timm say what their layers are. Of others, a layer is a numbered block, in the order in which the
    network has them; what comes before the first block is layer 0, and what lies between two blocks belongs to the
    block before it.
    """
    place, known = _of_timm(model)
    layers = [known.get(name.removeprefix(place)) if name.startswith(place) else None for name in names]
    if not known or None in layers:
        layers = list(_blocks(model, names))
    ranks = {layer: rank for rank, layer in enumerate(sorted({layer for layer in layers if layer is not None}))}
    return {name: ranks[layer] for name, layer in zip(names, layers, strict=True) if layer is not None}


def _of_timm(model: nn.Module) -> tuple[str, dict[str, int]]:
    """The prefix of the network of timm in the model, and the layer of each of its parameters; empty without one."""
    for name, module in model.named_modules():
        matcher: Callable[..., Any] | None = getattr(module, "group_matcher", None)
        if matcher is not None:
            from timm.models import group_parameters

            found: dict[str, int] = group_parameters(module, matcher(coarse=False), reverse=True)
            return f"{name}." if name else "", found
    return "", {}


def _blocks(model: nn.Module, names: Sequence[str]) -> Iterator[int]:
    """The number of the block of each parameter, in the order of the model's parameters."""
    known: dict[str, int] = {}
    wanted, current = set(names), 0
    for name, _parameter in model.named_parameters():
        if block := _block_of(model, name):
            current = known.setdefault(block, len(known) + 1)
        if name in wanted:
            yield current


def _block_of(model: nn.Module, name: str) -> str:
    """The path of the block that a parameter belongs to, such as backbone.layer1.0; empty where it is in none.

    It ends after the first component with a digit and the numbers that follow it; a stage has blocks of its own where
    it names them so. A single layer is no block.
    """
    path = name.split(".")[:-1]
    if not any(model.get_submodule(".".join(path)).children()):
        path = path[:-1]
    first = next((place for place, part in enumerate(path) if re.search(r"\d", part)), None)
    if first is None:
        return ""
    end = first + 1 + sum(1 for _part in takewhile(str.isdigit, path[first + 1 :]))
    if path[end : end + 1] in (["blocks"], ["layers"]) and path[end + 1 : end + 2] != []:
        end += 2
    return ".".join(path[:end])
