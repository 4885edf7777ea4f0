"""Ranks on other hosts: children of the worker there, which meet the trainer at the address that it announces."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.trainers import DEADLINE_S, Trainer, last_status
from trainingapp.contract.commands import Meeting
from trainingapp.contract.run_directory import EXIT_PEER_LOST

CONFIG: dict[str, Any] = {"epochs": 1, "batch_size": 4, "accumulation_steps": 2, "autosave_minutes": 0}

pytestmark = pytest.mark.long


@pytest.fixture
def trainer(new_run: Callable[..., Path], start: Callable[..., Trainer]) -> Trainer:
    """Rank 0 of a run on the hosts barn and shed."""
    run_dir = new_run("run", **CONFIG)
    write_config(run_dir, config_of(run_dir) | {"devices": ["cpu", "cpu"], "hosts": ["barn", "shed"]})
    return start(run_dir)


def config_of(run_dir: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run_dir / "config.json").read_text())
    return values


def write_config(run_dir: Path, values: dict[str, Any]) -> None:
    run_dir.mkdir(exist_ok=True)
    (run_dir / "config.json").write_text(json.dumps(values))


def run_rank_1(run_dir: Path, trainer: Trainer) -> int:
    """The exit status of the rank on the other host, where the folder of the run is this one."""
    address, _colon, port = trainer.wait_for(lambda event: event["type"] == "listening")["address"].rpartition(":")
    command = [sys.executable, "-m", "trainingapp.engine", str(run_dir), "--rank", "1", "--parent", str(os.getpid())]
    line = json.dumps(asdict(Meeting(address, int(port), "lo"))) + "\n"
    return subprocess.run(command, input=line, text=True, timeout=DEADLINE_S, check=False).returncode


def test_its_error_is_that_of_the_run(trainer: Trainer, tmp_path: Path) -> None:
    """The data folder there is another one, without the dataset."""
    values, there = config_of(trainer.run_dir), tmp_path / "there"
    write_config(there, values | {"dataset_dir": str(there / "nowhere")})
    assert run_rank_1(there, trainer) == 1
    assert trainer.wait() == 1, trainer.log()
    failed = last_status(trainer.run_dir)
    assert (failed["state"], failed["error_class"]) == ("failed", "bad_data")
    assert "nowhere" in failed["message"]


def test_it_leaves_where_the_run_has_a_later_attempt(trainer: Trainer, tmp_path: Path) -> None:
    values, there = config_of(trainer.run_dir), tmp_path / "there"
    write_config(there, values | {"attempt": values["attempt"] + 1})
    assert run_rank_1(there, trainer) == EXIT_PEER_LOST
