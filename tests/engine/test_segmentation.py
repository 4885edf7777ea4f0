"""Segmentation end to end: items, batches, training, evaluation files, and exact resume."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.images import make_run_dir
from tests.helpers.trainers import (
    EndAfter,
    assert_same_result,
    change_order,
    curves,
    events_of,
    newest_content,
    train_here,
)
from trainingapp.contract.config import parse_config
from trainingapp.contract.dataset_index import IGNORED_PIXEL, Sample, read_index, write_index
from trainingapp.contract.errors import BadData
from trainingapp.contract.evaluation import read_evaluation
from trainingapp.engine.tasks.segmentation import task as segmentation_task
from trainingapp.engine.tasks.segmentation.data import MaskedImages
from trainingapp.engine.tasks.segmentation.task import SegmentationTask
from trainingapp.engine.tasks.segmentation.upsampling import MatrixUpsampling

WIDTH, HEIGHT = 48, 36
COLOURS = {"red": (220, 40, 40), "blue": (50, 70, 230)}

#: 14 images in batches of 4, two of them a step: two steps an epoch, the second as long as the first.
HARD: dict[str, Any] = {
    "task": "segmentation",
    "model": "lraspp_mobilenet_v3_large",
    "image_size": 64,
    "batch_size": 4,
    "epochs": 2,
    "accumulation_steps": 2,
    "ema_decay": 0.9,
    "gradient_clip": 1.0,
    "loss_type": "combined",
    "class_weights": "balanced",
    "augmentation": "strong",
    "autosave_minutes": 0,
}


def make_masked_dataset(folder: Path, train: int = 14, val: int = 5) -> Path:
    """Coloured rectangles on grey noise; a rim of ignored pixels above. Wider than high, so that there is padding."""
    rng = np.random.default_rng(1)
    samples = []
    for number in range(train + val):
        split = "train" if number < train else "val"
        image, mask = rng.integers(90, 150, (HEIGHT, WIDTH, 3)), np.zeros((HEIGHT, WIDTH), np.uint8)
        for value, colour in enumerate(COLOURS.values(), start=1):
            top, left = rng.integers(4, HEIGHT - 16), rng.integers(0, WIDTH - 16)
            image[top : top + 14, left : left + 14] = colour
            mask[top : top + 14, left : left + 14] = value
        mask[:2] = IGNORED_PIXEL
        paths = (f"images/{split}/{number}.png", f"masks/{split}/{number}.png")
        for path, pixels in zip(paths, (image.astype(np.uint8), mask), strict=True):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / path)
        samples.append(Sample(paths[0], -1, split, WIDTH, HEIGHT, mask=paths[1]))
    classes = list(COLOURS)
    write_index(folder, name="m", tasks=["segmentation"], classes=classes, fingerprint="1" * 64, samples=samples)
    return folder


@pytest.fixture(scope="module")
def masked_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_masked_dataset(tmp_path_factory.mktemp("masked"))


@pytest.fixture
def new_run(tmp_path: Path, masked_dir: Path) -> Callable[..., Path]:
    def make(name: str = "run", **config: Any) -> Path:
        return make_run_dir(tmp_path / name, config.pop("dataset_dir", masked_dir), **{**HARD, **config})

    return make


@pytest.fixture(scope="module")
def straight_run(tmp_path_factory: pytest.TempPathFactory, masked_dir: Path) -> Path:
    run_dir = make_run_dir(tmp_path_factory.mktemp("straight"), masked_dir, **HARD)
    assert train_here(run_dir) == "completed"
    return run_dir


def _items(folder: Path, **config: Any) -> MaskedImages:
    dataset = read_index(folder)
    values = parse_config({"task": "segmentation", "image_size": 96, **config})
    return MaskedImages(dataset, dataset.split("train"), values, 1 << 30)  # type: ignore[arg-type]


@pytest.mark.parametrize(("workers", "workers_then"), [(0, 2), pytest.param(2, 0, marks=pytest.mark.long)])
def test_paused_at_a_random_step(new_run, straight_run: Path, workers: int, workers_then: int) -> None:
    looks = random.randint(1, 9)  # 4 steps, two ends of epochs and validation batches
    run_dir = new_run(num_workers=workers)
    assert train_here(run_dir, EndAfter(looks)) == "paused", looks
    change_order(run_dir, num_workers=workers_then)
    assert train_here(run_dir) == "completed", looks
    assert_same_result(run_dir, straight_run)
    _assert_same_evaluations(run_dir, straight_run)


def test_a_run_of_the_version_before_keeps_its_upsampling(new_run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices round in another order. They are used on GPUs only; here the way is chosen as there."""
    monkeypatch.setattr(segmentation_task, "deterministic_upsampling", lambda device: MatrixUpsampling())
    straight, cut, new = (new_run(name, epochs=1) for name in ("straight", "cut", "new"))
    with monkeypatch.context() as before:
        before.setattr(SegmentationTask, "latest_computation", 1)
        train_here(straight)
        assert train_here(cut, EndAfter(1)) == "paused"
    change_order(cut)
    train_here(cut)
    assert_same_result(cut, straight)
    train_here(new)
    assert newest_content(new)["computation"] == 2
    assert curves(new) != curves(straight)


def _assert_same_evaluations(run_dir: Path, reference: Path) -> None:
    one, other = (_files(folder / "evaluations") for folder in (run_dir, reference))
    assert one == other


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_writes_its_events_and_files(straight_run: Path) -> None:
    content = newest_content(straight_run)
    assert content["classes"] == ["red", "blue"]
    assert "ema_state_dict" in content
    assert content["model_state_dict"]["classifier.low_classifier.weight"].shape[0] == 3
    metrics = events_of(straight_run, "metrics")
    assert {*metrics[-1]["values"]} == {"mean_iou", "dice", "pixel_accuracy", "loss"}
    assert {"loss", "pixel_accuracy"} <= {*metrics[0]["values"]}
    [sheet] = {event["file"] for event in events_of(straight_run, "sample")}
    with Image.open(straight_run / sheet) as image:
        assert image.format == "WEBP"
        assert image.width > 4 * 192


def test_predicted_masks_are_stored_with_the_evaluation(straight_run: Path) -> None:
    found = read_evaluation(straight_run, 2)
    assert found
    assert found["task"] == "segmentation"
    assert [row["class"] for row in found["per_class"]] == ["background", "red", "blue"]
    assert found["confusion"]["names"] == ["background", "red", "blue"]
    assert set(found["predictions"]) == {"0", "1", "2", "3", "4"}
    for index, prediction in found["predictions"].items():
        assert prediction == {"mask": f"epoch_2/{index}.png"}
        with Image.open(straight_run / "evaluations" / prediction["mask"]) as image:
            assert image.mode == "L"
            assert image.size == (64, 48)  # as fitted, without the padding above and below
            assert np.asarray(image).max() <= 2


def test_images_and_masks_are_augmented_together(masked_dir: Path) -> None:
    items = _items(masked_dir, augmentation="custom", flip_horizontal=True, flip_vertical=True, crop=0.5)
    reds = torch.tensor(COLOURS["red"])[:, None, None]
    torch.manual_seed(4)
    for index in range(items.sample_count):
        image, mask = items.training_item(index)
        assert (image.shape, image.dtype, type(image)) == ((3, 96, 96), torch.uint8, torch.Tensor)
        assert (mask.shape, mask.dtype, type(mask)) == ((96, 96), torch.uint8, torch.Tensor)
        assert set(mask.unique().tolist()) <= {0, 1, 2, IGNORED_PIXEL}
        is_red = ((image.int() - reds).abs() < 30).all(0)
        assert (mask[is_red] == 1).float().mean() > 0.95
        assert is_red[mask == 1].float().mean() > 0.7  # edges are smoothed


def test_padding_is_unknown_and_the_background_can_be(masked_dir: Path) -> None:
    _image, mask = _items(masked_dir).item(0)
    assert (mask[:12] == IGNORED_PIXEL).all()  # 48 x 36 becomes 96 x 72: 12 rows of padding
    assert (mask[12:16] == IGNORED_PIXEL).all()  # the file's own ignored rim
    assert (mask == 0).any()
    _image, mask = _items(masked_dir, ignore_background=True).item(0)
    assert set(mask.unique().tolist()) == {1, 2, IGNORED_PIXEL}


def test_pixels_are_counted_once_for_each_class(masked_dir: Path) -> None:
    items = _items(masked_dir)
    masks = torch.stack([items.item(index)[1] for index in range(items.sample_count)])
    assert items.pixel_counts().tolist() == [(masks == value).sum() for value in range(3)]


def test_ignored_background_trains(new_run) -> None:
    run_dir = new_run(ignore_background=True, epochs=1, accumulation_steps=1)
    assert train_here(run_dir) == "completed"
    found = read_evaluation(run_dir, 1)
    assert found
    assert [row["class"] for row in found["per_class"]] == ["red", "blue"]
    assert found["confusion"]["counts"][0] == [0, 0, 0]


def test_values_beyond_the_classes_are_named(tmp_path: Path) -> None:
    folder = make_masked_dataset(tmp_path)
    Image.fromarray(np.full((HEIGHT, WIDTH), 7, np.uint8)).save(folder / "masks/train/3.png")
    with pytest.raises(BadData, match=r"3\.png contains the value 7"):
        _items(folder).item(3)


def test_images_without_masks_are_refused(new_run, tmp_path: Path) -> None:
    folder = make_masked_dataset(tmp_path / "dataset")
    lines = (folder / "samples.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    del first["mask"]
    (folder / "samples.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]))
    with pytest.raises(BadData, match="no mask"):
        train_here(new_run(dataset_dir=folder))
