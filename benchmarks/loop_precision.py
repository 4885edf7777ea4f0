"""What `loop.py` shows about bfloat16: whether the same training reaches the same accuracy."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 4
SIDE = 64
#: Training and validation images: so noisy that a network does not get all of them right.
COUNTS = {"train": 512, "val": 512}
NOISE = 90.0
EPOCHS = 6


def accuracies(folder: Path, values: Mapping[str, Any], seeds: int) -> dict[str, float]:
    """Train with each seed in float32 and in bfloat16; the mean of the validation accuracies after equal epochs."""
    write_shapes(folder / "shapes")
    found: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for seed in range(seeds):
        for name, amp in (("fp32", "off"), ("bf16", "on")):
            config = {**values, "seed": seed, "amp": amp, "epochs": EPOCHS, "scheduler": "one-cycle"}
            found[name].append(_accuracy(folder / f"{name}_{seed}", folder / "shapes", config))
    print(f"\n{'accuracy':<16}{'mean':>8}   after {EPOCHS} epochs, of each seed")
    for name, values_of in found.items():
        print(f"{name:<16}{statistics.mean(values_of):>8.3f}   " + "  ".join(f"{value:.3f}" for value in values_of))
    return {f"{name}_accuracy": round(statistics.mean(values_of), 4) for name, values_of in found.items()}


def _accuracy(run_dir: Path, dataset: Path, config: Mapping[str, Any]) -> float:
    from trainingapp.contract.events import Metrics, read_events

    run_dir.mkdir()
    order = {"config": config, "dataset_dir": str(dataset), "attempt": 1, "weights_cache_dir": ""}
    (run_dir / "config.json").write_text(json.dumps(order))
    command = [sys.executable, "-m", "trainingapp.engine", str(run_dir), "--no-control"]
    with (run_dir / "trainer.log").open("wb") as log:
        subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=True, env=dict(os.environ))
    points = [event for event, _ in read_events(run_dir / "events.jsonl", 0) if isinstance(event, Metrics)]
    return [float(point.values["top1"]) for point in points if point.split == "val"][-1]


def write_shapes(folder: Path) -> None:
    """Gray disks, rings, squares and crosses under noise, each of any size, brightness and place."""
    import numpy as np
    from PIL import Image

    from trainingapp.contract.dataset_index import Sample, Split, write_index

    generator, samples = np.random.default_rng(0), []
    splits: list[Split] = ["train", "val"]
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for split in splits:
        for number in range(COUNTS[split]):
            label = number % CLASSES
            radius = generator.uniform(10, 24)
            y, x = generator.uniform(radius, SIDE - radius, 2)
            down, right = np.abs(rows - y), np.abs(columns - x)
            far = np.hypot(down, right)
            inside = (
                far < radius,
                (far < radius) & (far > 0.6 * radius),
                np.maximum(down, right) < 0.8 * radius,
                (np.minimum(down, right) < 0.3 * radius) & (np.maximum(down, right) < radius),
            )[label]
            image = 100 + inside[..., None] * generator.uniform(30, 60) + generator.normal(0, NOISE, (SIDE, SIDE, 3))
            path = Path("images") / split / f"{number:05}.png"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / path)
            samples.append(Sample(path.as_posix(), label, split, SIDE, SIDE))
    names = ["disk", "ring", "square", "cross"]
    write_index(folder, name="s", tasks=["classification"], classes=names, fingerprint="1" * 64, samples=samples)
