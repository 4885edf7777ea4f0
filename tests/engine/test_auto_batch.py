"""The batch size that a run finds by itself."""

import pytest
import torch

from tests.helpers.trainers import EndAfter, change_order, events_of, newest_content, train_here
from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.engine.autobatch import find_batch_size
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
