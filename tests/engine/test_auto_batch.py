"""The batch size that a run finds by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.test_detection import boxes_dir  # noqa: F401 - a fixture
from tests.engine.test_instances import outlined_dir  # noqa: F401 - a fixture
from tests.helpers.images import make_run_dir
from tests.helpers.trainers import EndAfter, change_order, events_of, newest_content, train_here
from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.engine import autobatch
from trainingapp.engine.autobatch import find_batch_size
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.determinism import Algorithms
from trainingapp.engine.device import Precision

CPU = Precision(torch.device("cpu"), None)


@pytest.mark.long
def test_sizes_double_and_the_last_is_the_fastest(new_run, dataset_dir) -> None:
    run_dir = new_run(auto_batch_size=True)
    spec = read_run_spec(run_dir, read_config_file(run_dir))
    trials = find_batch_size(spec, read_index(dataset_dir), CPU, Algorithms(deterministic=True), cpu_threads=1)
    sizes = [trial.batch_size for trial in trials]
    assert sizes == [2, 4, 8][: len(sizes)]  # at most a quarter of 44 images
    assert sorted(trials, key=lambda trial: trial.images_per_s) == trials


@pytest.mark.parametrize(("task", "model"), [("detection", "pan_n"), ("instances", "maskrcnn_resnet18_fpn")])
def test_the_search_trains_with_the_largest_images(
    task: str, model: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 32, 64 and 96 pixels: what fits must fit in each step."""
    folder = request.getfixturevalue({"detection": "boxes_dir", "instances": "outlined_dir"}[task])
    config = {"task": task, "model": model, "image_size": 64, "multi_scale": 0.5, "augmentation": "none"}
    run_dir = make_run_dir(tmp_path / "run", folder, auto_batch_size=True, **config)
    sides: list[int] = []
    step = autobatch.training_step

    def seen(state: Any, batches: Iterator[TensorBatch], *rest: Any) -> Any:
        batch: Any = next(batches)
        sides.append(batch.images_NCHW.shape[-1])
        return step(state, iter([batch]), *rest)

    monkeypatch.setattr(autobatch, "training_step", seen)
    monkeypatch.setattr(autobatch, "TIMED_STEPS", 1)
    spec = read_run_spec(run_dir, read_config_file(run_dir))
    trials = find_batch_size(spec, read_index(folder), CPU, Algorithms(deterministic=True), cpu_threads=1)
    assert trials
    assert set(sides) == {96}


def test_a_resumed_run_keeps_the_size_that_was_chosen(new_run) -> None:
    run_dir = new_run(auto_batch_size=True, epochs=1, batch_size=32)
    assert train_here(run_dir, EndAfter(2)) == "paused"
    chosen = newest_content(run_dir)["config"]["batch_size"]
    assert chosen <= 8
    change_order(run_dir)
    assert train_here(run_dir) == "completed"
    assert newest_content(run_dir)["config"]["batch_size"] == chosen
    said = [event["message"] for event in events_of(run_dir, "log") if "was chosen" in event["message"]]
    assert len(said) == 1
    assert f"batch_size {chosen} was chosen" in said[0]
