"""A run that starts from a checkpoint of another run."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.images import make_dataset, make_run_dir
from tests.helpers.trainers import HARD, EndAfter, assert_bit_equal, events_of, newest_content, train_here
from trainingapp.contract.errors import WeightsUnavailable


def fork(run_dir: Path, source: Path, **config: Any) -> None:
    path = run_dir / "config.json"
    values = json.loads(path.read_text())
    values["fork_from"] = str(source)
    values["config"].update(config)
    path.write_text(json.dumps(values))


def test_an_unchanged_fork_ends_like_its_origin(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset")
    straight, paused, branch = (make_run_dir(tmp_path / name, dataset, **HARD) for name in ("one", "two", "three"))
    train_here(straight)
    assert train_here(paused, EndAfter(8)) == "paused"
    [source] = list((paused / "checkpoints").glob("step_*.pt"))
    fork(branch, source)
    assert train_here(branch) == "completed"
    one, other = newest_content(straight), newest_content(branch)
    for part in ("model_state_dict", "optimizer_state_dict", "metrics", "rng_state"):
        assert_bit_equal(one[part], other[part], part)
    started = events_of(branch, "status")[0]
    assert (started["resumed_from"], started["step"]) == (source.name, newest_content(paused)["step"])


def test_a_fork_from_a_missing_file_is_refused(tmp_path: Path) -> None:
    run_dir = make_run_dir(tmp_path / "run", make_dataset(tmp_path / "dataset"), **HARD)
    fork(run_dir, tmp_path / "epoch_9.pt")
    with pytest.raises(WeightsUnavailable, match="no longer exists"):
        train_here(run_dir)
