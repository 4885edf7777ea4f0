"""With every choice of how images reach the device, a run resumes bit-exact, on whatever machine each attempt is."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.images import make_run_dir
from tests.helpers.trainers import EndAfter, assert_same_result, change_order, events_of, train_here
from trainingapp.contract.dataset_index import Box, Sample, Split, write_index
from trainingapp.contract.loading import Loading, loading_of
from trainingapp.engine.tasks import task as task_module

WIDTH, HEIGHT = 301, 203
#: Loaders, mixed precision and decoding as the machine and the images suggest, with random choices in every step.
FEEDING: dict[str, Any] = {
    "num_workers": "auto",
    "amp": "auto",
    "decoding": "fast",
    "epochs": 2,
    "batch_size": 4,
    "image_size": 64,
    "augmentation": "strong",
    "autosave_minutes": 0,
    "cpu_threads": 2,
}
TASKS: dict[str, dict[str, Any]] = {
    "classification": {"augment_on": "device", "dropout_rate": 0.3, "mixup": 0.3},
    "segmentation": {"augment_on": "device", "model": "lraspp_mobilenet_v3_large", "ema_decay": 0.9},
    "detection": {"model": "ssdlite320_mobilenet_v3_large", "mosaic": 0.5},
}
EVERY_TASK = ["classification", *(pytest.param(name, marks=pytest.mark.long) for name in ("segmentation", "detection"))]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large JPEGs of noise with a rectangle: a label, a box and a mask each. The last batch of an epoch is smaller."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    samples = []
    counts: list[tuple[Split, int]] = [("train", 14), ("val", 5)]
    for split, count in counts:
        for number in range(count):
            samples.append(_photograph(folder, split, number, rng))
    tasks = list(TASKS)
    write_index(folder, name="p", tasks=tasks, classes=["low", "high"], fingerprint="2" * 64, samples=samples)
    return folder


def _photograph(folder: Path, split: Split, number: int, rng: np.random.Generator) -> Sample:
    pixels, mask = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    label, (left, top) = number % 2, rng.integers(0, 100, 2).tolist()
    box = (left, top, left + 120, top + 90)
    pixels[top : box[3], left : box[2], label] = 255
    mask[top : box[3], left : box[2]] = label + 1
    path, mask_path = f"images/{split}/{number}.jpg", f"masks/{split}/{number}.png"
    for name, image in ((path, Image.fromarray(pixels)), (mask_path, Image.fromarray(mask))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    return Sample(path, label, split, WIDTH, HEIGHT, mask=mask_path, boxes=(Box(label, *box),))


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`processes(n)`: what auto comes to at the next attempts, as on other machines; with n, images are not cached."""

    def use(count: int) -> None:
        def chosen(*arguments: Any, **options: Any) -> Loading:
            found = loading_of(*arguments, **options)
            return replace(found, processes=count, prefetch=2, cache_bytes=0 if count else found.cache_bytes)

        monkeypatch.setattr(task_module, "loading_of", chosen)

    return use


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", EVERY_TASK)
def test_attempts_on_different_machines_are_one_run(
    name: str, photographs: Path, tmp_path: Path, processes: Callable[[int], None]
) -> None:
    config = {**FEEDING, "task": name, **TASKS[name]}
    straight, cut = (make_run_dir(tmp_path / each, photographs, **config) for each in ("straight", "cut"))
    assert train_here(straight) == "completed"
    for count, looks in ((2, 2), (0, 3), (1, 2)):  # within an epoch, within or after a validation, within the next
        processes(count)
        assert train_here(cut, EndAfter(looks)) == "paused"
        change_order(cut)
    processes(2)
    assert train_here(cut) == "completed"
    assert_same_result(cut, straight)
    started = [event["environment"] for event in events_of(cut, "status") if event["state"] == "started"]
    assert [one["num_workers"] for one in started] == [2, 0, 1, 2]
    assert [one["images_cached"] for one in started] == [False, True, False, False]
    assert {one["precision"] for one in started} == {"float32"}


@pytest.mark.long
@pytest.mark.parametrize("name", TASKS)
def test_a_killed_trainer_continues_exactly(name: str, photographs: Path, tmp_path: Path, start: Any) -> None:
    config = {**FEEDING, "epochs": 3, "task": name, **TASKS[name]}
    straight, cut = (make_run_dir(tmp_path / each, photographs, **config) for each in ("straight", "cut"))
    assert train_here(straight) == "completed"
    change_order(cut, num_workers=2)
    trainer = start(cut)
    trainer.wait_for(lambda event: event["type"] == "checkpoint")
    os.kill(trainer.process.pid, signal.SIGKILL)
    trainer.wait()
    change_order(cut, num_workers="auto")
    trainer = start(cut)
    assert trainer.wait() == 0, trainer.log()
    assert_same_result(cut, straight)
