"""Predictions for people: a network of the library, and what it finds in an image.

Files hold the `values` of a `Found`.
"""

import time
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from trainingapp.contract.model_card import Card, with_task
from trainingapp.contract.prediction import prepared
from trainingapp.engine.networks import load_plain_network
from trainingapp.engine.tasks.registry import implementation
from trainingapp.engine.tasks.task import Found

MOST_KEPT = 2
"""Networks that a process keeps."""

_kept: "OrderedDict[tuple[str, int], nn.Module]" = OrderedDict()


def network_of(card: Card, weights: Path) -> nn.Module:
    """The network, from memory where this process used it recently. Raises WeightsUnavailable, BadConfig."""
    key = (card["sha256"], card["image_size"])
    if key not in _kept:
        _kept[key] = load_plain_network(card, weights)
    _kept.move_to_end(key)
    while len(_kept) > MOST_KEPT:
        _kept.popitem(last=False)
    return _kept[key]


def predicted(network: nn.Module, card: Card, path: Path) -> Found:
    """What the network finds in the image. Raises the errors of PIL for a file that is not a complete image."""
    card = with_task(card)
    image = prepared(path, card)
    began = time.perf_counter()
    with torch.inference_mode():
        outputs = [tensor.numpy() for tensor in network(torch.from_numpy(image.image_NCHW))]
    took = round((time.perf_counter() - began) * 1000, 1)
    found = implementation(card["task"]).prediction(outputs, card, image)
    about = {"width": image.width, "height": image.height, "milliseconds": took}
    return replace(found, about=about)
