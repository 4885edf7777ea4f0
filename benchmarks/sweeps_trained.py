"""What samplers and pruners find with equal epochs where each trial is really trained, by the loop of the engine.

A network of two convolutions learns the direction of noisy stripes that were drawn for this, on one thread. Training is
deterministic: a trial is a function of its values. Nothing is kept from one search to the next, and a trial that is
pruned trains no epoch more, as in the studio. No database and no worker take part.
"""

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import nn

from trainingapp.contract.config import parse_config
from trainingapp.contract.dataset_index import Sample, Split, write_index
from trainingapp.contract.events import EVENTS_FILE, Event, EventLog, Metrics
from trainingapp.contract.run_directory import RunSpec
from trainingapp.engine.control import Control, Ending
from trainingapp.engine.loop import train
from trainingapp.models.sweep import Pruner, Sampler, TrialState
from trainingapp.runs.sweeps.pruning import Pruning, is_hopeless
from trainingapp.runs.sweeps.sampling import Search, TrialRow, propose
from trainingapp.runs.sweeps.space import Choice, Range, SearchSpace, checked_space

EPOCHS = 9
METRIC = "top1"
DIRECTIONS, SIZE = 6, 32
#: Images of each direction. Many for validation, so that two trials rarely have the same result.
IMAGES: dict[Split, int] = {"train": 32, "val": 80}
#: Standard deviation of the noise; stripes have an amplitude of 1.
NOISE = 3.0
BASE = parse_config(
    {
        "model": "mobilenet_v3_small",
        "image_size": SIZE,
        "pretrained": False,
        "augmentation": "none",
        "epochs": EPOCHS,
        "warmup_epochs": 0,
        "batch_size": 32,
        "best_metric": METRIC,
        "log_every_steps": 1000,
        "device": "cpu",
        "cpu_threads": 1,
        "num_workers": 0,
        "amp": "off",
        "deterministic": "exact",
        "autosave_minutes": 0,
        "checkpoint_format": "plain",
        "keep_checkpoints": 2,
    }
).model_dump(mode="json")
SPACE = checked_space(
    SearchSpace(
        dimensions=(
            Range(field="learning_rate", low=1e-5, high=1.0, log=True),
            Range(field="weight_decay", low=1e-5, high=1.0, log=True),
            Range(field="label_smoothing", low=0, high=0.3),
            Range(field="dropout_rate", low=0, high=0.8),
            Choice(field="optimizer", values=("SGD", "AdamW")),
            Range(field="momentum", low=0.5, high=0.98),
        )
    ),
    BASE,
)

#: Told the epoch and what was measured after it; returns whether the trial is to end.
Judge = Callable[[int, float], bool]


class SmallNetwork(nn.Module):
    """In the place of torchvision's: it would take minutes for what is asked here."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 8, 5, stride=2, padding=2), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
            nn.AdaptiveAvgPool2d(2),
        )
        self.fc = nn.Linear(64, 1000)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        logits_NC: torch.Tensor = self.fc(self.body(images_NCHW).flatten(1))
        return logits_NC


class Judged(EventLog, Control):
    """Events of a run, which end it where the judge of its validations says so."""

    def __init__(self, path: Path, judge: Judge) -> None:
        EventLog.__init__(self, path, 1)
        Control.__init__(self)
        self._judge, self._is_over = judge, False

    def write(self, event: Event, *, epoch: int | None = None, step: int | None = None) -> None:
        super().write(event, epoch=epoch, step=step)
        if isinstance(event, Metrics) and event.split == "val":
            self._is_over = self._judge(event.epoch or 0, float(event.values[METRIC]))

    def ending(self) -> Ending | None:
        return "stop" if self._is_over else None


def draw(folder: Path) -> None:
    """A dataset of stripes in DIRECTIONS directions, with noise."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    samples = []
    for split, count in IMAGES.items():
        for index in range(count * DIRECTIONS):
            label = index % DIRECTIONS
            angle, phase = np.pi * label / DIRECTIONS, random.uniform(0, 2 * np.pi)
            wave = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) * 0.9 + phase)
            noisy = wave[..., None] + NOISE * random.standard_normal((SIZE, SIZE, 3))
            path = Path("images") / split / f"{index:04}.png"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((128 + 24 * noisy).clip(0, 255).astype(np.uint8)).save(folder / path)
            samples.append(Sample(path=str(path), label=label, split=split, width=SIZE, height=SIZE))
    classes = [f"direction {number}" for number in range(DIRECTIONS)]
    write_index(
        folder, name="stripes", tasks=["classification"], classes=classes, fingerprint="0" * 64, samples=samples
    )


def train_trial(dataset: Path, params: dict[str, Any], judge: Judge) -> None:
    """Train one trial until its end, or until the judge ends it."""
    with TemporaryDirectory(prefix="cvstudio-bench-") as name:
        folder = Path(name)
        spec = RunSpec(folder, parse_config({**BASE, **params}), dataset, folder / "torch", attempt=1)
        events = Judged(folder / EVENTS_FILE, judge)
        try:
            with patch("torchvision.models.get_model", lambda _name, **_options: SmallNetwork()):
                train(spec, events, events)
        finally:
            events.close()


def best_trained(dataset: Path, sampler: str, pruner: str, seed: int, budget: int) -> tuple[float, int]:
    """The best result, and the trials, of one trial after the other until the epochs are used up."""
    rows: list[TrialRow] = []
    search = Search(SPACE, BASE, sampler, seed, higher_is_better=True)
    pruning = Pruning.of(pruner, BASE, higher_is_better=True)
    used = 0
    while used + EPOCHS <= budget:
        row = TrialRow(len(rows), propose(rows, search, len(rows)) or {}, TrialState.RUNNING)

        def judge(epoch: int, value: float) -> bool:
            nonlocal row
            row = replace(row, curve={**row.curve, epoch: value})
            if is_hopeless(row, rows, pruning):
                row = replace(row, state=TrialState.PRUNED)
                return True
            row = replace(row, judged_epoch=epoch)
            return False

        train_trial(dataset, dict(row.params), judge)
        if row.state == TrialState.RUNNING:
            row = replace(row, state=TrialState.COMPLETED)
        rows.append(replace(row, value=max(row.curve.values())))
        used += len(row.curve)
    return max(row.value or 0.0 for row in rows), len(rows)


def trained_quality(seeds: int, trials: int) -> dict[str, Any]:
    """Print the best results of random search and of TPE with a pruner, with equal epochs; give the medians."""
    found: dict[str, float] = {}
    print(f"{'really trained':22}{'trials':>8}{'median best':>13}{'worst best':>12}", flush=True)
    with TemporaryDirectory(prefix="cvstudio-bench-") as name:
        draw(Path(name))
        for sampler, pruner in ((Sampler.RANDOM, Pruner.NONE), (Sampler.TPE, Pruner.MEDIAN)):
            results = [best_trained(Path(name), sampler, pruner, seed, trials * EPOCHS) for seed in range(seeds)]
            best = [value for value, _count in results]
            count = statistics.mean(count for _value, count in results)
            label = f"{sampler} {pruner}"
            print(f"{label:22}{count:8.0f}{statistics.median(best):13.4f}{min(best):12.4f}", flush=True)
            found[label] = round(statistics.median(best), 4)
    ratio = found[f"{Sampler.TPE} {Pruner.MEDIAN}"] / found[f"{Sampler.RANDOM} {Pruner.NONE}"]
    return {"best_trained": found, "ratio_trained": round(ratio, 4)}
