"""Mixup and CutMix against calculations by hand."""

import pytest
import torch
from torch.nn import functional as F

from trainingapp.engine.tasks.classification.mixing import Mix, draw_mix, mixed


@pytest.fixture
def images() -> torch.Tensor:
    """Three images [3, 1, 4, 4], filled with 0, 100 and 200."""
    return torch.tensor([0.0, 100.0, 200.0]).view(3, 1, 1, 1).expand(3, 1, 4, 4)


def test_mixup_blends_each_image_with_the_one_before(images: torch.Tensor) -> None:
    result = mixed(images, Mix("mixup", keep=0.75))
    assert result[:, 0, 0, 0].tolist() == [0.75 * 0 + 0.25 * 200, 0.75 * 100, 0.75 * 200 + 0.25 * 100]
    assert (result == result[:, :, :1, :1]).all()


def test_cutmix_pastes_a_rectangle(images: torch.Tensor) -> None:
    result = mixed(images, Mix("cutmix", keep=0.75, box_xyxy=(0.5, 0.0, 1.0, 0.5)))
    expected = torch.full((4, 4), 100.0)
    expected[:2, 2:] = 0.0
    assert torch.equal(result[1, 0], expected)
    assert torch.equal(images[1, 0], torch.full((4, 4), 100.0))  # the batch itself is as it was


def test_disabled_mixing_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    assert draw_mix(0.0, 0.0) is None
    assert torch.equal(before, torch.get_rng_state())
    assert {draw_mix(0.2, 0.0).kind for _ in range(20)} == {"mixup"}
    assert {draw_mix(0.0, 1.0).kind for _ in range(20)} == {"cutmix"}


def test_both_are_drawn_at_even_odds_and_shares_are_beta() -> None:
    torch.manual_seed(0)
    drawn = [draw_mix(2.0, 1.0) for _ in range(2000)]
    shares = torch.tensor([mix.keep for mix in drawn if mix.kind == "mixup"])
    assert 900 < len(shares) < 1100
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / 20, abs=0.006)  # Beta(2, 2)


def test_the_kept_share_of_cutmix_is_the_remaining_area() -> None:
    torch.manual_seed(1)
    for _ in range(200):
        mix = draw_mix(0.0, 1.0)
        left, top, right, bottom = mix.box_xyxy
        assert 0 <= left <= right <= 1
        assert 0 <= top <= bottom <= 1
        assert mix.keep == pytest.approx(1 - (right - left) * (bottom - top))
        pixels = mixed(torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 200, 200), mix)[0]
        assert pixels.mean() == pytest.approx(1 - mix.keep, abs=0.02)


def test_mixed_loss_equals_that_of_mixed_labels() -> None:
    """keep CE(own) + (1 - keep) CE(other) is the cross-entropy of the blended one-hot labels."""
    logits, labels, keep = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0]), 0.3
    soft = keep * F.one_hot(labels, 3) + (1 - keep) * F.one_hot(labels.roll(1), 3)
    both = keep * F.cross_entropy(logits, labels) + (1 - keep) * F.cross_entropy(logits, labels.roll(1))
    assert both.item() == pytest.approx(F.cross_entropy(logits, soft).item(), rel=1e-5)
