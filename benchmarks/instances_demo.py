"""Train instance segmentation on the demo scenes, from scratch and on the CPU, and show how good it becomes.

Draws the scenes that `manage.py demo` draws, with the exact mask of each object, and trains the network that a new run
has by default (or --model) with the settings that suit it. Prints a line for each epoch and, as its last line, one JSON
object. The figures to reach: a mask AP50 over 0.80 in under ten minutes on two cores.

    python benchmarks/instances_demo.py
    python benchmarks/instances_demo.py --quick    # a minute: shows that it learns, not how far it comes

Minutes are those of the trainer, validation and saving included; cpu_minutes what its threads computed in them, which
tells a busy machine from a slow one. cpu_minutes_to_80 are those at the end of the first epoch that reached 0.80.
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
from trainingapp.contract.dataset_index import Box, Sample, write_index
from trainingapp.contract.events import EVENTS_FILE, Event, EventLog, Metrics, read_events
from trainingapp.contract.run_directory import RunSpec
from trainingapp.contract.run_lengths import encoded, write_outlines
from trainingapp.datasets.scenes import CLASSES, draw_demo
from trainingapp.engine.control import Control
from trainingapp.engine.loop import train

SCENE_SIDE = 96
AIM = 0.8


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        dataset_dir, run_dir = Path(folder, "dataset"), Path(folder, "run")
        print(f"Drawing {arguments.images} scenes ...", flush=True)
        make_dataset(dataset_dir, arguments.images)
        run_dir.mkdir()
        table, minutes = _train(run_dir, dataset_dir, _config(arguments))
        last = _values(run_dir)[-1]
    figures = {name: round(last[name], 4) for name in ("ap50", "ap", "box_ap50", "box_ap")}
    figures |= {"minutes": round(minutes, 2), "cpu_minutes": round(table.cpu_minutes, 2)}
    about = {"benchmark": "instances_demo", "quick": arguments.quick, "model": arguments.model}
    print(json.dumps({**figures, "cpu_minutes_to_80": table.reached, "epochs": table.epoch, **about}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="200 scenes, 2 epochs")
    parser.add_argument("--model", default=parse_config({"task": "instances"}).model, help="network (%(default)s)")
    parser.add_argument("--images", type=int, help="scenes in all, a fifth of them for validation (2,000)")
    parser.add_argument("--epochs", type=int, help="default: those of the network")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="of the configuration")
    arguments = parser.parse_args()
    arguments.images = arguments.images or (200 if arguments.quick else 2000)
    arguments.epochs = arguments.epochs or (2 if arguments.quick else None)
    return arguments


def _config(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {"epochs": arguments.epochs} if arguments.epochs else {}
    for pair in arguments.set:
        name, _, value = pair.partition("=")
        given[name] = json.loads(value)
    return {"task": "instances", "model": arguments.model, "device": "cpu", "cpu_threads": arguments.threads, **given}


def make_dataset(folder: Path, images: int) -> None:
    """The demo scenes as a dataset folder of the engine, with boxes and masks of objects."""
    draw_demo(folder, images=images, seed=0, size=SCENE_SIDE)
    records = json.loads((folder / "annotations.json").read_text())["images"]
    samples = [_sample(folder, record) for record in records]
    write_index(folder, name="Demo", tasks=["instances"], classes=CLASSES, fingerprint="demo", samples=samples)


def _sample(folder: Path, record: dict[str, Any]) -> Sample:
    with Image.open(folder / record["mask"]) as image:
        numbers_HW = np.asarray(image)
    counts = [encoded(numbers_HW == place + 1, SCENE_SIDE, SCENE_SIDE) for place in range(len(record["labels"]))]
    outlines = record["mask"].replace(".png", ".json")
    write_outlines(folder / outlines, SCENE_SIDE, SCENE_SIDE, counts)
    boxes = tuple(Box(label, *box) for label, box in zip(record["labels"], record["boxes_xyxy"], strict=True))
    split = "val" if record["path"].startswith("images/val/") else "train"
    return Sample(record["path"], -1, split, SCENE_SIDE, SCENE_SIDE, boxes=boxes, outlines=outlines)


def _train(run_dir: Path, dataset_dir: Path, config: dict[str, Any]) -> "tuple[_Table, float]":
    """The events, and minutes by the clock."""
    spec = RunSpec(run_dir, parse_config(config), dataset_dir, run_dir / "weights", attempt=1)
    events = _Table(run_dir / EVENTS_FILE, 1)
    started = time.monotonic()
    try:
        train(spec, Control(), events)
    finally:
        events.close()
    return events, (time.monotonic() - started) / 60


class _Table(EventLog):
    """The event log of the run, which prints each validation as it comes."""

    began = 0.0
    reached: float | None = None

    @property
    def cpu_minutes(self) -> float:
        """Of the processor, since the log was made."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return (usage.ru_utime + usage.ru_stime) / 60 - self.began

    def write(self, event: Event, *, epoch: int | None = None, step: int | None = None) -> None:
        self.began = self.began or self.cpu_minutes
        super().write(event, epoch=epoch, step=step)
        if isinstance(event, Metrics) and event.split == "val":
            names = ("loss", "ap", "ap50", "ap75", "box_ap", "box_ap50", "f1")
            values = "  ".join(f"{name} {event.values.get(name, float('nan')):.4f}" for name in names)
            minutes = self.cpu_minutes
            print(f"epoch {self.epoch:3}  step {self.step:5}  {values}  cpu {minutes:.1f} min", flush=True)
            if self.reached is None and event.values.get("ap50", 0) >= AIM:
                self.reached = round(minutes, 2)


def _values(run_dir: Path) -> list[dict[str, float]]:
    events = [event for event, _ in read_events(run_dir / EVENTS_FILE, 0, 1 << 30)]
    return [event.values for event in events if isinstance(event, Metrics) and event.split == "val"]


if __name__ == "__main__":
    main()
