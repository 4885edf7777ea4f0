"""Bilinear upsampling by matrices equals torch's, forwards and backwards, and replaces it within networks."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainingapp.engine.tasks.segmentation.networks import build_segmenter
from trainingapp.engine.tasks.segmentation.upsampling import (
    MatrixUpsampling,
    deterministic_upsampling,
    interpolation_matrix,
    upsampled,
)

CPU = torch.device("cpu")


def gradients(function: Any, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The result, and the gradient of a random sum of it."""
    features = features.detach().requires_grad_()
    found = function(features)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((found.float() * weights).sum(), features)
    return found.detach(), gradient


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("before", "after"),
    [((7, 5), (28, 20)), ((1, 1), (6, 4)), ((8, 8), (8, 8)), ((4, 9), (13, 11)), ((16, 6), (5, 3)), ((2, 2), (1, 1))],
)
def test_it_equals_torch(
    before: tuple[int, int], after: tuple[int, int], memory_format: torch.memory_format, align_corners: bool
) -> None:
    features = torch.randn(2, 3, *before, generator=torch.Generator().manual_seed(0)).to(memory_format=memory_format)
    expected = gradients(
        lambda one: F.interpolate(one, size=after, mode="bilinear", align_corners=align_corners), features
    )
    found = gradients(lambda one: upsampled(one, after, align_corners=align_corners), features)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=0)


def test_the_memory_format_stays() -> None:
    features = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert upsampled(features, (8, 8), align_corners=False).is_contiguous(memory_format=torch.channels_last)
    assert upsampled(features.contiguous(), (8, 8), align_corners=False).is_contiguous()


def test_training_can_follow_a_validation() -> None:
    interpolation_matrix.cache_clear()
    with torch.inference_mode():
        upsampled(torch.zeros(1, 1, 3, 3), (6, 6), align_corners=False)
    gradients(lambda one: upsampled(one, (6, 6), align_corners=False), torch.zeros(1, 1, 3, 3))


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_weights_of_a_pixel_sum_to_one(align_corners: bool) -> None:
    matrix = interpolation_matrix(7, 16, align_corners, CPU)
    torch.testing.assert_close(matrix.sum(1), torch.ones(16))
    assert int((matrix > 0).sum(1).max()) <= 2


def test_bfloat16_is_rounded_once() -> None:
    features = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = F.interpolate(features.double(), size=(16, 16), mode="bilinear", align_corners=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = upsampled(features, (16, 16), align_corners=True)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact, atol=0, rtol=2**-8)


@pytest.mark.parametrize(
    "options",
    [
        {"scale_factor": 2.0, "mode": "bilinear"},
        {"scale_factor": (2, 3), "mode": "bilinear", "align_corners": True},
        {"size": 9, "mode": "bilinear"},
        {"size": torch.Size([9, 5]), "mode": "bilinear"},
        # These stay torch's own.
        {"scale_factor": 1.5, "mode": "bilinear"},
        {"scale_factor": 2.0, "mode": "nearest"},
        {"scale_factor": 2.0, "mode": "bicubic"},
        {"size": (3, 3), "mode": "area"},
        {"size": (3, 3), "mode": "bilinear", "antialias": True},
    ],
)
def test_calls_of_libraries_are_replaced(options: dict[str, Any]) -> None:
    features = torch.randn(2, 3, 6, 4)
    expected = F.interpolate(features, **options)
    with MatrixUpsampling():
        found = F.interpolate(features, **options)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name",
    [
        "smp/fpn_resnet18",
        "smp/segformer_resnet18",
        "smp/deeplabv3plus_resnet18",
        "lraspp_mobilenet_v3_large",
        "fcn_resnet18",
    ],
)
def test_networks_give_the_same_logits_and_gradients(name: str, tmp_path: Any) -> None:
    torch.manual_seed(0)
    network = build_segmenter(name, class_count=3, pretrained="none", weights_cache_dir=tmp_path).eval()
    images = torch.randn(2, 3, 64, 64)
    parameter = next(network.parameters())

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        logits = network(images)
        (gradient,) = torch.autograd.grad(logits.square().mean(), parameter)
        return logits.detach(), gradient

    expected = run()
    with MatrixUpsampling():
        found = run()
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=1e-4)


def test_modules_that_upsample_are_replaced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(
        "trainingapp.engine.tasks.segmentation.upsampling.upsampled",
        lambda features, size, align_corners: called.append((size, align_corners)) or features,
    )
    with MatrixUpsampling():
        nn.UpsamplingBilinear2d(scale_factor=4)(torch.zeros(1, 1, 3, 3))
    assert called == [((12, 12), True)]


def test_it_is_used_on_gpus_with_deterministic_algorithms_alone() -> None:
    gpu = torch.device("cuda", 0)
    torch.use_deterministic_algorithms(True)
    assert isinstance(deterministic_upsampling(gpu), MatrixUpsampling)
    assert not isinstance(deterministic_upsampling(CPU), MatrixUpsampling)
    torch.use_deterministic_algorithms(False)
    assert not isinstance(deterministic_upsampling(gpu), MatrixUpsampling)
    torch.use_deterministic_algorithms(True)
