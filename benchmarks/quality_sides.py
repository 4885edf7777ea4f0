"""The two sides of `quality.py`, each in a process of its own: `python quality_sides.py SIDE DATA OUT ...`.

Each trains from scratch with the defaults of its own program, for as many epochs as fit into the minutes by the
measured time of an epoch, and writes what it finds in the validation images after each epoch: `OUT/000.npz` has image,
label, score and box of each detection, and the seconds of training until then. Time is that of the processor, in one
thread and without validation: other work on the machine does not change it.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

CONFIDENCE, MOST = 0.001, 100
"""Of both sides: COCO's evaluation counts the best 100 boxes of an image."""


class Clock:
    """Processor time of this process since `start`, without what happens in `excluding`."""

    def __init__(self) -> None:
        self.began = 0.0

    def start(self) -> None:
        self.began = time.process_time()

    @property
    def seconds(self) -> float:
        return time.process_time() - self.began

    def excluding(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Do the work, as if it took no time."""
        before = time.process_time()
        try:
            return work(*arguments, **named)
        finally:
            self.began += time.process_time() - before


class Results:
    """The files of detections, numbered by epoch."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self.seconds = folder, list[float]()

    def write(self, seconds: float, rows: Sequence[Sequence[float]]) -> None:
        """`rows`: image, label, score, left, top, right, bottom; images are numbered in the order of their names."""
        table = np.array(rows, dtype=np.float64).reshape(-1, 7)
        np.savez_compressed(self._folder / f"{len(self.seconds):03d}.npz", rows=table, seconds=seconds)
        self.seconds.append(seconds)
        print(json.dumps({"epoch": len(self.seconds), "seconds": round(seconds, 2)}), flush=True)


def epochs_in(minutes: float, seconds: Sequence[float]) -> int:
    """The epochs that fit, by the time of the last epoch of a short run."""
    return max(2, round(minutes * 60 / max(1e-3, seconds[-1] - seconds[-2])))


def ours(data: Path, out: Path, epochs: int, options: argparse.Namespace) -> list[float]:
    """The studio's trainer with the defaults of a new run."""
    from trainingapp.contract.events import EVENTS_FILE, EventLog
    from trainingapp.contract.run_directory import read_config_file, read_run_spec
    from trainingapp.engine import loop
    from trainingapp.engine.control import Control
    from trainingapp.engine.tasks.detection.metrics import DetectionRecords

    results, clock = Results(out), Clock()
    begin, validate, evaluation = loop._begin_epoch, loop._validate, DetectionRecords.evaluation

    def begun(state: Any) -> Any:
        if not results.seconds and state.step == 0:
            clock.start()
        return begin(state)

    def written(records: Any, classes: list[str]) -> Any:
        rows = [
            [one.index, label, score, *box]
            for one in records.results
            for label, score, box in zip(
                one.labels_D.tolist(), one.scores_D.tolist(), one.boxes_xyxy.tolist(), strict=True
            )
        ]
        results.write(clock.seconds - (time.process_time() - entered[0]), rows)
        return evaluation(records, classes)

    entered = [0.0]

    def validated(*arguments: Any) -> Any:
        entered[0] = time.process_time()
        return clock.excluding(validate, *arguments)

    loop._begin_epoch, loop._validate = begun, validated
    DetectionRecords.evaluation = written  # type: ignore[method-assign]
    size = json.loads((data / "samples.jsonl").read_text().splitlines()[0])["width"]
    config = {
        "task": "detection",
        "image_size": size,
        "epochs": epochs,
        "conf_thres": CONFIDENCE,
        "max_det": MOST,
        "device": "cpu",
        "cpu_threads": 1,
        "num_workers": 0,
        **{name: json.loads(value) for name, value in (pair.split("=", 1) for pair in options.set)},
    }
    with tempfile.TemporaryDirectory(prefix="quality-") as run_dir:
        order = {"config": config, "dataset_dir": str(data), "attempt": 1}
        Path(run_dir, "config.json").write_text(json.dumps(order))
        events = EventLog(Path(run_dir, EVENTS_FILE), 1)
        try:
            loop.train(read_run_spec(Path(run_dir), read_config_file(Path(run_dir))), Control(), events)
        finally:
            events.close()
            loop._begin_epoch, loop._validate = begin, validate
            DetectionRecords.evaluation = evaluation  # type: ignore[method-assign]
    return results.seconds


def theirs(data: Path, out: Path, epochs: int, options: argparse.Namespace) -> list[float]:
    """Ultralytics' trainer with its defaults, which sends nothing anywhere: its settings are off, and it is offline."""
    folder = out.parent / "settings"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    # By name: no file of the studio depends on it.
    ultralytics = importlib.import_module("ultralytics")
    non_max_suppression = importlib.import_module("ultralytics.utils.nms").non_max_suppression
    settings = ultralytics.settings
    settings.update(
        {name: False for name in ("sync", "hub", "wandb", "comet", "mlflow", "tensorboard") if name in settings}
    )
    results, clock = Results(out), Clock()
    paths = sorted((data / "images/val").iterdir())

    def start(_trainer: Any) -> None:
        torch.set_num_threads(1)
        clock.start()

    def epoch_ended(trainer: Any) -> None:
        clock.excluding(write, trainer, clock.seconds)

    def write(trainer: Any, seconds: float) -> None:
        model, rows = deepcopy(trainer.ema.ema).float().eval(), []
        for first in range(0, len(paths), 16):
            pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths[first : first + 16]])
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
            with torch.inference_mode():
                found = model(images)
            boxes = non_max_suppression(
                found[0] if isinstance(found, tuple | list) else found, CONFIDENCE, 0.7, multi_label=True, max_det=MOST
            )
            for number, one in enumerate(boxes, start=first):
                rows += [[number, label, score, *box] for *box, score, label in one[:, :6].tolist()]
        results.write(seconds, rows)

    model = ultralytics.YOLO(f"{options.opponent}.yaml")
    model.add_callback("on_train_start", start)
    model.add_callback("on_train_epoch_end", epoch_ended)
    size = json.loads((data / "samples.jsonl").read_text().splitlines()[0])["width"]
    model.train(
        data=str(data / "data.yaml"),
        imgsz=size,
        epochs=epochs,
        device="cpu",
        workers=0,
        pretrained=False,
        cache="ram",
        val=False,
        plots=False,
        verbose=False,
        project=str(out.parent / "runs"),
        exist_ok=True,
    )
    return results.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["ours", "theirs"])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--epochs", type=int, default=0, help="instead of as many as fit into the minutes")
    parser.add_argument("--set", action="append", default=[], help="NAME=JSON: a field of our configuration")
    parser.add_argument("--opponent", default="yolo11n")
    parser.add_argument("--target", default="", help="folder that contains ultralytics")
    options = parser.parse_args()
    if options.target:
        sys.path.append(options.target)
    torch.set_num_threads(1)
    side = {"ours": ours, "theirs": theirs}[options.side]
    epochs = options.epochs or epochs_in(options.minutes, side(options.data, options.out / "trial", 2, options))
    print(json.dumps({"side": options.side, "epochs": epochs}), flush=True)
    side(options.data, options.out / "run", epochs, options)


if __name__ == "__main__":
    main()
