"""The engine's loop beside a bare PyTorch loop, in float32 and bfloat16, and the time from Start to the first step.

    python benchmarks/loop.py [--quick] [--parts throughput bf16 starts]

Throughput: the same model, images, optimizer, number format (float32) and threads in processes that take turns, an
epoch each; who waits is stopped.

    studio          python -m trainingapp.engine, as a worker starts it: events, metrics, a checkpoint each epoch
    bare            torchvision's ImageFolder and transforms, a DataLoader, validation and torch.save each epoch
    bare in memory  the same without a file: images decoded beforehand, as the studio keeps small sets, no saving
    studio, bf16    the studio in bfloat16, where the processor has units for it

The bare loops run with torch's own defaults: their threads spin while they wait for each other. The studio's do so
while nobody else wants the cores (engine/waiting.py). Measure on a machine with nothing else to do: beside other work
threads that spin are several times slower, and the ratio says nothing but that.

Counted are training img/s of whole epochs (training, validation, saving) after the first one; the ratio
is the median of the rounds' ratios. Without loader processes, as is the default on a CPU, all prepare their images in
the trainer. Beside other work look at the processor time of an image, with one thread (`taskset -c 0`): threads that
spin use the processor too.

bf16: the studio trains a small set of drawn shapes for the same epochs in both formats, with several seeds.

Start: in an installation of its own, with a worker and its spare trainer waiting, the time from calling
`run_verbs.start_run` to the end of the first optimizer step as the trainer reports it.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.loop_precision import accuracies  # noqa: E402

CLASSES = 4
SIZE = 64
BATCH = 32
DEADLINE_S = 300
BFLOAT16 = "studio, bf16"

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Plan:
    """How much is measured: batches of an epoch, rounds of an epoch for each contender, starts, and seeds."""

    batches: int
    rounds: int
    starts: int
    seeds: int


QUICK = Plan(batches=16, rounds=7, starts=3, seeds=2)
FULL = Plan(batches=40, rounds=9, starts=9, seeds=5)


def config(plan: Plan) -> dict[str, Any]:
    return {
        "model": "resnet18",
        "image_size": SIZE,
        "batch_size": BATCH,
        "epochs": plan.rounds + 2,
        "device": "cpu",
        "amp": "off",
        "scheduler": "constant",
        "warmup_epochs": 0,
        "augmentation": "light",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter ones")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="what is measured")
    parser.add_argument("--bare", choices=["files", "memory"], help=argparse.SUPPRESS)
    parser.add_argument("--dataset", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    if options.bare:
        bare_loop(options.dataset, plan, in_memory=options.bare == "memory")
        return
    with tempfile.TemporaryDirectory(prefix="cvstudio-bench-") as folder:
        write_dataset(Path(folder) / "dataset", plan)
        figures: Figures = {}
        for part in options.parts:
            figures |= PARTS[part](Path(folder), plan)
    print(f"\nload of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(json.dumps(figures))


def write_dataset(folder: Path, plan: Plan) -> None:
    """JPEG images of 96 pixels in class folders that torchvision's ImageFolder reads too, with the studio's index."""
    import numpy as np
    from PIL import Image

    from trainingapp.contract.dataset_index import Sample, Split, write_index

    generator, samples = np.random.default_rng(0), []
    counts: list[tuple[Split, int]] = [("train", plan.batches * BATCH), ("val", 2 * BATCH)]
    for split, count in counts:
        for number in range(count):
            label = number % CLASSES
            path = Path("images") / split / f"class_{label}" / f"{number:05}.jpg"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            # Nothing to be learned: gradients that vanish become subnormal numbers, with which processors are slow.
            coarse = generator.integers(0, 256, (12, 12, 3))
            Image.fromarray(coarse.astype(np.uint8)).resize((96, 96), Image.Resampling.BICUBIC).save(folder / path)
            samples.append(Sample(path.as_posix(), label, split, 96, 96))
    names = [f"class_{label}" for label in range(CLASSES)]
    write_index(folder, name="b", tasks=["classification"], classes=names, fingerprint="0" * 64, samples=samples)


# Throughput


@dataclass(frozen=True)
class Turn:
    """An epoch: its seconds, and those of processor time."""

    seconds: float
    processor_s: float


class Contender:
    """A training process that runs only in its turns: one epoch each."""

    def __init__(self, command: list[str], ends: Callable[[], list[float]], log_file: Path) -> None:
        self._ends = ends
        silent, self._kept_open = os.pipe()  # input on which nothing comes, and which does not end either
        with log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=silent,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))},
            )
        os.close(silent)
        self._epochs_ended = 0
        self.turn()

    def turn(self) -> "Turn":
        """Let it go on until its next epoch ends; returns what this took."""
        import psutil

        process = psutil.Process(self._process.pid)
        began, used = time.time(), sum(process.cpu_times()[:2])
        self._process.send_signal(signal.SIGCONT)
        ends = _wait(self._next_end, "the end of an epoch", pause_s=0.01)
        self._process.send_signal(signal.SIGSTOP)
        self._epochs_ended = len(ends)
        return Turn(float(ends[-1]) - began, sum(process.cpu_times()[:2]) - used)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._kept_open)

    def _next_end(self) -> list[float]:
        if self._process.poll() is not None:
            raise SystemExit(f"A training process ended early: {self._process.args}")
        ends = self._ends()
        return ends if len(ends) > self._epochs_ended else []


def measure_throughput(folder: Path, plan: Plan) -> Figures:
    """Let the contenders take turns, an epoch each, so that whatever else the machine does befalls all alike."""
    contenders = {
        "studio": studio(folder / "run", plan),
        "bare": bare(folder, plan, "files"),
        "bare in memory": bare(folder, plan, "memory"),
    }
    if has_bfloat16():
        contenders[BFLOAT16] = studio(folder / "run_bf16", plan, amp="on")
    turns: dict[str, list[Turn]] = {name: [] for name in contenders}
    try:
        for number in range(plan.rounds):
            for name in list(contenders) if number % 2 == 0 else list(contenders)[::-1]:
                turns[name].append(contenders[name].turn())
    finally:
        for contender in contenders.values():
            contender.end()
    return report_throughput(turns, plan.batches * BATCH)


def has_bfloat16() -> bool:
    """Whether this processor has units for it, by the rule of the studio."""
    from trainingapp.engine.device import has_bfloat16_units

    return has_bfloat16_units()


def report_throughput(turns: dict[str, list[Turn]], images: int) -> Figures:
    """The ratio is the median over the rounds of studio's speed to the other's in the same round. A turn has so many
    images."""
    speeds = {name: [images / turn.seconds for turn in found] for name, found in turns.items()}
    used_ms = {name: [1000 * turn.processor_s / images for turn in found] for name, found in turns.items()}
    ratios, used_ratios = _ratios(speeds, "studio"), _ratios(used_ms, "studio")
    print("\nimages/s by round:", json.dumps({name: [round(v) for v in values] for name, values in speeds.items()}))
    print(
        f"{'training loop':<16}{'images/s, median':>18}{'lowest':>10}{'highest':>10}{'studio is':>12}"
        f"{'CPU ms/image':>15}{'studio is':>12}"
    )
    for name, values in speeds.items():
        median = statistics.median(values)
        print(f"{name:<16}{median:>18.1f}{min(values):>10.1f}{max(values):>10.1f}{ratios[name]:>11.2f}x", end="")
        print(f"{statistics.median(used_ms[name]):>15.2f}{1 / used_ratios[name]:>11.2f}x")
    if BFLOAT16 not in turns:
        print("bf16: not supported by this CPU")
    return {
        "throughput_ratio": round(ratios["bare"], 3),
        "throughput_ratio_in_memory": round(ratios["bare in memory"], 3),
        "processor_ratio_in_memory": round(1 / used_ratios["bare in memory"], 3),
        "studio_images_per_s": round(statistics.median(speeds["studio"]), 1),
        "bf16_ratio": round(1 / ratios[BFLOAT16], 3) if BFLOAT16 in turns else None,
        "bf16_processor_ratio": round(used_ratios[BFLOAT16], 3) if BFLOAT16 in turns else None,
    }


def _ratios(values: dict[str, list[float]], first: str) -> dict[str, float]:
    """The median over the rounds of the value of `first` to that of each."""
    return {
        name: statistics.median(own / other for own, other in zip(values[first], found, strict=True))
        for name, found in values.items()
    }


def measure_accuracies(folder: Path, plan: Plan) -> Figures:
    if not has_bfloat16():
        print("\nbf16: not supported by this CPU")
        return {"fp32_accuracy": None, "bf16_accuracy": None}
    return {**accuracies(folder, config(plan), plan.seeds)}


def studio(run_dir: Path, plan: Plan, amp: str = "off") -> Contender:
    """The trainer as a worker starts it, read by its events."""
    run_dir.mkdir()
    dataset, values = run_dir.parent / "dataset", config(plan) | {"amp": amp}
    order = {"config": values, "dataset_dir": str(dataset), "attempt": 1, "weights_cache_dir": ""}
    (run_dir / "config.json").write_text(json.dumps(order))

    found: list[float] = []
    offset = 0

    def ends() -> list[float]:
        """Reads only what is new: a watcher that works takes a core from who is measured."""
        from trainingapp.contract.events import read_events

        nonlocal offset
        for event, after in read_events(run_dir / "events.jsonl", offset):
            offset = after
            if event.type == "metrics" and event.split == "val":
                found.append(event.time)
        return list(found)

    return Contender([sys.executable, "-m", "trainingapp.engine", str(run_dir)], ends, run_dir / "trainer.log")


def bare(folder: Path, plan: Plan, variant: str) -> Contender:
    """This script's own loop in a process of its own, which writes a line when an epoch ends."""
    out = folder / f"{variant}.txt"
    command = [sys.executable, "-u", __file__, "--bare", variant, "--dataset", str(folder / "dataset")]
    command += ["--quick"] if plan is QUICK else []
    ends = lambda: [float(line) for line in out.read_text().splitlines()]  # noqa: E731
    return Contender(command, ends, out)


def bare_loop(dataset: Path, plan: Plan, *, in_memory: bool) -> None:
    """What one would write by hand for the same training; prints when each epoch ends."""
    import torch
    import torchvision
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, TensorDataset
    from torchvision.transforms import v2

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    resize = [v2.PILToTensor(), v2.Resize((SIZE, SIZE), antialias=True)]
    augment = [v2.RandomHorizontalFlip(), v2.RandomCrop(SIZE, padding=SIZE // 8, padding_mode="reflect")]
    to_input = v2.Compose(
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )

    def load(split: str, transforms: list[Any]) -> Any:
        folder = torchvision.datasets.ImageFolder(str(dataset / "images" / split), v2.Compose(transforms))
        if not in_memory:
            return folder
        inputs, labels = zip(*folder, strict=True)
        return TensorDataset(torch.stack(inputs), torch.tensor(labels))

    if in_memory:
        each = v2.Compose(augment)
        train = DataLoader(load("train", resize), BATCH, shuffle=True)
        val = DataLoader(load("val", resize), BATCH)
        prepare = lambda images: to_input(torch.stack([each(image) for image in images]))  # noqa: E731
    else:
        train = DataLoader(load("train", [*resize, *augment, to_input]), BATCH, shuffle=True)
        val = DataLoader(load("val", [*resize, to_input]), BATCH)
        prepare = lambda images: images  # noqa: E731

    model = torchvision.models.resnet18(num_classes=CLASSES).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, weight_decay=0.01, fused=True)
    for _epoch in range(plan.rounds + 2):
        model.train()
        for images, labels in train:
            inputs = prepare(images).to(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(inputs), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        hits = 0
        with torch.inference_mode():
            for images, labels in val:
                inputs = to_input(images) if in_memory else images
                hits += int((model(inputs.to(memory_format=torch.channels_last)).argmax(1) == labels).sum())
        print(time.time())
        if not in_memory:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "hits": hits}
            torch.save(state, dataset.parent / "bare.pt")


# From Start to the first step


def measure_starts(folder: Path, plan: Plan) -> Figures:
    os.environ.update(DATA_DIR=str(folder / "data"), DJANGO_SETTINGS_MODULE="cvstudio.settings", LOG_LEVEL="WARNING")
    os.environ.update(SPARE_TRAINER="true", DATABASE_URL="", REDIS_URL="")
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    dataset = _dataset_row(folder / "dataset")
    seconds = []
    with _worker(folder) as worker_pid:
        for number in range(plan.starts + 1):
            _wait_for_idle_spare(worker_pid)
            seconds.append(_start_to_first_step(dataset, plan, number))
    seconds = seconds[1:]  # the first warms the file cache and the worker
    median = statistics.median(seconds)
    print(f"\n{'start to first step':<22}{'median':>8} s{'lowest':>8}{'highest':>9}")
    print(f"{'spare process warm':<22}{median:>8.2f} s{min(seconds):>8.2f}{max(seconds):>9.2f}")
    return {"start_to_first_step_s": round(median, 3)}


def _dataset_row(source: Path) -> Any:
    from django.contrib.auth.models import User

    from trainingapp.models import Dataset

    owner = User.objects.create_superuser("bench")
    names = [f"class_{label}" for label in range(CLASSES)]
    row = Dataset.objects.create(name="bench", owner=owner, source=str(source), classes=names, fingerprint="0" * 64)
    shutil.copytree(source, row.folder)
    images = {split: len(list((source / "images" / split).rglob("*.jpg"))) for split in ("train", "val")}
    row.counts = {split: dict.fromkeys(names, count // CLASSES) for split, count in images.items()}
    row.images, row.tasks = images, ["classification"]
    row.status = Dataset.Status.READY
    row.save()
    return row


@contextmanager
def _worker(folder: Path) -> Iterator[int]:
    """A worker process; gives its process id."""
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen([sys.executable, "manage.py", "run_huey"], cwd=ROOT, stdout=log, stderr=log)
    try:
        yield worker.pid
    finally:
        worker.send_signal(signal.SIGINT)
        worker.wait(60)


def _start_to_first_step(dataset: Any, plan: Plan, number: int) -> float:
    from trainingapp.contract.config import parse_config
    from trainingapp.models import TrainingRun
    from trainingapp.runs import verbs as run_verbs

    run = run_verbs.create_run(
        owner=dataset.owner, name=f"start {number}", dataset=dataset, config=parse_config(config(plan) | {"epochs": 1})
    )
    began = time.time()
    run_verbs.start_run(run)
    first = _wait(lambda: _first_step(run.folder / "events.jsonl"), "a first step")
    _wait(lambda: TrainingRun.objects.get(pk=run.pk).status == "completed", "the end of the run")
    return float(first) - began


def _first_step(path: Path) -> float | None:
    from trainingapp.contract.events import read_events

    times = [event.time for event, _ in read_events(path, 0) if event.type == "progress" and event.step == 1]
    return times[0] if times else None


def _wait_for_idle_spare(worker_pid: int) -> None:
    """Until a spare trainer exists that has used no processor for a second: it is warm and waits."""
    import psutil

    before: list[float] = []

    def idle() -> bool:
        nonlocal before
        spares = [
            child for child in psutil.Process(worker_pid).children(recursive=True) if "--spare" in child.cmdline()
        ]
        used = [sum(child.cpu_times()[:2]) for child in spares]
        settled = used == before and bool(used) and max(used) > 2
        before = used
        return settled

    _wait(idle, "a warm spare trainer", pause_s=1.0)


def _wait(condition: Callable[[], Any], what: str, pause_s: float = 0.01) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come within {DEADLINE_S} s.")
        time.sleep(pause_s)
    return found


PARTS = {"throughput": measure_throughput, "bf16": measure_accuracies, "starts": measure_starts}


if __name__ == "__main__":
    main()
