"""One run on one and on two processes of a thread each: speed, the price of exact sums, and whether results are equal.

    python benchmarks/ranks.py [--quick]

Speed: resnet18 on 64 pixels (47 MB of gradients), two batches of 16 in a step, on the CPU. The runs take turns. Counted
are training img/s of the points of the charts, without the first ones; the share of time in collective operations
includes the wait for the slower rank.

Equal: runs of each task with an accumulation tail, a frozen backbone, EMA and clipped gradients, on 1, 2 and (without
--quick) 4 processes. `equal` is true where weights, EMA, optimizer, statistics, generators, metrics and the points of
the charts are the same bit by bit.

Agreement: what the agreement on the next step costs two processes that have nothing else to do, in microseconds; each
step of a run on several devices pays it once.

The last line is JSON. Beside other work on the machine the speeds say nothing; `equal` holds anyway.
"""

import argparse
import json
import multiprocessing
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from trainingapp.contract.events import EVENTS_FILE, Metrics, read_events  # noqa: E402
from trainingapp.engine.digest import digests  # noqa: E402
from trainingapp.engine.gpu_check.scenes import draw_scenes  # noqa: E402
from trainingapp.engine.ranks import Ranks, Word  # noqa: E402

#: Points of the charts that are not counted: threads and memory settle.
WARM_UP = 3
#: A run on the CPU with one thread.
PLAIN: dict[str, Any] = {"device": "cpu", "cpu_threads": 1, "warmup_epochs": 0, "log_every_steps": 1}
SPEED: dict[str, Any] = {"model": "resnet18", "image_size": 64, "batch_size": 16, "accumulation_steps": 2}
#: 22 images in eight batches, of which a step takes five: the second has three.
EQUAL: dict[str, Any] = {
    "image_size": 64,
    "batch_size": 3,
    "accumulation_steps": 5,
    "epochs": 2,
    "augmentation": "medium",
    "freeze": "backbone",
    "freeze_epochs": 1,
    "ema_decay": 0.9,
    "gradient_clip": 1.0,
}
TASKS: dict[str, dict[str, Any]] = {
    "classification": {"model": "mobilenet_v3_small", "dropout_rate": 0.3},
    "detection": {"task": "detection", "model": "fcos_resnet18_fpn"},
    "segmentation": {"task": "segmentation", "model": "lraspp_mobilenet_v3_large"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter runs, and at most two processes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cvstudio-bench-") as folder:
        figures = speeds(Path(folder), steps=12 if options.quick else 60)
        figures["agreement_us"] = agreement_us(2_000 if options.quick else 20_000)
        figures["equal"] = all_equal(Path(folder), [1, 2] if options.quick else [1, 2, 4])
    print(json.dumps(figures))


def speeds(folder: Path, *, steps: int) -> dict[str, Any]:
    """Images a second, and the share of time in collectives, by number of processes and reduction."""
    images = SPEED["batch_size"] * SPEED["accumulation_steps"] * steps
    draw_scenes(folder / "speed", train=images, val=4, width=96, height=96, files=64, suffix=".jpg")
    found: dict[str, Any] = {}
    print(f"{'':<10}{'img/s':>10}{'collectives':>14}")
    for name, ranks, reduction in (("one", 1, "exact"), ("two_exact", 2, "exact"), ("two_fast", 2, "fast")):
        config = {**SPEED, "epochs": 1, "reduction": reduction}
        run_dir = train(folder / name, folder / "speed", config, ranks)
        points = [values["images_per_s"] for split, _step, values in curve(run_dir) if split == "train"]
        share = collective_share(run_dir) if ranks > 1 else 0.0
        found[f"img_s_{name}"] = round(statistics.median(points[WARM_UP:]), 1)
        found[f"collective_share_{name}"] = round(share, 3)
        print(f"{name:<10}{found[f'img_s_{name}']:>10.1f}{share:>14.1%}")
    return found


def agreement_us(orders: int) -> float:
    """The median time in which a rank tells a second one the next step, in microseconds."""
    context = multiprocessing.get_context("spawn")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    listener = context.Process(target=agree, args=(1, port, orders))
    listener.start()
    times = agree(0, port, orders)
    listener.join()
    found = round(1e6 * statistics.median(times[orders // 10 :]), 1)
    print(f"agreement on a step: {found} us")
    return found


def agree(rank: int, port: int, orders: int) -> list[float]:
    """The time of each order, in seconds, as one of two ranks."""
    torch.set_num_threads(1)
    store = TCPStore("127.0.0.1", port, 2, is_master=rank == 0)
    ranks = Ranks.join(rank, 2, store, torch.device("cpu"), "lo")
    times = []
    for number in range(orders):
        began = time.perf_counter()
        if rank == 0:
            ranks.tell(Word.STEP, step=number)
        else:
            assert ranks.listen().step == number
        times.append(time.perf_counter() - began)
    return times


def all_equal(folder: Path, ranks: list[int]) -> bool:
    """Whether each task gives the same on all these numbers of processes."""
    draw_scenes(folder / "equal", train=22, val=7, width=96, height=72, files=29, suffix=".png")
    equal = True
    for task, config in TASKS.items():
        results = [
            result(train(folder / f"{task} {count}", folder / "equal", {**EQUAL, **config}, count)) for count in ranks
        ]
        is_same = all(one == results[0] for one in results)
        print(f"{task} on {', '.join(map(str, ranks))} processes: {'equal' if is_same else 'DIFFERENT'}")
        equal &= is_same
    return equal


def train(run_dir: Path, dataset_dir: Path, config: dict[str, Any], ranks: int) -> Path:
    """Train on so many processes; returns the folder of the run."""
    run_dir.mkdir()
    order = {"config": {**PLAIN, **config}, "dataset_dir": str(dataset_dir), "attempt": 1, "devices": ["cpu"] * ranks}
    (run_dir / "config.json").write_text(json.dumps(order))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    with (run_dir / "log").open("wb") as log:
        command = [sys.executable, "-m", "trainingapp.engine", str(run_dir), "--no-control"]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)
    if done.returncode:
        raise SystemExit((run_dir / "log").read_text()[-3000:])
    return run_dir


def curve(run_dir: Path) -> list[tuple[str, int, dict[str, float]]]:
    """(split, step, values) of each point of the charts."""
    events = (event for event, _offset in read_events(run_dir / EVENTS_FILE, 0, -1))
    return [(event.split, event.step, event.values) for event in events if isinstance(event, Metrics)]


def result(run_dir: Path) -> dict[str, Any]:
    """What must be equal: the last checkpoint, and the points without speeds."""
    index = json.loads((run_dir / "checkpoints" / "index.json").read_text())
    points = [
        (split, step, {name: value for name, value in values.items() if name != "images_per_s"})
        for split, step, values in curve(run_dir)
    ]
    return {"checkpoint": digests(run_dir / "checkpoints" / index[-1]["file"]), "points": points}


def collective_share(run_dir: Path) -> float:
    """What the trainer logs when it has ended the other ranks."""
    found = re.search(r"collective operations took ([\d.]+) s of ([\d.]+) s", (run_dir / "log").read_text())
    assert found, "the trainer logs it"
    return float(found[1]) / float(found[2])


if __name__ == "__main__":
    main()
