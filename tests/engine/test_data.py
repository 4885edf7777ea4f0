"""Images and batches: the same with any number of loader processes."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from tests.helpers.images import make_dataset
from tests.helpers.trainers import last_status
from trainingapp.contract.dataset_index import DatasetIndex, Split, read_index
from trainingapp.contract.errors import BadData
from trainingapp.contract.loading import Loading
from trainingapp.contract.messages.loading import LOADERS_CHOSEN
from trainingapp.contract.tasks.classification import ClassificationConfig
from trainingapp.engine.data.batches import BatchSource, LoaderPool
from trainingapp.engine.data.images import load_image
from trainingapp.engine.data.transforms import Switches, image_augmentation
from trainingapp.engine.tasks.classification.data import Batch, LabelledImages


def _batches(
    dataset_dir: Path,
    *,
    workers: int = 0,
    strength: str = "strong",
    memory: int = 1 << 30,
    batch_size: int = 8,
    epochs: int = 3,
) -> LoaderPool[Batch]:
    dataset = read_index(dataset_dir)
    config = ClassificationConfig.model_validate({"image_size": 32, "augmentation": strength})
    splits: tuple[Split, Split] = ("train", "val")
    train, val = (
        BatchSource(_items(dataset, config, split, memory), batch_size, seed=3, training=split == "train")
        for split in splits
    )
    return LoaderPool(train, val, Loading(workers, 2, memory, LOADERS_CHOSEN(count=workers)), last_epoch=epochs)


def _items(dataset: DatasetIndex, config: ClassificationConfig, split: Split, memory: int) -> LabelledImages:
    samples = dataset.split(split)
    return LabelledImages(dataset, samples, config, memory, torch.tensor([sample.label for sample in samples]))


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


@pytest.mark.parametrize("workers", [0, 2])
def test_training_continues_after_a_validation_at_any_moment(dataset_dir: Path, workers: int) -> None:
    straight, pool = _batches(dataset_dir), _batches(dataset_dir, workers=workers)
    validation = list(straight.validation())
    first = pool.epoch(1)
    made = [next(first), next(first)]
    _assert_equal(validation, list(pool.validation()))
    made += [next(first)]
    begun = pool.validation()
    _assert_equal(validation[:1], [next(begun)])  # left before its end
    made += first
    _assert_equal(list(straight.epoch(1)), made)
    _assert_equal(validation, list(pool.validation()))
    _assert_equal(list(straight.epoch(2)), list(pool.epoch(2)))
    _assert_equal(validation, list(pool.validation()))
    _assert_equal(list(straight.epoch(7)), list(pool.epoch(7)))


def test_one_pool_of_processes_prepares_what_comes_next(dataset_dir: Path) -> None:
    pool = _batches(dataset_dir, workers=2, epochs=2)
    course = [*pool.epoch(1), *pool.validation(), *pool.epoch(2), *pool.validation()]
    assert len(course) == 2 * (6 + 2)
    processes = pool._loader._iterator._workers  # type: ignore[union-attr]
    assert len(processes) == len(multiprocessing.active_children()) == 2
    # Nothing was asked for twice: the pool went through the course of the run once, which ends with the last epoch.
    assert pool._loader._iterator._send_idx == len(course)  # type: ignore[union-attr]


class Threads:
    """Items that are the number of threads with which they were made."""

    sample_count = 4

    def item(self, index: int) -> torch.Tensor:
        return torch.tensor(torch.get_num_threads())

    training_item = item

    def collate(self, items: list[torch.Tensor], indices_N: torch.Tensor) -> Batch:
        return Batch(torch.stack(items), indices_N, indices_N)

    def mix(self, batch: Batch) -> Batch:
        return batch


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_made_with_one_thread_wherever_that_is(workers: int) -> None:
    """A mean over many pixels, as in a change of contrast, is rounded by the number of threads that share it."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    train, val = (BatchSource(Threads(), 2, seed=0, training=is_training) for is_training in (True, False))
    loading = Loading(workers, 2, 0, LOADERS_CHOSEN(count=workers))
    batches = [*LoaderPool(train, val, loading, one_thread=True).epoch(1)]
    assert {count for batch in batches for count in batch.images_NCHW.tolist()} == {1}
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


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
    assert len(list(batches.epoch(1))) == count


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


@pytest.mark.parametrize("size", [9, 32])
@pytest.mark.parametrize("flips", [(), ("horizontal",), ("vertical",), ("horizontal", "vertical")])
def test_flips_and_shifts_are_those_of_torchvision(size: int, flips: tuple[str, ...]) -> None:
    chosen = Switches("horizontal" in flips, "vertical" in flips, shift=0.125)
    transforms = {"horizontal": v2.RandomHorizontalFlip(), "vertical": v2.RandomVerticalFlip()}
    crop = v2.RandomCrop(size, padding=round(size * chosen.shift), padding_mode="reflect")
    reference, augment = v2.Compose([*(transforms[flip] for flip in flips), crop]), image_augmentation(chosen, size)
    image_CHW = torch.randint(0, 256, (3, size, size), dtype=torch.uint8)
    for seed in range(40):
        torch.manual_seed(seed)
        expected, next_number = reference(image_CHW), torch.rand(1)
        torch.manual_seed(seed)
        assert torch.equal(augment(image_CHW), expected), seed
        assert torch.equal(torch.rand(1), next_number), seed
