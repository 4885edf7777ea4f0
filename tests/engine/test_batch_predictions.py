"""Many images are predicted in batches, and each result is that of the image alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.helpers.library_weights import make_card, make_weights
from trainingapp.contract.job_request import PROGRESS_FILE, JobRequest, read_json
from trainingapp.contract.prediction import Prepared, prepared
from trainingapp.contract.run_lengths import decoded
from trainingapp.engine.jobs import predict_many
from trainingapp.engine.networks import load_plain_network
from trainingapp.engine.predictor import BatchPredictor, predicted, prepared_ahead
from trainingapp.engine.tasks.registry import implementation

CLASSES = ["disc", "ring"]
CPU = torch.device("cpu")
NETWORKS = [
    ("classification", "timm/resnet10t", 32),
    ("segmentation", "fcn_resnet18", 64),
    ("instances", "maskrcnn_mobilenet_v3_large_fpn", 64),
    ("detection", "retinanet_resnet18_fpn", 64),
    ("detection", "fasterrcnn_mobilenet_v3_large_fpn", 64),
]


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    paths = [tmp_path / "images" / f"{number:02}.png" for number in range(7)]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        pixels = generator.integers(0, 256, (20 + number, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((100, 60)).save(path)
    return paths


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., tuple[nn.Module, dict[str, Any], Path]]:
    def load(task: str, model: str, size: int) -> tuple[nn.Module, dict[str, Any], Path]:
        card = make_card(task, model, size, CLASSES)
        path = make_weights(tmp_path / "entry", card)
        return load_plain_network(card, path), card, path

    return load


@pytest.mark.parametrize(("task", "model", "size"), NETWORKS)
def test_a_batch_gives_what_each_image_gives(loaded, images: list[Path], task: str, model: str, size: int) -> None:
    network, card, _path = loaded(task, model, size)
    prepared_images = [prepared(path, card) for path in images]
    batch = torch.from_numpy(np.concatenate([image.image_NCHW for image in prepared_images]))
    with torch.inference_mode():
        together = implementation(task).outputs_by_image(network, batch)
        alone = [network(batch[place : place + 1]) for place in range(len(batch))]
    for one, other in zip(alone, together, strict=True):
        assert [part.shape for part in one] == [part.shape for part in other]
        for part, also in zip(one, other, strict=True):
            scale = max(1.0, float(part.abs().max()) if part.numel() else 1.0)  # boxes are in pixels
            assert float((part - also).abs().max() if part.numel() else 0) <= 1e-5 * scale
    found = BatchPredictor(network, card, CPU).predict(prepared_images)
    for path, each in zip(images, found, strict=True):
        _assert_close(each.values, predicted(network, card, path).values)


def _assert_close(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Values are rounded in files: by up to 1e-4 for scores and hundredths of a pixel for boxes."""
    assert one.keys() == other.keys()
    for name in one.keys() - {"milliseconds"}:
        if name == "masks":
            height, width = one["height"], one["width"]
            for mine, also in zip(one[name], other[name], strict=True):
                assert (decoded(mine, height, width) != decoded(also, height, width)).mean() < 0.01
        elif name == "shares":
            assert one[name] == pytest.approx(other[name], abs=1e-3)
        else:
            assert np.array(one[name], dtype=float) == pytest.approx(np.array(other[name], dtype=float), abs=0.011)


class Limited(nn.Module):
    """A network on a device whose memory holds `most` images."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most, self.sizes = network, most, list[int]()

    def forward(self, images_NCHW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.sizes.append(len(images_NCHW))
        if len(images_NCHW) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        found: tuple[torch.Tensor, ...] = self.network(images_NCHW)
        return found


def test_a_batch_that_does_not_fit_is_halved(loaded, images: list[Path]) -> None:
    network, card, _path = loaded(*NETWORKS[0])
    limited = Limited(network, most=2)
    predictor = BatchPredictor(limited, card, CPU)
    found = predictor.predict([prepared(path, card) for path in images])
    assert limited.sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert predictor.batch_size == 1
    for path, each in zip(images, found, strict=True):
        _assert_close(each.values, predicted(network, card, path).values)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("a kernel failed")])
def test_an_error_that_smaller_batches_do_not_avoid_is_raised(loaded, images: list[Path], error: Exception) -> None:
    _network, card, _path = loaded(*NETWORKS[0])

    class Broken(nn.Module):
        def forward(self, images_NCHW: torch.Tensor) -> tuple[torch.Tensor, ...]:
            raise error

    with pytest.raises(type(error)):
        BatchPredictor(Broken(), card, CPU).predict([prepared(images[0], card)])


def test_large_images_make_small_batches(loaded) -> None:
    network, card, _path = loaded(*NETWORKS[0])
    sizes = [BatchPredictor(network, {**card, "image_size": size}, CPU).batch_size for size in (32, 640, 1024, 8192)]
    assert sizes == [32, 32, 12, 1]


def test_images_are_prepared_in_order_and_errors_stay_at_their_place(loaded, images: list[Path]) -> None:
    _network, card, _path = loaded(*NETWORKS[0])
    images[4].write_bytes(b"no image")
    groups = list(prepared_ahead(images, card, together=3, threads=2))
    assert [len(group) for group in groups] == [3, 3, 1]
    found = [image for group in groups for image in group]
    assert [isinstance(image, Prepared) for image in found] == [number != 4 for number in range(7)]
    for path, image in zip(images, found, strict=True):
        if isinstance(image, Prepared):
            assert np.array_equal(image.image_NCHW, prepared(path, card).image_NCHW)
    assert list(prepared_ahead([], card, together=3, threads=2)) == []


def test_a_job_writes_a_line_for_each_image_and_its_progress(loaded, images: list[Path], tmp_path: Path) -> None:
    network, card, path = loaded(*NETWORKS[0])
    images[2].write_bytes(b"no image")
    folder = tmp_path / "job"
    folder.mkdir()
    params = {"card": card, "weights": str(path), "folder": str(images[0].parent)}
    result = predict_many.run(JobRequest(folder, "predict_many", params))
    assert (result["images"], result["problems"], result["device"]) == (6, 1, "cpu")
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [image.name for image in images]
    assert "problem" in lines[2]
    for line, image in zip(lines, images, strict=True):
        if image != images[2]:
            del line["path"]
            _assert_close(line, predicted(network, card, image).values)
    progress = read_json(folder / PROGRESS_FILE)
    assert progress is not None
    assert (progress["done"], progress["total"]) == (7, 7)
