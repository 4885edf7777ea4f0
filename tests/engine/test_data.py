"""Images and batches: the same with any number of loader processes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.images import make_dataset
from tests.helpers.trainers import last_status
from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.errors import BadData
from trainingapp.contract.tasks.classification import ClassificationConfig
from trainingapp.engine.data.batches import Batches, BatchSource
from trainingapp.engine.data.images import MEMORY_LIMIT_BYTES, load_image
from trainingapp.engine.tasks.classification.data import Batch, LabelledImages


def _batches(
    dataset_dir: Path,
    *,
    workers: int = 0,
    strength: str = "strong",
    memory: int = MEMORY_LIMIT_BYTES,
    batch_size: int = 8,
) -> Batches:
    dataset = read_index(dataset_dir)
    config = ClassificationConfig.model_validate({"image_size": 32, "augmentation": strength})
    samples = dataset.split("train")
    items = LabelledImages(dataset, samples, config, memory, torch.tensor([sample.label for sample in samples]))
    source = BatchSource(items, batch_size, seed=3, training=True)
    return Batches(source, workers, pin_memory=False, unwanted_fds=[])


def _assert_equal(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        assert torch.equal(first.images_NCHW, second.images_NCHW)
        assert torch.equal(first.targets, second.targets)


@pytest.mark.parametrize("strength", ["none", "light", "medium", "strong"])
def test_the_same_batches_with_and_without_processes_and_memory(dataset_dir: Path, strength: str) -> None:
    here = list(_batches(dataset_dir, strength=strength).epoch(2))
    assert here[0].images_NCHW.shape == (8, 3, 32, 32)
    assert here[0].images_NCHW.dtype == torch.uint8
    _assert_equal(here, list(_batches(dataset_dir, strength=strength, memory=0).epoch(2)))
    if strength == "strong":
        _assert_equal(here, list(_batches(dataset_dir, strength=strength, workers=2).epoch(2)))


def test_batches_can_be_skipped(dataset_dir: Path) -> None:
    batches = _batches(dataset_dir)
    _assert_equal(list(batches.epoch(1))[4:], list(batches.epoch(1, skip=4)))


def test_epochs_differ_in_order_and_in_augmentation(dataset_dir: Path) -> None:
    batches = _batches(dataset_dir, batch_size=44)
    [one], [other] = list(batches.epoch(1)), list(batches.epoch(2))
    assert not torch.equal(one.targets, other.targets)
    assert sorted(one.targets.tolist()) == sorted(other.targets.tolist())
    assert not torch.equal(one.images_NCHW, other.images_NCHW)


def test_loading_does_not_touch_the_global_generator(dataset_dir: Path) -> None:
    before = torch.get_rng_state()
    list(_batches(dataset_dir).epoch(1))
    list(_batches(dataset_dir, workers=1).epoch(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("batch_size", "count"), [(8, 6), (11, 4), (43, 1), (44, 1), (100, 1), (1, 44)])
def test_a_short_last_batch_is_kept_unless_it_is_one_image(dataset_dir: Path, batch_size: int, count: int) -> None:
    batches = _batches(dataset_dir, batch_size=batch_size)
    assert batches.count == len(list(batches.epoch(1))) == count


def test_transparent_grey_and_16_bit_images(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("L", (8, 8), 100).save(tmp_path / "grey.png")
    Image.fromarray(np.full((8, 8), 100 * 256, np.uint16)).save(tmp_path / "deep.png")
    assert load_image(tmp_path / "clear.png", 32).unique().tolist() == [255]
    assert load_image(tmp_path / "grey.png", 32).unique().tolist() == [100]
    assert load_image(tmp_path / "deep.png", 32).unique().tolist() == [100]


def test_photographs_are_rotated_by_their_exif_orientation(tmp_path: Path) -> None:
    image = Image.fromarray(np.repeat([[[255] * 3], [[0] * 3]], 8, axis=0).astype(np.uint8).repeat(16, axis=1))
    exif = image.getexif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    loaded = load_image(tmp_path / "turned.jpg", 32)
    assert loaded[:, 0].float().mean() < 50 < 200 < loaded[:, -1].float().mean()


@pytest.mark.parametrize("content", [b"", b"just text", None])
def test_unreadable_image_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.jpg"
    if content is None:
        Image.effect_noise((64, 64), 50).save(path)
        content = path.read_bytes()[:700]
    path.write_bytes(content)
    with pytest.raises(BadData, match=r"bad\.jpg"):
        load_image(path, 32)


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.long), 1])
def test_corrupt_image_fails_the_run_as_bad_data(tmp_path: Path, new_run, start, workers: int) -> None:
    dataset_dir = make_dataset(tmp_path / "dataset")
    (dataset_dir / "images/train/class_1/0003.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    run_dir = new_run(dataset_dir=dataset_dir, num_workers=workers)
    trainer = start(run_dir)
    assert trainer.wait() == 1, trainer.log()
    failed = last_status(run_dir)
    assert failed["error_class"] == "bad_data"
    assert "class_1/0003.png" in failed["message"]
