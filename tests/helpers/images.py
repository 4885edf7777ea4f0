"""Tiny datasets and runs for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainingapp.contract.dataset_index import Sample, Split, write_index

COLOURS = [(220, 40, 40), (40, 200, 60), (50, 70, 230), (230, 220, 40), (200, 60, 220)]


def make_dataset(
    folder: Path, *, classes: int = 3, train_per_class: int = 8, val_per_class: int = 4, size: int = 32
) -> Path:
    """Create a ready dataset folder: images of colored noise, one color per class, easy to distinguish."""
    generator = np.random.default_rng(0)
    names = [f"class_{number}" for number in range(classes)]
    samples = []
    counts: list[tuple[Split, int]] = [("train", train_per_class), ("val", val_per_class)]
    for split, count in counts:
        for label, name in enumerate(names):
            for number in range(count):
                path = f"images/{split}/{name}/{number:04}.png"
                _draw(folder / path, COLOURS[label % len(COLOURS)], size, generator)
                samples.append(Sample(path, label, split, size, size))
    write_index(folder, name="tiny", tasks=["classification"], classes=names, fingerprint="0" * 64, samples=samples)
    return folder


def make_run_dir(folder: Path, dataset_dir: Path, *, attempt: int = 1, **config: Any) -> Path:
    """Create RUN_DIR with a config.json of a small model, as written by the supervisor."""
    values = {
        "model": "mobilenet_v3_small",
        "image_size": 32,
        "batch_size": 8,
        "epochs": 2,
        "warmup_epochs": 0,
        "cpu_threads": 1,
        "log_every_steps": 1,
        "device": "cpu",
        **config,
    }
    order = {"config": values, "dataset_dir": str(dataset_dir), "attempt": attempt}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**order, "weights_cache_dir": str(folder / "torch")}))
    return folder


def _draw(path: Path, colour: tuple[int, int, int], size: int, generator: np.random.Generator) -> None:
    noise = generator.integers(-60, 60, (size, size, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)
