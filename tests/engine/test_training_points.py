"""Points of the training charts: how often they are read, with how many reads of the device, and what they hold."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.trainers import events_of, train_here
from trainingapp.contract.events import EVENTS_FILE, EventLog
from trainingapp.engine import report
from trainingapp.engine.checkpoint import CheckpointFolder
from trainingapp.engine.report import Reporter
from trainingapp.engine.tasks.classification.metrics import ClassificationMeter
from trainingapp.engine.tasks.classification.multi_label import MultiLabelMeter
from trainingapp.engine.tasks.detection.metrics import LossMeter
from trainingapp.engine.tasks.segmentation.metrics import SegmentationMeter

CPU = torch.device("cpu")


class Clock:
    """Stands in for the module `time` of the reporter: its time is set by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(report, "time", found)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    return found


def points(folder: Path, clock: Clock, device: str, *, step_s: float) -> list[int]:
    """The steps with a point in two epochs of 30 steps, a point being due every 5. The device is a name only: the
    reporter looks at nothing else of it."""
    folder.mkdir()
    meter = ClassificationMeter(2, CPU)
    state: Any = SimpleNamespace(
        device=torch.device(device),
        meter=meter,
        epoch=1,
        step=0,
        step_in_epoch=0,
        steps_per_epoch=30,
        total_steps=60,
        elapsed_s=0.0,
        epochs_done=0,
        config=SimpleNamespace(log_every_steps=5, epochs=2),
    )
    events = EventLog(folder / EVENTS_FILE, 1)
    reporter = Reporter(events, state, CheckpointFolder(folder / "checkpoints", events))
    batch: Any = SimpleNamespace(image_count=4)
    for epoch in (1, 2):
        state.epoch, state.step_in_epoch = epoch, 0
        reporter.begin_epoch()
        for _step in range(30):
            state.task = SimpleNamespace(draw_batch=lambda batch: [])
            reporter._next_batch_image = float("inf")  # drawing is not the subject
            reporter.training_batch(batch)
            meter.update(torch.tensor(1.0), torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
            state.step, state.step_in_epoch = state.step + 1, state.step_in_epoch + 1
            clock.now += step_s
            reporter.training_step(0.1)
    found = events_of(folder, "metrics")
    assert all(event["values"]["images_per_s"] == pytest.approx(4 / step_s, rel=0.01) for event in found)
    return [event["step"] for event in found]


def test_on_a_gpu_at_most_one_point_a_second_but_the_first_and_the_last_of_an_epoch(
    tmp_path: Path, clock: Clock
) -> None:
    assert points(tmp_path / "fast", clock, "cuda:0", step_s=0.125) == [5, 15, 25, 30, 40, 50, 60]
    assert points(tmp_path / "very fast", clock, "cuda:0", step_s=0.001) == [5, 30, 60]


def test_a_slow_gpu_and_a_cpu_have_a_point_as_often_as_is_set(tmp_path: Path, clock: Clock) -> None:
    every = list(range(5, 61, 5))
    assert points(tmp_path / "slow", clock, "cuda:0", step_s=1.0) == every
    assert points(tmp_path / "cpu", clock, "cpu", step_s=0.001) == every


class Reads(TorchDispatchMode):
    """Counts what would make the loop wait for a GPU: each copy of a tensor's values to Python."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class Listed(torch.Tensor):
    """A tensor whose `tolist` is counted: it reads all values at once, on a GPU with one copy."""

    count = 0

    def tolist(self) -> Any:
        Listed.count += 1
        return self.as_subclass(torch.Tensor).tolist()


def _classes(meter: Any) -> None:
    meter.update(torch.tensor(1.0), torch.eye(4, 3), torch.tensor([0, 1, 2, 0]))


def _labels(meter: Any) -> None:
    meter.update(torch.tensor(1.0), torch.eye(4, 3) - 0.5, torch.eye(4, 3))


def _masks(meter: Any) -> None:
    meter.update(torch.tensor(1.0), torch.rand(4, 3, 2, 2), torch.ones(4, 2, 2, dtype=torch.uint8))


def _boxes(meter: Any) -> None:
    meter.update(torch.tensor(1.0), {"loss_box": torch.tensor(0.5)}, 4)


@pytest.mark.parametrize(
    ("meter", "update"),
    [
        (ClassificationMeter(3, CPU), _classes),
        (MultiLabelMeter(CPU), _labels),
        (SegmentationMeter(3, CPU), _masks),
        (LossMeter(["loss_box"], CPU), _boxes),
    ],
)
def test_a_point_reads_the_device_once(meter: Any, update: Callable[[Any], None]) -> None:
    update(meter)
    expected = meter.training_values()
    for name, tensor in list(vars(meter).items()):
        if isinstance(tensor, torch.Tensor):
            setattr(meter, name, tensor.as_subclass(Listed))
    Listed.count = 0
    with Reads() as reads:
        assert meter.training_values() == expected
    assert (Listed.count, reads.count) == (1, 0)


def test_the_speed_counts_images_of_this_attempt(new_run) -> None:
    run_dir = new_run(epochs=1)
    train_here(run_dir)
    found = [event for event in events_of(run_dir, "metrics") if event["split"] == "train"]
    assert all(event["values"]["images_per_s"] > 0 for event in found)
