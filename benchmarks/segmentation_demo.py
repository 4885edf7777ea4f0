"""Train segmentation on the demo scenes, from scratch and on the CPU, and show how good it becomes.

Draws the scenes that `manage.py demo` draws, makes masks of classes from their masks of objects, and trains the network
that a new run has by default (or --model) with the settings that suit it. Prints a line for each epoch and, as its last
line, one JSON object.

    python benchmarks/segmentation_demo.py            # about ten minutes on two idle cores
    python benchmarks/segmentation_demo.py --quick    # a minute: shows that it learns, not how far it comes

Minutes are those of the trainer, validation and saving included; cpu_minutes what its threads computed in them, which
tells a busy machine from a slow one.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainingapp.contract.config import parse_config
from trainingapp.contract.dataset_index import Sample, write_index
from trainingapp.contract.events import EVENTS_FILE, Event, EventLog, Metrics, read_events
from trainingapp.contract.run_directory import RunSpec
from trainingapp.datasets.scenes import CLASSES, draw_demo
from trainingapp.engine.control import Control
from trainingapp.engine.loop import train

SCENE_SIDE = 96


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        dataset_dir, run_dir = Path(folder, "dataset"), Path(folder, "run")
        print(f"Drawing {arguments.images} scenes ...", flush=True)
        make_dataset(dataset_dir, arguments.images)
        run_dir.mkdir()
        minutes, cpu_minutes = _train(run_dir, dataset_dir, _config(arguments))
        best = max(_values(run_dir), key=lambda values: values["mean_iou"])
    figures = {"mean_iou": round(best["mean_iou"], 4), "minutes": round(minutes, 2)}
    about = {"benchmark": "segmentation_demo", "quick": arguments.quick, "model": arguments.model}
    print(json.dumps({**figures, "cpu_minutes": round(cpu_minutes, 2), "epochs": arguments.epochs, **about}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="200 scenes, 3 epochs")
    parser.add_argument("--model", default=parse_config({"task": "segmentation"}).model, help="network (%(default)s)")
    parser.add_argument("--images", type=int, help="scenes in all, a fifth of them for validation (2,000)")
    parser.add_argument("--epochs", type=int, help="(8)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (%(default)s)")
    arguments = parser.parse_args()
    arguments.images = arguments.images or (200 if arguments.quick else 2000)
    arguments.epochs = arguments.epochs or (3 if arguments.quick else 8)
    return arguments


def _config(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "task": "segmentation",
        "model": arguments.model,
        "image_size": SCENE_SIDE,
        "epochs": arguments.epochs,
        "device": "cpu",
        "cpu_threads": arguments.threads,
    }


def make_dataset(folder: Path, images: int) -> None:
    """The demo scenes as a dataset folder of the engine, with masks whose pixels hold the class + 1."""
    draw_demo(folder, images=images, seed=0, size=SCENE_SIDE)
    records = json.loads((folder / "annotations.json").read_text())["images"]
    samples = [_sample(folder, record) for record in records]
    write_index(folder, name="Demo", tasks=["segmentation"], classes=CLASSES, fingerprint="demo", samples=samples)


def _sample(folder: Path, record: dict[str, Any]) -> Sample:
    values = np.array([0, *(label + 1 for label in record["labels"])], dtype=np.uint8)
    with Image.open(folder / record["mask"]) as image:
        mask_HW = values[np.asarray(image)]
    Image.fromarray(mask_HW).save(folder / record["mask"])
    split = "val" if record["path"].startswith("images/val/") else "train"
    return Sample(record["path"], -1, split, SCENE_SIDE, SCENE_SIDE, mask=record["mask"])


def _train(run_dir: Path, dataset_dir: Path, config: dict[str, Any]) -> tuple[float, float]:
    """Minutes by the clock and by the processor."""
    spec = RunSpec(run_dir, parse_config(config), dataset_dir, run_dir / "weights", attempt=1)
    events = _Table(run_dir / EVENTS_FILE, 1)
    started, cpu_started = time.monotonic(), _cpu_seconds()
    try:
        train(spec, Control(), events)
    finally:
        events.close()
    return (time.monotonic() - started) / 60, (_cpu_seconds() - cpu_started) / 60


class _Table(EventLog):
    """The event log of the run, which prints each validation as it comes."""

    def write(self, event: Event, *, epoch: int | None = None, step: int | None = None) -> None:
        super().write(event, epoch=epoch, step=step)
        if isinstance(event, Metrics) and event.split == "val":
            values = "  ".join(f"{name} {value:.4f}" for name, value in event.values.items())
            print(f"epoch {self.epoch:3}  step {self.step:5}  {values}  cpu {_cpu_seconds() / 60:.1f} min", flush=True)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _values(run_dir: Path) -> list[dict[str, float]]:
    events = [event for event, _ in read_events(run_dir / EVENTS_FILE, 0, 1 << 30)]
    return [event.values for event in events if isinstance(event, Metrics) and event.split == "val"]


if __name__ == "__main__":
    main()
