"""Losses over pixels, against those of torch and by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from trainingapp.contract.dataset_index import IGNORED_PIXEL
from trainingapp.engine.tasks.segmentation.data import LARGEST_CLASS_WEIGHT, balanced_weights
from trainingapp.engine.tasks.segmentation.losses import pixel_loss

KINDS = ["cross_entropy", "dice", "focal", "combined"]


@pytest.fixture
def pixels() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(2, 4, 5, 6, generator=generator)
    masks = torch.randint(0, 4, (2, 5, 6), generator=generator)
    masks[0, :2] = IGNORED_PIXEL
    return logits, masks.to(torch.uint8)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 2.0, 3.0])])
def test_cross_entropy_equals_torch(pixels, weights: torch.Tensor | None) -> None:
    logits, masks = pixels
    expected = F.cross_entropy(logits, masks.long(), weights, ignore_index=IGNORED_PIXEL)
    assert pixel_loss("cross_entropy", logits, masks, weights_K=weights) == pytest.approx(expected.item(), rel=1e-6)


def test_focal_by_hand() -> None:
    chances = torch.tensor([0.9, 0.1]).log()[None, :, None, None].expand(1, 2, 1, 2)
    masks = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    sure, unsure = 0.1**2 * -math.log(0.9), 0.9**2 * -math.log(0.1)
    assert pixel_loss("focal", chances, masks) == pytest.approx((sure + unsure) / 2, rel=1e-5)
    weights = torch.tensor([1.0, 3.0])
    assert pixel_loss("focal", chances, masks, weights_K=weights) == pytest.approx((sure + 3 * unsure) / 4, rel=1e-5)


def test_dice_by_hand() -> None:
    chances = torch.tensor([[0.8, 0.2, 0.0], [0.4, 0.6, 0.0]]).clamp(min=1e-30)  # two known pixels, one unknown
    logits = torch.cat([chances.log(), torch.zeros(1, 3)]).T[None, :, None, :]
    masks = torch.tensor([[[0, 1, IGNORED_PIXEL]]], dtype=torch.uint8)
    first = (2 * 0.8 + 1) / (0.8**2 + 0.4**2 + 1 + 1)
    second = (2 * 0.6 + 1) / (0.2**2 + 0.6**2 + 1 + 1)
    assert pixel_loss("dice", logits, masks) == pytest.approx(1 - (first + second) / 2, rel=1e-5)  # not of class 2


def test_the_combined_loss_is_between_its_parts(pixels) -> None:
    logits, masks = pixels
    entropy, dice = (pixel_loss(kind, logits, masks).item() for kind in ("cross_entropy", "dice"))
    assert pixel_loss("combined", logits, masks, dice_weight=0.3) == pytest.approx(0.7 * entropy + 0.3 * dice, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_prediction_has_no_loss_and_ignored_pixels_no_gradient(pixels, kind: str) -> None:
    logits, masks = pixels
    known = torch.where(masks == IGNORED_PIXEL, 0, masks).long()
    perfect = 40 * F.one_hot(known, 4).permute(0, 3, 1, 2).float()
    assert pixel_loss(kind, perfect, masks) == pytest.approx(0, abs=1e-6)
    logits.requires_grad_()
    pixel_loss(kind, logits, masks).backward()
    assert (logits.grad.abs().sum(1) > 0).equal(masks != IGNORED_PIXEL)


@pytest.mark.parametrize("kind", KINDS)
def test_all_ignored_gives_zero_and_no_nan(kind: str) -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = pixel_loss(kind, logits, torch.full((1, 4, 4), IGNORED_PIXEL, dtype=torch.uint8))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_balanced_weights_are_inverse_to_pixels_and_capped() -> None:
    weights = balanced_weights(torch.tensor([600, 300, 100, 0]))
    assert weights.tolist() == pytest.approx([1000 / 1800, 1000 / 900, 1000 / 300, 1.0])
    assert balanced_weights(torch.tensor([10**6, 1]))[1] == LARGEST_CLASS_WEIGHT


@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_can_be_minimized(kind: str) -> None:
    """A linear layer learns which colour channel is the brightest, with deterministic algorithms and bfloat16."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(4, 3, 16, 16, generator=generator)
    masks = images.argmax(1).to(torch.uint8)
    layer = torch.nn.Conv2d(3, 3, 1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.3)
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(40):
            with torch.autocast("cpu", torch.bfloat16):
                loss = pixel_loss(kind, layer(images), masks)
            assert loss.dtype == torch.float32
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    finally:
        torch.use_deterministic_algorithms(False)
    assert (layer(images).argmax(1) == masks).float().mean() > 0.9
