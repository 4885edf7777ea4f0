"""Predictions for people: a network of the library, and what it finds in an image.

A prediction is one of
    {"classes": [[label, probability], ...]}                          the likeliest first
    {"boxes": [[label, confidence, left, top, right, bottom], ...]}   before suppression, in the image's pixels
    {"shares": {class: share of the image}}                         with a mask, see `Found`
each with "width" and "height" of the upright image, and "milliseconds" that the network took.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainingapp.contract.model_card import Card
from trainingapp.contract.prediction import candidates, mask, mask_shares, prepared, rounded, top_classes
from trainingapp.engine.networks import load_network
from trainingapp.engine.plain_outputs import plain

LEAST_CONFIDENCE = 0.02
MOST_BOXES = 300
MOST_KEPT = 2
"""Networks that a process keeps."""

_kept: "OrderedDict[tuple[str, int], nn.Module]" = OrderedDict()


@dataclass(frozen=True)
class Found:
    """A prediction; for segmentation the mask (0 background, i + 1 class i) and how sure each pixel is, 0 to 255."""

    values: dict[str, Any]
    mask_HW: NDArray[np.uint8] | None = None
    sureness_HW: NDArray[np.uint8] | None = None


def network_of(card: Card, weights: Path) -> nn.Module:
    """The network, from memory where this process has used it lately. Raises WeightsUnavailable, BadConfig."""
    key = (card["sha256"], card["image_size"])
    if key not in _kept:
        _kept[key] = plain(load_network(card, weights), card["task"], card["image_size"])
    _kept.move_to_end(key)
    while len(_kept) > MOST_KEPT:
        _kept.popitem(last=False)
    return _kept[key]


def predicted(network: nn.Module, card: Card, path: Path) -> Found:
    """What the network finds in the image. Raises what PIL does for a file that is no whole image."""
    image = prepared(path, card)
    began = time.perf_counter()
    with torch.inference_mode():
        outputs = [tensor.numpy() for tensor in network(torch.from_numpy(image.image_NCHW))]
    took = round((time.perf_counter() - began) * 1000, 1)
    about = {"width": image.width, "height": image.height, "milliseconds": took}
    if card["task"] == "classification":
        top = [[label, round(probability, 5)] for label, probability in top_classes(outputs[0])]
        return Found({**about, "classes": top})
    if card["task"] == "detection":
        rows = candidates(outputs[0], outputs[1], image, LEAST_CONFIDENCE, MOST_BOXES)
        return Found({**about, "boxes": rounded(rows)})
    mask_HW = mask(outputs[0], image)
    right, bottom = image.left + image.inner_width, image.top + image.inner_height
    sure_HW = outputs[0][0, :, image.top : bottom, image.left : right].max(axis=0)
    values = {**about, "shares": mask_shares(mask_HW, card["classes"])}
    return Found(values, mask_HW, (sure_HW * 255).astype(np.uint8))
