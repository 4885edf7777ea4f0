"""Mixup and CutMix against calculations by hand."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.helpers.ranks import assert_same_run, train_on
from tests.helpers.trainers import EndAfter, assert_same_result, change_order, train_here
from trainingapp.contract.config import config_defaults, parse_config
from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.engine.tasks.classification.mixing import Mix, draw_mix, mixed
from trainingapp.engine.tasks.registry import make_task


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


class _Means(nn.Module):
    """The mean of each channel, as logits."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return images_NCHW.mean((2, 3))[:, :2]


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_the_loss_of_a_batch_is_that_of_soft_targets(
    new_run: Callable[..., Path], dataset_dir: Path, kind: str
) -> None:
    run_dir = new_run(**{kind: 1.0}, augmentation="none", batch_size=6, label_smoothing=0.0)
    spec = read_run_spec(run_dir, read_config_file(run_dir))
    task: Any = make_task(spec, read_index(dataset_dir), torch.device("cpu"))
    for batch in (next(task.train_batches(epoch, skip=0)) for epoch in (1, 2, 3)):
        assert batch.mix.kind == kind
        keep, model = batch.mix.keep, _Means()
        soft = keep * F.one_hot(batch.targets, 2) + (1 - keep) * F.one_hot(batch.targets.roll(1), 2)
        logits = model(mixed(task._normalised(batch.images_NCHW), batch.mix))
        expected = -(soft * logits.log_softmax(1)).sum(1).mean()
        torch.testing.assert_close(task.loss(model, batch, task.training_meter()), expected)
        drawn = task.draw_batch(batch)
        assert len(drawn) == 6


def test_stored_and_new_runs_do_not_mix() -> None:
    stored = parse_config({"task": "classification", "model": "resnet18"})
    assert (stored.mixup, stored.cutmix) == (0, 0)  # type: ignore[attr-defined]
    assert config_defaults("classification", "resnet18")["mixup"] == 0


#: Both on: what is drawn for a batch depends on its number in the epoch, not on who makes it.
BOTH: dict[str, Any] = {
    "mixup": 0.4,
    "cutmix": 1.0,
    "epochs": 1,
    "batch_size": 4,
    "accumulation_steps": 2,
    "augmentation": "light",
    "autosave_minutes": 0,
}


def test_kinds_and_shares_differ_from_batch_to_batch(new_run: Callable[..., Path], dataset_dir: Path) -> None:
    run_dir = new_run(**BOTH)
    spec = read_run_spec(run_dir, read_config_file(run_dir))
    task: Any = make_task(spec, read_index(dataset_dir), torch.device("cpu"))
    mixes = [batch.mix for epoch in (1, 2) for batch in task.train_batches(epoch, skip=0)]
    assert Counter(mix.kind for mix in mixes).keys() == {"mixup", "cutmix"}
    assert len({mix.keep for mix in mixes}) == len(mixes)
    assert [batch.mix for batch in task.train_batches(1, skip=3)] == mixes[3 : len(mixes) // 2]


@pytest.mark.long
def test_a_mixed_run_is_the_same_with_loaders_pauses_and_ranks(new_run: Callable[..., Path]) -> None:
    straight, cut, shared = (new_run(name, num_workers=0, **BOTH) for name in ("straight", "cut", "shared"))
    assert train_here(straight) == "completed"
    assert train_here(cut, EndAfter(2)) == "paused"
    change_order(cut, num_workers=2)
    assert train_here(cut) == "completed"
    assert_same_result(cut, straight)
    assert train_on(shared, 2) == "completed"
    assert_same_run(shared, straight, epochs=1)
