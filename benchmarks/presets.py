"""Train the presets of each task as a user gets them by their button, and say how good each becomes and what it costs.

Draws scenes once, with a label of the image, boxes, masks and outlines, and trains the default network of each task on
them with the values of its presets (or --model), from scratch, in one thread and without loader processes. The weights
are validated once, after the last epoch. Minutes are processor minutes of training, without validation and saving:
other work on the machine does not count. Prints a row for each run and, as its last line, one JSON object.

    python benchmarks/presets.py --quick
    python benchmarks/presets.py --task detection --seeds 0 1
    python benchmarks/presets.py --task classification --presets quick best --candidates
    python benchmarks/presets.py --task detection --presets best --candidates --epochs 30
    python benchmarks/presets.py --task detection --presets best --try mosaic mosaic=0.5 mosaic_close_epochs=10

Candidates are a preset with other values: with `--candidates` those of the table below, which take about as long as the
preset, for detection also the fields of its recipe one by one; with `--try NAME FIELD=JSON ...` any.
"""

import argparse
import contextlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import JsonValue

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from trainingapp.contract.config import config_fields, parse_config  # noqa: E402
from trainingapp.contract.dataset_index import Box, Sample, Split, write_index  # noqa: E402
from trainingapp.contract.evaluation import Evaluation  # noqa: E402
from trainingapp.contract.events import EVENTS_FILE, EventLog  # noqa: E402
from trainingapp.contract.preset_values import preset_values  # noqa: E402
from trainingapp.contract.run_directory import RunSpec  # noqa: E402
from trainingapp.contract.run_lengths import encoded, write_outlines  # noqa: E402
from trainingapp.datasets.scenes import CLASSES, Scene, draw_scene  # noqa: E402
from trainingapp.engine import loop  # noqa: E402
from trainingapp.engine.control import Control  # noqa: E402

SIDE = 96
METRIC = {
    "detection": ("ap", "ap50"),
    "classification": ("top1", "macro_f1"),
    "segmentation": ("mean_iou", "dice"),
    "instances": ("ap", "ap50"),
}
"""The metric that selects models by default, and a second one."""

PRESETS = ("quick", "balanced", "best")
Values = dict[str, JsonValue]

FULL_SIZE: Values = {"image_size": SIDE}
CANDIDATES: dict[str, dict[str, dict[str, Values]]] = {
    "detection": {
        "quick": {"64 px, 11 epochs": {"image_size": 64, "epochs": 11}, "96 px, 8 epochs": FULL_SIZE | {"epochs": 8}},
        "best": {
            "light": {"augmentation": "light"},
            "medium": {"augmentation": "medium"},
            "mosaic": {"augmentation": "light", "mosaic": 0.5},
            "mosaic, closed": {"augmentation": "light", "mosaic": 0.5, "mosaic_close_epochs": 10},
            "copy-paste": {"augmentation": "light", "copy_paste": 0.5},
            "multi-scale": {"augmentation": "light", "multi_scale": 0.34},
            "cosine": {"augmentation": "light", "scheduler": "cosine", "warmup_epochs": 3.0},
            "cosine, momentum": {
                "augmentation": "light",
                "scheduler": "cosine",
                "warmup_epochs": 3.0,
                "warmup_momentum": 0.8,
            },
        },
    },
    "classification": {
        "quick": {
            "float32, 5 epochs": {"epochs": 5},
            "one-cycle, 10 epochs": {"epochs": 10, "amp": "on", "scheduler": "one-cycle", "learning_rate": 0.002},
        },
        "best": {name: {"augmentation": name} for name in ("light", "medium", "strong")},
    },
    "segmentation": {
        "quick": {"64 px, 6 epochs": {"image_size": 64, "epochs": 6}, "96 px, 3 epochs": FULL_SIZE | {"epochs": 3}},
        "best": {name: {"augmentation": name} for name in ("light", "medium")},
    },
    "instances": {
        "quick": {"64 px, 8 epochs": {"image_size": 64, "epochs": 8}, "96 px, 4 epochs": FULL_SIZE | {"epochs": 4}},
        "best": {name: {"augmentation": name} for name in ("light", "medium")},
    },
}
"""By task and preset. Presets without an entry have no candidates."""

MACHINE: Values = {
    "device": "cpu",
    "cpu_threads": 1,
    "num_workers": 0,
    "checkpoint_every_epochs": 1000,  # saving is not measured
    "autosave_minutes": 0,
}


@dataclass(frozen=True)
class Measured:
    """What a preset, or a candidate, became with one seed."""

    task: str
    name: str
    seed: int
    epochs: int
    minutes: float
    values: dict[str, float]


def main() -> None:
    arguments = _arguments()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        data = arguments.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="presets-")))
        train, val = arguments.images, arguments.val
        found = []
        for task in arguments.task:
            folder = data / f"{task}-{train}-{val}"
            if not (folder / "dataset.json").exists():
                make_dataset(folder, task, train, val)
            first, second = METRIC[task]
            print(
                f"{task:15} {'preset':24} {'seed':>4} {'epochs':>6} {'minutes':>7} {first:>8} {second:>8}", flush=True
            )
            for name, values in _chosen(task, arguments):
                for seed in arguments.seeds:
                    one = measured(task, name, seed, folder, values)
                    found.append(one)
                    shown = " ".join(f"{one.values[metric]:8.4f}" for metric in METRIC[task])
                    print(f"{'':15} {name:24} {seed:4} {one.epochs:6} {one.minutes:7.2f} {shown}", flush=True)
    figures: dict[str, dict[str, Any]] = {}
    for one in found:
        figures.setdefault(one.task, {}).setdefault(one.name, []).append(
            {"seed": one.seed, "epochs": one.epochs, "cpu_minutes": round(one.minutes, 3)}
            | {name: round(value, 4) for name, value in one.values.items()}
        )
    print(json.dumps({"benchmark": "presets", "quick": arguments.quick, "images": arguments.images, "tasks": figures}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="80 images, at most two epochs: shows that it works")
    parser.add_argument("--task", nargs="+", choices=list(METRIC), default=list(METRIC))
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--model", default="", help="network; default: that of a new run")
    parser.add_argument("--images", type=int, default=600, help="images to train on (%(default)s)")
    parser.add_argument("--val", type=int, default=300, help="images to validate on (%(default)s)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--data", type=Path, help="folder that keeps the images drawn")
    parser.add_argument("--epochs", type=int, default=0, help="instead of those of presets and candidates")
    parser.add_argument("--candidates", action="store_true", help="train those of the table in this file instead")
    parser.add_argument("--try", nargs="+", action="append", default=[], dest="tries", metavar="NAME FIELD=JSON")
    found = parser.parse_args()
    if found.quick:
        found.images, found.val = 80, 40
    return found


def _chosen(task: str, arguments: argparse.Namespace) -> Iterator[tuple[str, Values]]:
    """The presets, or the candidates where there are any, with their values."""
    model = arguments.model or str(config_fields(task)["model"].default)
    presets = preset_values(task, model)
    rows = {name: presets[name] for name in arguments.presets}
    if arguments.candidates:
        tables = {preset: CANDIDATES[task].get(preset, {}) for preset in arguments.presets}
        rows = {
            f"{preset}: {name}": presets[preset] | own
            for preset, table in tables.items()
            for name, own in table.items()
        }
    if arguments.tries:
        base = presets[arguments.presets[-1]]
        rows = {name: base | _parsed(task, pairs) for name, *pairs in arguments.tries}
    for name, values in rows.items():
        epochs = min(2, int(str(values["epochs"]))) if arguments.quick else arguments.epochs or values["epochs"]
        short: Values = {"warmup_epochs": 0.0} if arguments.quick else {}
        yield name, {"model": model, **values, "epochs": epochs, **short}


def _parsed(task: str, pairs: list[str]) -> Values:
    fields = config_fields(task)
    values: Values = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        values[name] = value if fields[name].kind in ("choice", "text") else json.loads(value)
    return values


def make_dataset(folder: Path, task: str, train: int, val: int) -> None:
    """Scenes as a dataset folder of the engine, the same for every task."""
    splits: list[Split] = ["train"] * train + ["val"] * val
    (folder / "images").mkdir(parents=True)
    samples = []
    for number, split in enumerate(splits):
        scene = draw_scene(np.random.default_rng([0, number + 1]), number % len(CLASSES), SIDE)
        samples.append(_sample(folder, task, f"{number:05d}", split, scene))
    write_index(folder, name="Scenes", tasks=[task], classes=CLASSES, fingerprint="0" * 64, samples=samples)


def _sample(folder: Path, task: str, stem: str, split: Split, scene: Scene) -> Sample:
    path = f"images/{stem}.jpg"
    Image.fromarray(scene.image_HWC).save(folder / path, quality=92)
    if task == "classification":
        return Sample(path, scene.label, split, SIDE, SIDE)
    if task == "segmentation":
        classes_HW = np.zeros((SIDE, SIDE), dtype=np.uint8)
        for label, mask_HW in zip(scene.labels, scene.masks_NHW, strict=True):
            classes_HW[mask_HW] = label + 1
        Image.fromarray(classes_HW).save(folder / f"images/{stem}.png")
        return Sample(path, -1, split, SIDE, SIDE, mask=f"images/{stem}.png")
    boxes = tuple(Box(label, *box) for label, box in zip(scene.labels, scene.boxes_xyxy.tolist(), strict=True))
    outlines = f"images/{stem}.json" if task == "instances" else ""
    if outlines:
        write_outlines(folder / outlines, SIDE, SIDE, [encoded(mask, SIDE, SIDE) for mask in scene.masks_NHW])
    return Sample(path, -1, split, SIDE, SIDE, boxes=boxes, outlines=outlines)


def measured(task: str, name: str, seed: int, dataset_dir: Path, values: Values) -> Measured:
    """Train, and give the metrics after the last epoch and the processor minutes of training."""
    config = parse_config({"task": task, **values, **MACHINE, "seed": seed})
    with tempfile.TemporaryDirectory(prefix="presets-run-") as folder, _validated_once() as result:
        run_dir = Path(folder)
        spec = RunSpec(run_dir, config, dataset_dir, run_dir / "weights", attempt=1)
        events = EventLog(run_dir / EVENTS_FILE, 1)
        try:
            loop.train(spec, Control(), events)
        finally:
            events.close()
    return Measured(task, name, seed, config.epochs, result.minutes, {m: result.values[m] for m in METRIC[task]})


@dataclass
class _Result:
    minutes: float = 0.0
    values: dict[str, float] = field(default_factory=dict)


@contextlib.contextmanager
def _validated_once() -> Iterator[_Result]:
    """A trainer that validates after the last epoch only, with the processor minutes from its first step until then."""
    evaluate, begin = loop.evaluate_split, loop._begin_epoch
    result, began = _Result(), [0.0]

    def begun(state: Any) -> Any:
        began[0] = began[0] or time.process_time()
        return begin(state)

    def evaluated(state: Any, *arguments: Any) -> Any:
        if state.epoch < state.config.epochs:
            return Evaluation({state.config.best_metric: 0.0}, "loss", score_higher_is_better=False)
        result.minutes = (time.process_time() - began[0]) / 60
        found = evaluate(state, *arguments)
        result.values = found.values
        return found

    loop.evaluate_split, loop._begin_epoch = evaluated, begun
    try:
        yield result
    finally:
        loop.evaluate_split, loop._begin_epoch = evaluate, begin


if __name__ == "__main__":
    main()
