"""Determinism is a choice of three; networks without deterministic algorithms are found before a run trains."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from tests.helpers.trainers import HARD, EndAfter, change_order, events_of, newest_content, train_here
from trainingapp.contract.dataset_index import Box, Sample, Split, read_index, write_index
from trainingapp.contract.errors import NotDeterministic, nondeterministic_operation
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.engine import determinism
from trainingapp.engine.determinism import choose_algorithms, excluded_by
from trainingapp.engine.device import Precision, prepare_backend
from trainingapp.engine.tasks.classification.task import ClassificationTask

CPU = Precision(torch.device("cpu"), None)


class Unpooled(nn.Module):
    """A classifier with an operation for which torch has no deterministic algorithm, on CPUs either."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.classifier = nn.Conv2d(3, 2, 3), nn.Linear(2, 2)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        pooled, places = F.max_pool2d(self.stem(images_NCHW), 2, return_indices=True)
        logits: torch.Tensor = self.classifier(F.max_unpool2d(pooled, places, 2).mean((2, 3)))
        return logits


class Restless(nn.Module):
    """A classifier whose gradient differs each time although no operation raises, as silent faults of libraries do."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(3, 2)
        self._source = random.SystemRandom()

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(images_NCHW.mean((2, 3)) * self._source.uniform(0.5, 2.0))
        return logits


@pytest.fixture(autouse=True)
def _switches() -> Any:
    """Other tests of this process get the switches that they expect."""
    yield
    prepare_backend(deterministic=True, cpu_threads=torch.get_num_threads())


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[nn.Module]], None]:
    """Have runs build this network, and probe it as on a GPU: torch itself raises, only the device is not real."""

    def use(network: type[nn.Module]) -> None:
        monkeypatch.setattr(ClassificationTask, "build_network", classmethod(lambda cls, *args, **more: network()))
        monkeypatch.setattr(determinism, "needs_probe", lambda device: True)

    return use


def logged(run_dir: Path) -> list[str]:
    return [event["message"] for event in events_of(run_dir, "log")]


def started(run_dir: Path) -> dict[str, Any]:
    return [event for event in events_of(run_dir, "status") if event["state"] == "started"][-1]


def test_automatic_trains_without_determinism_and_says_so(new_run, builds) -> None:
    builds(Unpooled)
    run_dir = new_run(epochs=1)
    assert train_here(run_dir) == "completed"
    assert started(run_dir)["environment"]["deterministic"] is False
    (line,) = [one for one in logged(run_dir) if "Deterministic algorithms are off" in one]
    assert "max_unpooling2d" in line
    assert newest_content(run_dir)["algorithms"] == {"deterministic": False, "device": "cpu"}


def test_exact_refuses_the_network_by_name(new_run, builds) -> None:
    builds(Unpooled)
    with pytest.raises(NotDeterministic, match=r"max_unpooling2d\w* has no deterministic algorithm.*auto or fast"):
        train_here(new_run(epochs=1, deterministic="exact"))


def test_fast_is_not_probed(new_run, builds) -> None:
    builds(Unpooled)
    run_dir = new_run(epochs=1, deterministic="fast")
    assert train_here(run_dir) == "completed"
    assert not torch.are_deterministic_algorithms_enabled()
    assert not [one for one in logged(run_dir) if "Deterministic algorithms are off" in one]


def test_a_gradient_that_differs_is_named(new_run, dataset_dir, builds) -> None:
    builds(Restless)
    run_dir = new_run()
    spec = read_run_spec(run_dir, read_config_file(run_dir))
    assert str(excluded_by(spec, read_index(dataset_dir), CPU)) == (
        "the gradient of classifier.weight differed when the same step was repeated"
    )


@pytest.fixture(scope="module")
def all_annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise with a label, a box and a mask each: three images for training, one for validation."""
    folder, rng = tmp_path_factory.mktemp("all"), np.random.default_rng(0)
    samples = []
    for number in range(4):
        mask = np.zeros((64, 64), np.uint8)
        mask[8:40, 8:40] = 1
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / f"{number}.png")
        Image.fromarray(mask).save(folder / f"{number}_mask.png")
        split: Split = "train" if number < 3 else "val"
        boxes = (Box(0, 8, 8, 40, 40),) if number else ()
        samples.append(Sample(f"{number}.png", number % 2, split, 64, 64, boxes, f"{number}_mask.png"))
    tasks = ["classification", "detection", "segmentation"]
    write_index(folder, name="all", tasks=tasks, classes=["a", "b"], fingerprint="0" * 64, samples=samples)
    return folder


@pytest.mark.parametrize(
    "config",
    [
        {"model": "resnet18", "dropout_rate": 0.5, "augmentation": "strong"},
        {"task": "detection", "model": "fasterrcnn_resnet18_fpn"},
        {"task": "segmentation", "model": "smp/pspnet_resnet18", "class_weights": "balanced"},
    ],
)
def test_networks_are_deterministic_on_a_cpu(new_run, all_annotations: Path, config: dict[str, Any]) -> None:
    run_dir = new_run(dataset_dir=all_annotations, **{"image_size": 64, **config})
    spec = read_run_spec(run_dir, read_config_file(run_dir))
    prepare_backend(deterministic=True, cpu_threads=1)
    assert excluded_by(spec, read_index(all_annotations), CPU) is None


def test_the_probe_does_not_change_the_run(new_run, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, probed = (new_run(name, **{**HARD, "epochs": 1}) for name in ("plain", "probed"))
    train_here(plain)
    monkeypatch.setattr(determinism, "needs_probe", lambda device: True)
    train_here(probed)
    one, other = newest_content(plain), newest_content(probed)
    assert all(torch.equal(value, other["model_state_dict"][name]) for name, value in one["model_state_dict"].items())


def test_an_error_of_the_run_itself_is_not_hidden(new_run, dataset_dir, builds) -> None:
    class Broken(Restless):
        def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    builds(Broken)
    run_dir = new_run()
    with pytest.raises(RuntimeError, match="mat1"):
        excluded_by(read_run_spec(run_dir, read_config_file(run_dir)), read_index(dataset_dir), CPU)


def test_a_resumed_run_keeps_the_algorithms_of_its_checkpoint(new_run, builds, monkeypatch) -> None:
    builds(Unpooled)
    run_dir = new_run(epochs=2)
    assert train_here(run_dir, EndAfter(3)) == "paused"
    change_order(run_dir)

    def probe(*arguments: Any) -> None:
        raise AssertionError("probed again")

    monkeypatch.setattr(determinism, "excluded_by", probe)
    assert train_here(run_dir) == "completed"
    assert started(run_dir)["environment"]["deterministic"] is False


def test_torch_names_the_operation() -> None:
    torch.use_deterministic_algorithms(True)
    with pytest.raises(RuntimeError) as caught:
        Unpooled()(torch.zeros(1, 3, 8, 8))
    assert "max_unpooling2d" in str(nondeterministic_operation(caught.value))
    assert nondeterministic_operation(RuntimeError("something else")) is None


@pytest.mark.parametrize(
    ("choice", "deterministic", "matmul"),
    [("exact", True, "highest"), ("auto", True, "highest"), ("fast", False, "highest"), (True, True, "highest")],
)
def test_on_a_cpu_float32_is_float32(new_run, dataset_dir, choice: object, deterministic: bool, matmul: str) -> None:
    run_dir = new_run(deterministic=choice)
    spec = read_run_spec(run_dir, read_config_file(run_dir))
    found = choose_algorithms(spec, read_index(dataset_dir), CPU, None, cpu_threads=1)
    assert (found.deterministic, found.warning) == (deterministic, None)
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert torch.get_float32_matmul_precision() == matmul


@pytest.mark.parametrize(("tf32", "matmul"), [(True, "high"), (False, "highest")])
def test_tf32_is_a_switch_of_matrix_products(tf32: bool, matmul: str) -> None:
    prepare_backend(deterministic=True, cpu_threads=1, tf32=tf32)
    assert torch.get_float32_matmul_precision() == matmul
    assert torch.backends.cuda.matmul.allow_tf32 is tf32
