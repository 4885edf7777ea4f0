"""Train a detector on the demo scenes, from scratch and on the CPU, and say how far it comes.

Draws the scenes, writes them as a dataset with boxes, and trains the detection task with its own defaults, as a run
from the browser would. The figures to reach: AP50 over 0.80 in under ten minutes on two cores.

    python benchmarks/detection_demo.py
    python benchmarks/detection_demo.py --quick
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from trainingapp.contract.dataset_index import Box, Sample, write_index
from trainingapp.contract.evaluation import evaluated_epochs, read_evaluation
from trainingapp.contract.events import EVENTS_FILE, EventLog
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.contract.tasks.detection import DetectionConfig
from trainingapp.datasets.scenes import CLASSES, draw_demo
from trainingapp.engine.control import Control
from trainingapp.engine.loop import train

SIDE = 96
SHOWN = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "f1")


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="cvstudio-detection-") as folder:
        dataset_dir, run_dir = Path(folder, "dataset"), Path(folder, "run")
        _draw(dataset_dir, 400 if arguments.quick else arguments.images)
        minutes, processor_minutes = _train(dataset_dir, run_dir, arguments)
        rows = [(epoch, read_evaluation(run_dir, epoch)) for epoch in evaluated_epochs(run_dir)]
        found = [(epoch, content["values"]) for epoch, content in rows if content]
    print(f"{'epoch':>5} " + " ".join(f"{name:>9}" for name in SHOWN))
    for epoch, values in found:
        print(f"{epoch:5} " + " ".join(f"{values.get(name, float('nan')):9.3f}" for name in SHOWN))
    result = {"benchmark": "detection_demo", "quick": arguments.quick, "epochs": found[-1][0]}
    figures = {"ap50": round(found[-1][1]["ap50"], 4), "minutes": round(minutes, 2)}
    print(json.dumps({**result, **figures, "processor_minutes": round(processor_minutes, 2)}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=DetectionConfig.model_fields["model"].default, help="network (%(default)s)")
    parser.add_argument("--images", type=int, default=2000, help="images in all (%(default)s); a fifth is val")
    parser.add_argument("--epochs", type=int, default=0, help="epochs; 0: the default of the network")
    parser.add_argument("--threads", type=int, default=0, help="threads for computing; 0: all cores")
    parser.add_argument("--quick", action="store_true", help="400 images, two epochs")
    return parser.parse_args()


def _draw(folder: Path, images: int) -> None:
    """The scenes as a dataset folder with boxes."""
    draw_demo(folder, images=images, seed=0, size=SIDE)
    truth = json.loads((folder / "annotations.json").read_text())
    samples = [_sample(record) for record in truth["images"]]
    write_index(folder, name="Demo scenes", tasks=["detection"], classes=CLASSES, fingerprint="0" * 64, samples=samples)


def _sample(record: dict[str, Any]) -> Sample:
    boxes = tuple(Box(label, *box) for label, box in zip(record["labels"], record["boxes_xyxy"], strict=True))
    return Sample(record["path"], -1, "val" if "/val/" in record["path"] else "train", SIDE, SIDE, boxes)


def _train(dataset_dir: Path, run_dir: Path, arguments: argparse.Namespace) -> tuple[float, float]:
    """Train, and give the minutes it took: on the clock, and of all processors together."""
    run_dir.mkdir()
    config = {
        "task": "detection",
        "model": arguments.model,
        "cpu_threads": arguments.threads,
        "device": "cpu",
    }
    if epochs := 2 if arguments.quick else arguments.epochs:
        config["epochs"] = epochs
    order = {"config": config, "dataset_dir": str(dataset_dir), "attempt": 1}
    (run_dir / "config.json").write_text(json.dumps(order))
    events = EventLog(run_dir / EVENTS_FILE, 1)
    began, processor_began = time.monotonic(), time.process_time()
    train(read_run_spec(run_dir, read_config_file(run_dir)), Control(), events)
    events.close()
    return (time.monotonic() - began) / 60, (time.process_time() - processor_began) / 60


if __name__ == "__main__":
    main()
