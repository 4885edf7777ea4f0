"""Predictions for people: a network of the library, and what it finds in images.

Files hold the `values` of a `Found`.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from trainingapp.contract.errors import is_out_of_memory
from trainingapp.contract.model_card import Card, with_task
from trainingapp.contract.prediction import Prepared, prepared
from trainingapp.engine.data.images import UNREADABLE
from trainingapp.engine.memory import release
from trainingapp.engine.networks import load_plain_network
from trainingapp.engine.tasks.registry import implementation
from trainingapp.engine.tasks.task import Found

MOST_KEPT = 2
"""Networks that a process keeps."""

MOST_TOGETHER = 32
"""Images of a batch."""

PIXELS_TOGETHER = MOST_TOGETHER * 640 * 640
"""Pixels of a batch: fewer images where they are larger."""

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
    (found,) = BatchPredictor(network, card, torch.device("cpu")).predict([prepared(path, with_task(card))])
    return found


class BatchPredictor:
    """Predicts several images at once; each result is that of the image alone, but for the rounding of sums."""

    def __init__(self, network: nn.Module, card: Card, device: torch.device) -> None:
        """`network` is the result of `load_plain_network`; it is moved to the device."""
        self._card, self._device = with_task(card), device
        self._network = network.to(device)
        self._task = implementation(self._card["task"])
        #: Images of a batch: halved whenever one does not fit into the memory of the device.
        self.batch_size = max(1, min(MOST_TOGETHER, PIXELS_TOGETHER // int(card["image_size"]) ** 2))

    def predict(self, images: Sequence[Prepared]) -> list[Found]:
        """What the network finds in each image. Raises what torch raises where one image alone does not fit."""
        found: list[Found] = []
        while len(found) < len(images):
            batch = images[len(found) : len(found) + self.batch_size]
            try:
                found += self._predicted(batch)
            except (RuntimeError, MemoryError) as error:
                if len(batch) == 1 or not is_out_of_memory(error):
                    raise
                self.batch_size = len(batch) // 2
            else:
                continue
            release(self._device)  # after the error, whose traceback holds tensors
        return found

    def _predicted(self, images: Sequence[Prepared]) -> list[Found]:
        began = time.perf_counter()
        images_NCHW = torch.from_numpy(np.concatenate([image.image_NCHW for image in images])).to(self._device)
        with torch.inference_mode():
            found = self._task.outputs_by_image(self._network, images_NCHW)
            outputs = [[part.cpu().numpy() for part in parts] for parts in found]
        took = round((time.perf_counter() - began) * 1000 / len(images), 1)
        results = []
        for image, parts in zip(images, outputs, strict=True):
            about = {"width": image.width, "height": image.height, "milliseconds": took}
            results.append(replace(self._task.prediction(parts, self._card, image), about=about))
        return results


def prepared_ahead(
    paths: Sequence[Path], card: Card, *, together: int, threads: int
) -> Iterator[list[Prepared | Exception]]:
    """The images in groups of `together`, decoded by threads while the group before is predicted.

    An image that cannot be read is the error that says so.
    """
    card = with_task(card)
    with ThreadPoolExecutor(threads, thread_name_prefix="images") as pool:
        groups = [paths[first : first + together] for first in range(0, len(paths), together)]
        begun = [pool.submit(_prepared, path, card) for path in groups[0]] if groups else []
        for number in range(len(groups)):
            ready: list[Future[Prepared | Exception]] = begun
            following = groups[number + 1] if number + 1 < len(groups) else []
            begun = [pool.submit(_prepared, path, card) for path in following]
            yield [image.result() for image in ready]


def _prepared(path: Path, card: Card) -> Prepared | Exception:
    try:
        return prepared(path, card)
    except UNREADABLE as error:
        return error
