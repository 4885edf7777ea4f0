"""Fields of the training of detectors: multi-scale, copy-paste, a mosaic that closes, and the warm-up of momentum."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.test_detection import HARD, SIZE, _assert_boxes_match_objects, _items, boxes_dir  # noqa: F401
from tests.helpers.images import make_run_dir
from tests.helpers.trainers import EndAfter, assert_same_result, change_order, train_here
from trainingapp.contract.config import config_fields, parse_config
from trainingapp.contract.loading import Loading
from trainingapp.contract.messages.loading import LOADERS_CHOSEN
from trainingapp.contract.schedule import make_schedule
from trainingapp.contract.tasks.detection import DetectionConfig
from trainingapp.engine.data.batches import BatchSource, LoaderPool
from trainingapp.engine.optim import make_optimizer, set_momentum
from trainingapp.engine.tasks.detection.data import BoxBatch, BoxedImage, pasted, training_sizes

#: Three epochs, the last one without a mosaic.
RECIPE: dict[str, Any] = {
    **HARD,
    "model": "pan_n",
    "epochs": 3,
    "mosaic": 0.8,
    "mosaic_close_epochs": 1,
    "copy_paste": 0.5,
    "multi_scale": 0.5,
    "warmup_momentum": 0.5,
    "warmup_epochs": 1,
    "scheduler": "cosine",
}


# Multi-scale


@pytest.mark.parametrize(
    ("size", "share", "sizes"),
    [
        (96, 0.0, [96]),
        (96, 0.3, [96]),
        (96, 0.34, [64, 96, 128]),
        (64, 0.75, [32, 64, 96]),
        (320, 0.1, [288, 320, 352]),
    ],
)
def test_training_sizes_are_multiples_of_32_around_the_image_size(size: int, share: float, sizes: list[int]) -> None:
    assert training_sizes(size, share) == sizes


def _source(folder: Path, accumulation: int = 1, **config: Any) -> BatchSource[BoxedImage, BoxBatch]:
    items = _items(folder, augmentation="none", **config)
    return BatchSource(items, 2, seed=1, training=True, accumulation_steps=accumulation)


def _batch(source: BatchSource[BoxedImage, BoxBatch], *place: Any) -> BoxBatch:
    batch = source[place]
    assert isinstance(batch, BoxBatch)
    return batch


def test_the_batches_of_a_step_have_one_size_and_steps_differ(boxes_dir: Path) -> None:  # noqa: F811
    source = _source(boxes_dir, 2, multi_scale=0.5)
    sides = [[_batch(source, epoch, number).images_NCHW.shape[-1] for number in range(4)] for epoch in range(1, 9)]
    assert all(one[0] == one[1] and one[2] == one[3] for one in sides)
    assert {side for one in sides for side in one} == {32, 64, 96}


def test_boxes_are_scaled_with_their_images(boxes_dir: Path) -> None:  # noqa: F811
    source, plain = _source(boxes_dir, multi_scale=0.5), _source(boxes_dir)
    seen = set()
    for epoch in range(1, 6):
        batch, same = _batch(source, epoch, 1), _batch(plain, epoch, 1)
        side = batch.images_NCHW.shape[-1]
        torch.testing.assert_close(batch.boxes_NM4, same.boxes_NM4 * (side / SIZE))
        assert batch.counts == same.counts
        if side == SIZE:
            assert torch.equal(batch.images_NCHW, same.images_NCHW)
        for image_CHW, (boxes, labels) in zip(batch.images_NCHW, batch.by_image(), strict=True):
            _assert_boxes_match_objects(BoxedImage(image_CHW, boxes, labels))
        seen.add(side)
    assert len(seen) > 1


@pytest.mark.parametrize("model", ["hf/rfdetr_nano", "ssd300_vgg16"])
def test_networks_of_one_size_get_images_of_it(boxes_dir: Path, model: str) -> None:  # noqa: F811
    source = _source(boxes_dir, multi_scale=0.5, model=model)
    sides = {_batch(source, epoch, 0).images_NCHW.shape[-1] for epoch in range(1, 9)}
    assert sides == {SIZE}
    assert not config_fields("detection")["multi_scale"].setting.has_effect({"model": model})
    assert config_fields("detection")["multi_scale"].setting.has_effect({"model": "pan_s"})


# Copy-paste


def _plain(value: int, boxes: list[list[float]], labels: list[int]) -> BoxedImage:
    return BoxedImage(
        torch.full((3, 64, 64), value, dtype=torch.uint8), torch.tensor(boxes).view(-1, 4), torch.tensor(labels)
    )


def test_pasted_objects_have_their_boxes_and_what_they_cover_is_gone() -> None:
    other = _plain(200, [[0.0, 0, 20, 10], [30.0, 30, 60, 60]], [1, 2])
    seen, hidden = set(), 0
    for seed in range(30):
        torch.manual_seed(seed)
        image = _plain(50, [[10.0, 10, 14, 14], [0.0, 0, 64, 64]], [0, 0])
        found = pasted(image, other, None)
        assert int(image.image_CHW.max()) == 50  # the stored image is not changed
        for box, label in zip(found.boxes_xyxy.int().tolist(), found.labels_M.tolist(), strict=True):
            if label:
                left, top, right, bottom = box
                assert (right - left, bottom - top) == ((20, 10) if label == 1 else (30, 30))
                assert (found.image_CHW[:, top:bottom, left:right] == 200).all()
            seen.add(label)
        corner = found.image_CHW[0, 10:14, 10:14]
        is_kept = [10, 10, 14, 14] in found.boxes_xyxy.tolist()
        assert is_kept == (float((corner == 200).float().mean()) <= 0.8)
        hidden += not is_kept
        assert found.labels_M.tolist().count(0) == 1 + is_kept
    assert seen == {0, 1, 2}
    assert hidden


def test_an_object_is_pasted_along_its_mask() -> None:
    mask_HW = torch.zeros(64, 64, dtype=torch.uint8)
    mask_HW[5:10, 5:10] = 2  # of class 1
    mask_HW[0:5, 0:5] = 1  # of another class, in the same box
    for seed in range(9):
        torch.manual_seed(seed)
        found = pasted(_plain(50, [], []), _plain(200, [[0.0, 0, 10, 10]], [1]), mask_HW)
        assert int((found.image_CHW == 200).sum()) == (3 * 25 if len(found.labels_M) else 0)


def test_copy_paste_gives_more_objects(boxes_dir: Path) -> None:  # noqa: F811
    counts = []
    for share in (0.0, 1.0):
        source = _source(boxes_dir, copy_paste=share)
        counts.append(sum(sum(_batch(source, epoch, number).counts) for epoch in (1, 2) for number in range(5)))
    assert counts[1] > counts[0]


# A mosaic that closes


def _pool(folder: Path, workers: int, closing_from: float) -> LoaderPool[BoxBatch]:
    source = _source(folder, mosaic=1.0)
    loading = Loading(workers, 2, 0, LOADERS_CHOSEN(count=workers))
    return LoaderPool(source, source, loading, last_epoch=3, closing_from=closing_from)


def test_a_closing_epoch_has_plain_images(boxes_dir: Path) -> None:  # noqa: F811
    mosaics, plain = _source(boxes_dir, mosaic=1.0), _source(boxes_dir)
    assert torch.equal(_batch(mosaics, 2, 0, True).images_NCHW, _batch(plain, 2, 0).images_NCHW)
    assert not torch.equal(_batch(mosaics, 2, 0, False).images_NCHW, _batch(plain, 2, 0).images_NCHW)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_mosaic_closes_at_once_where_the_number_of_epochs_changes(boxes_dir: Path, workers: int) -> None:  # noqa: F811
    """Batches that loader processes have prepared meanwhile are made again."""
    mosaics, plain = _source(boxes_dir, mosaic=1.0), _source(boxes_dir)
    pool = _pool(boxes_dir, workers, 3)
    batches = pool.epoch(1)
    found = [next(batches), next(batches)]
    pool.close_from(1)
    found += list(batches)
    for number, batch in enumerate(found):
        expected = _batch(mosaics if number < 2 else plain, 1, number)
        assert torch.equal(batch.images_NCHW, expected.images_NCHW)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, boxes_dir: Path) -> Path:  # noqa: F811
    """A run that was never cut. Not to be changed."""
    run_dir = make_run_dir(tmp_path_factory.mktemp("straight"), boxes_dir, **RECIPE)
    assert train_here(run_dir) == "completed"
    return run_dir


@pytest.mark.parametrize(
    ("workers", "workers_then", "looks"), [(0, 2, 5), pytest.param(2, 0, 9, marks=pytest.mark.long)]
)
def test_a_run_resumes_bit_exactly_across_the_close_of_the_mosaic(
    boxes_dir: Path,  # noqa: F811
    straight: Path,
    tmp_path: Path,
    workers: int,
    workers_then: int,
    looks: int,
) -> None:
    run_dir = make_run_dir(tmp_path / "run", boxes_dir, num_workers=workers, **RECIPE)
    assert train_here(run_dir, EndAfter(looks)) == "paused"
    change_order(run_dir, num_workers=workers_then)
    assert train_here(run_dir) == "completed"
    assert_same_result(run_dir, straight)


# Momentum


def test_momentum_rises_with_the_learning_rate() -> None:
    values = {"epochs": 4, "warmup_epochs": 2, "warmup_momentum": 0.5, "scheduler": "cosine"}
    schedule = make_schedule(parse_config(values), 5)
    found = [schedule.momentum_at(step, 0.9) for step in (0, 4, 9, 10, 19)]
    assert found == pytest.approx([0.54, 0.7, 0.9, 0.9, 0.9])


@pytest.mark.parametrize("values", [{}, {"warmup_momentum": 0.5, "scheduler": "one-cycle"}])
def test_without_the_field_momentum_is_not_touched(values: dict[str, Any]) -> None:
    assert make_schedule(parse_config(values), 5).momentum_at(0, 0.9) is None


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_every_optimizer_gets_its_momentum(name: str) -> None:
    config = parse_config({"optimizer": name, "warmup_momentum": 0.5, "scheduler": "linear", "momentum": 0.8})
    optimizer = make_optimizer(torch.nn.Linear(2, 2), config)
    for step, share in ((0, 0.1), (99, 1.0)):
        set_momentum(optimizer, make_schedule(config, 10), step, config.momentum)
        last = 0.9 if name.startswith("Adam") else 0.8
        for group in optimizer.param_groups:
            momentum = group["betas"][0] if name.startswith("Adam") else group["momentum"]
            assert momentum == pytest.approx(0.5 + (last - 0.5) * share)
            assert name.startswith("Adam") is ("betas" in group)
            if "betas" in group:
                assert group["betas"][1] == 0.999


# Configurations of the version before


def test_a_configuration_of_the_version_before_trains_as_before() -> None:
    stored = {"task": "detection", "model": "fcos_resnet18_fpn", "epochs": 3}
    config = parse_config(stored)
    assert config.anchor_scale == 0.5
    assert (config.multi_scale, config.copy_paste, config.mosaic_close_epochs, config.warmup_momentum) == (0, 0, 0, 0)  # type: ignore[attr-defined]


@pytest.mark.long
def test_a_run_whose_configuration_names_no_network_keeps_its_network(boxes_dir: Path, tmp_path: Path) -> None:  # noqa: F811
    """One that was written by hand, when the default was another network."""
    straight, cut = (make_run_dir(tmp_path / part, boxes_dir, **HARD) for part in ("straight", "cut"))
    train_here(straight)
    assert train_here(cut, EndAfter(2)) == "paused"
    order = json.loads((cut / "config.json").read_text())
    assert order["config"].pop("model") != DetectionConfig.model_fields["model"].default
    (cut / "config.json").write_text(json.dumps(order))
    change_order(cut)
    assert train_here(cut) == "completed"
    assert_same_result(cut, straight)
