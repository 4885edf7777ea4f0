"""Augmentation on the training device makes the random choices that loader processes make, image by image."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.engine.test_segmentation import make_masked_dataset
from tests.helpers.images import make_run_dir
from trainingapp.contract.config import config_fields, parse_config
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.data.transforms import augmented_each
from trainingapp.engine.tasks.registry import make_task, read_dataset

CUSTOM = {"augmentation": "custom", "flip_vertical": True, "crop": 0.5, "colour": 0.4}
TASKS: list[dict[str, Any]] = [
    *({"augmentation": name} for name in ("none", "light", "medium", "strong")),
    {**CUSTOM, "auto_augment": "randaugment", "erasing": 0.5, "mixup": 0.3, "class_balance": "sampler"},
    *({"task": "segmentation", "model": "fcn_resnet18", "augmentation": name} for name in ("light", "strong")),
    {"task": "segmentation", "model": "fcn_resnet18", **CUSTOM},
]


@pytest.fixture(scope="module")
def masked_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_masked_dataset(tmp_path_factory.mktemp("masked"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As loader processes have: a mean over many pixels is rounded by the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _batches(folder: Path, dataset_dir: Path, **config: Any) -> list[TensorBatch]:
    spec = read_run_spec(folder, read_config_file(make_run_dir(folder, dataset_dir, image_size=64, **config)))
    task = make_task(spec, read_dataset(spec), torch.device("cpu"))
    return [*task.train_batches(1, skip=0), *task.train_batches(2, skip=1)]


@pytest.mark.parametrize("config", TASKS, ids=lambda config: "-".join(map(str, config.values())))
def test_batches_are_those_of_loader_processes(
    dataset_dir: Path, masked_dir: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    folder = masked_dir if config.get("task") == "segmentation" else dataset_dir
    before = torch.get_rng_state()
    here = _batches(tmp_path / "device", folder, augment_on="device", **config)
    there = _batches(tmp_path / "cpu", folder, augment_on="cpu", num_workers=1, **config)
    assert torch.equal(torch.get_rng_state(), before), "dropout draws from this generator"
    assert len(here) == len(there) > 2
    for one, other in zip(here, there, strict=True):
        for field in fields(one):
            value, also = getattr(one, field.name), getattr(other, field.name)
            assert torch.equal(value, also) if isinstance(value, torch.Tensor) else value == also, field.name
    assert not all(torch.equal(vars(here[0])["images_NCHW"], vars(batch)["images_NCHW"]) for batch in here[1:2])


def test_deterministic_algorithms_are_back_on_after_it() -> None:
    """torch refuses some of the transforms with them."""
    seen: list[bool] = []

    def augment(image: torch.Tensor) -> torch.Tensor:
        seen.append(torch.are_deterministic_algorithms_enabled())
        if image.sum() == 0:
            raise ValueError("an image that cannot be augmented")
        return image + torch.rand(())

    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        first, again, other = augmented_each([torch.ones(2)] * 3, [5, 5, 6], augment)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        with pytest.raises(ValueError, match="cannot be augmented"):
            augmented_each([torch.zeros(2)], [1], augment)
        assert seen == [False] * 4
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(before)


def test_detection_refuses_it_by_name() -> None:
    with pytest.raises(ValidationError, match="augment_on"):
        parse_config({"task": "detection", "augment_on": "device"})
    assert "augment_on" not in config_fields("detection")
