"""Runs of the engine: in this process for tests that need many, or as a trainer process for tests of the process."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.images import make_dataset, make_run_dir
from trainingapp.contract.commands import Request
from trainingapp.contract.events import EVENTS_FILE, Ended, EventLog, read_events
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.engine.checkpoint import load_checkpoint
from trainingapp.engine.control import Control, Ending
from trainingapp.engine.loop import train

DEADLINE_S = 120.0

#: 44 images give six steps per epoch, the last one with a smaller batch; all random features are enabled.
HARD = {"epochs": 3, "augmentation": "strong", "dropout_rate": 0.3, "warmup_epochs": 1, "autosave_minutes": 0}


class EndAfter(Control):
    """Requests the end at the nth poll between two steps: a command at an exact position."""

    def __init__(self, looks: int, ending: Ending = "pause") -> None:
        super().__init__()
        self._looks_left = looks
        self._wish: Ending = ending

    def ending(self) -> Ending | None:
        self._looks_left -= 1
        return self._wish if self._looks_left < 0 else super().ending()


class Ask(Control):
    """Sends requests at exact polls between two steps: {poll: request}; may request an end at one, too."""

    def __init__(self, asked: dict[int, Request], end_at: int | None = None) -> None:
        super().__init__()
        self._asked, self._end_at, self._look = asked, end_at, -1

    def ending(self) -> Ending | None:
        return "pause" if self._end_at is not None and self._look >= self._end_at else super().ending()

    def take_requests(self) -> list[Request]:
        self._look += 1
        if self._look in self._asked:
            self.request(self._asked[self._look])
        return super().take_requests()


def train_here(run_dir: Path, control: Control | None = None) -> str:
    """Run one attempt in this process. Returns its outcome and propagates its exceptions."""
    values = read_config_file(run_dir)
    events = EventLog(run_dir / EVENTS_FILE, values["attempt"])
    try:
        ended = train(read_run_spec(run_dir, values), control or Control(), events)
        events.write(Ended(state=ended))
    finally:
        events.close()
    return ended


def change_order(run_dir: Path, *, attempt: int | None = None, **config: Any) -> None:
    """Update config.json like the supervisor before the next attempt."""
    path = run_dir / "config.json"
    values = json.loads(path.read_text())
    values["attempt"] = attempt if attempt is not None else values["attempt"] + 1
    values["config"].update(config)
    path.write_text(json.dumps(values))


def events_of(run_dir: Path, type_: str | None = None) -> list[dict[str, Any]]:
    found = [event.as_data() for event, _ in read_events(run_dir / EVENTS_FILE, 0, 1 << 30)]
    return [event for event in found if type_ in (None, event["type"])]


def last_status(run_dir: Path) -> dict[str, Any]:
    return events_of(run_dir, "status")[-1]


def index_of(run_dir: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((run_dir / "checkpoints" / "index.json").read_text())
    return entries


def newest_content(run_dir: Path) -> dict[str, Any]:
    return load_checkpoint(run_dir / "checkpoints" / index_of(run_dir)[-1]["file"])


def curves(run_dir: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """All metric points of a run, without superseded points and speeds."""
    points: dict[tuple[str, int], dict[str, Any]] = {}
    for event in events_of(run_dir):
        if event["type"] == "status" and event["state"] == "started":
            points = {place: values for place, values in points.items() if place[1] <= event["step"]}
        if event["type"] == "metrics":
            values = {name: value for name, value in event["values"].items() if name != "images_per_s"}
            points[event["split"], event["step"]] = values
    return points


def assert_bit_equal(one: Any, other: Any, where: str = "") -> None:
    """Assert that all tensors and values are identical bit by bit."""
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_bit_equal(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_bit_equal(*pair, f"{where}/{number}")
    else:
        assert one == other, where


def assert_same_result(run_dir: Path, reference: Path, *, added: frozenset[str] = frozenset()) -> None:
    """Assert that weights, optimizer, metrics, generators and curves of two runs are equal.

    `added` are the entries that checkpoints of the reference do not have, as it was trained by an older version."""
    one, other = newest_content(run_dir), newest_content(reference)
    assert added <= one.keys() - other.keys()
    differing = {"timestamp", "elapsed_s", "attempt", "config"} | added
    assert_bit_equal(
        {k: v for k, v in one.items() if k not in differing}, {k: other[k] for k in one.keys() - differing}
    )
    assert curves(run_dir) == curves(reference)


#: A trainer waits for another one as long as a test does, since that one may take longer on a busy machine.
PATIENT = f"""
import functools, os, sys
from trainingapp.engine import __main__ as trainer
trainer.run_lock = functools.partial(trainer.run_lock, wait_s={DEADLINE_S}, exit_s={DEADLINE_S})
os._exit(trainer.main())
"""


class Trainer:
    """A trainer process, controlled through its standard input and observed through its event file."""

    def __init__(self, run_dir: Path, *arguments: str, spare: bool = False, is_patient: bool = False) -> None:
        self.run_dir = run_dir
        command = [sys.executable, *(["-c", PATIENT] if is_patient else ["-m", "trainingapp.engine"])]
        command += ["--spare"] if spare else [str(run_dir), *arguments]
        self._log = (run_dir / "trainer.log").open("ab")
        output = subprocess.PIPE if spare else self._log
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=self._log)
        if spare:
            assert self.process.stdout
            assert self.process.stdout.readline() == b"ready\n", self.log()
            self.send(run_dir=str(run_dir), log_file=str(run_dir / "trainer.log"))

    def send(self, **message: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def close_input(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for the first event for which `condition` is true."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            for event in events_of(self.run_dir):
                if condition(event):
                    return event
            assert self.process.poll() is None, f"The trainer has ended.\n{self.log()}"
            time.sleep(0.005)
        raise AssertionError(f"Nothing such happened.\n{self.log()}")

    def wait(self) -> int:
        return self.process.wait(DEADLINE_S)

    def log(self) -> str:
        return (self.run_dir / "trainer.log").read_text()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self._log):
            if pipe:
                pipe.close()


@pytest.fixture(scope="session")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two classes with 44 images for training and 12 for validation."""
    folder = tmp_path_factory.mktemp("dataset")
    return make_dataset(folder, classes=2, train_per_class=22, val_per_class=6)


@pytest.fixture
def new_run(tmp_path: Path, dataset_dir: Path) -> Callable[..., Path]:
    """Creates RUN_DIRs: new_run(name, **config)."""

    def make(name: str = "run", **config: Any) -> Path:
        return make_run_dir(tmp_path / name, config.pop("dataset_dir", dataset_dir), **config)

    return make


@pytest.fixture(scope="session")
def straight_run(tmp_path_factory: pytest.TempPathFactory, dataset_dir: Path) -> Path:
    """An uninterrupted reference run that all others must equal. It must not be changed."""
    run_dir = make_run_dir(tmp_path_factory.mktemp("straight"), dataset_dir, **HARD)
    assert train_here(run_dir) == "completed"
    return run_dir


@pytest.fixture
def start() -> Iterator[Callable[..., Trainer]]:
    """Starts trainer processes and ensures that none outlives the test."""
    trainers: list[Trainer] = []

    def begin(run_dir: Path, *arguments: str, **options: Any) -> Trainer:
        trainers.append(Trainer(run_dir, *arguments, **options))
        return trainers[-1]

    yield begin
    for trainer in trainers:
        trainer.end()
