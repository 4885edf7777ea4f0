"""What saving a checkpoint costs, beside a synchronous torch.save with fsync.

    python benchmarks/checkpoint.py [--quick] [--folder FOLDER]

Two networks train with AdamW on the CPU, as the studio's loop does. The studio's way of saving (the copy that the loop
waits for, everything else in a thread) and torch.save with fsync take turns, one save each, in one process:

    stall          time for which the loop waits: building the content and handing it over, or torch.save and fsync
    next steps     time of the two steps after the save: the studio's beside those after a torch.save, which leaves
                   nothing to be done
    durable        time from the call until the checkpoint is on the disk, while training continues
    bytes          what lies on the disk afterwards

stall_ratio and next_steps_ratio are the worse of the two networks, by the medians over all saves; bytes_ratio is one
checkpoint standing alone; bytes_ratio_frozen is ten checkpoints of a network whose backbone is frozen, beside ten of
torch.save. The first save is not counted: it makes the buffer.

durable_ratio is the time until a checkpoint is durable over that of torch.save with fsync; durable_share is that time
as a part of what is promised, max(5 s, 3 x torch.save). Each is the worse of the two networks, by the medians; as
durable_share_worst, that of the slowest save. The same with _busy is measured beside a process that keeps all cores
busy, torch.save as well.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from trainingapp.engine import waiting  # noqa: E402

waiting.prepare_environment()  # as in the trainer

import torch  # noqa: E402
import torchvision  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

from trainingapp.contract.events import EVENTS_FILE, CheckpointSaved, Event, EventLog  # noqa: E402
from trainingapp.contract.storage.durable import DURABLE_RATIO, DURABLE_WITHIN_S  # noqa: E402
from trainingapp.engine.checkpoint import CheckpointFolder, load_checkpoint  # noqa: E402

CLASSES = 10
SIZE = 64
BATCH = {"resnet18": 64, "resnet50": 32}
STEPS_AFTER = 2
FROZEN_SAVES = 10
GIVEN_UP_S = 40.0
#: One process with a thread for each core; hashing does not hold Python's lock.
BUSY = """
import hashlib, os, threading
def work():
    while True:
        hashlib.sha256(data).digest()
data = bytes(1 << 20)
for _ in os.sched_getaffinity(0):
    threading.Thread(target=work).start()
"""


@dataclass
class Training:
    """A network, its optimizer and one batch of noise, seen again and again."""

    name: str
    frozen: bool = False
    step: int = 0
    model: Any = field(init=False)
    optimizer: Any = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.model = getattr(torchvision.models, self.name)(num_classes=CLASSES)
        self.model = self.model.to(memory_format=torch.channels_last)
        if self.frozen:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(name.startswith("fc."))
            self.model.eval()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        batch = BATCH[self.name]
        self.images = torch.randn(batch, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
        self.labels = torch.randint(0, CLASSES, (batch,))

    def train_step(self) -> float:
        began = time.perf_counter()
        cross_entropy(self.model(self.images), self.labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return time.perf_counter() - began

    def content(self) -> dict[str, Any]:
        return {
            "epoch": self.step,
            "step": self.step,
            "step_in_epoch": self.step,
            "attempt": 1,
            "model_state_dict": dict(self.model.state_dict()),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "rng_state": {"cpu": torch.get_rng_state()},
            "metrics": {},
            "is_best": False,
            "timestamp": time.time(),
        }


@dataclass
class Way:
    """One way of saving, with what was measured of it."""

    name: str
    save: Callable[[], None]
    stalls_s: list[float] = field(default_factory=list)
    next_steps_s: list[float] = field(default_factory=list)

    def measure(self, training: Training, wait: Callable[[], None]) -> None:
        """Two steps, the save, two steps; then whatever is left of the save."""
        for _ in range(STEPS_AFTER):
            training.train_step()
        began = time.perf_counter()
        self.save()
        self.stalls_s.append(time.perf_counter() - began)
        self.next_steps_s.append(sum(training.train_step() for _ in range(STEPS_AFTER)))
        wait()


class ClockedLog(EventLog):
    """An event log that notes when a checkpoint is reported as saved."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, 1)
        self.saved = threading.Event()
        self.saved_at = 0.0

    def write(self, event: Event, *, epoch: int | None = None, step: int | None = None) -> None:
        super().write(event, epoch=epoch, step=step)
        if isinstance(event, CheckpointSaved):
            self.saved_at = time.perf_counter()
            self.saved.set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer saves")
    parser.add_argument("--folder", type=Path, help="where to write (a folder of its own is made there and removed)")
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    waiting.follow_load()
    saves = 8 if options.quick else 25
    figures: dict[str, Any] = {"date": date.today().isoformat(), "saves": saves, "cores": torch.get_num_threads()}
    print(f"{'':10} {'way':12} {'stall ms':>9} {'next two steps ms':>18} {'MB alone':>9}")
    with tempfile.TemporaryDirectory(prefix="cvstudio-bench-", dir=options.folder) as folder:
        for name in ("resnet18", "resnet50"):
            figures[name] = measure(name, Path(folder) / name, saves)
            figures[name]["frozen"] = measure_frozen(name, Path(folder) / f"{name}-frozen")
        measure_both_durable(figures, Path(folder), 3 if options.quick else 9)
    print_summary(figures)


def measure(name: str, folder: Path, saves: int) -> dict[str, float]:
    """Both ways in turns on one network; the first save of each is not counted."""
    training = Training(name)
    checkpoints = new_folder(folder)

    def save_studio() -> None:
        checkpoints.save(training.content(), file=f"step_{training.step}.pt", reason="autosave")

    def save_plain() -> None:
        save_synchronously(training.content(), folder / "plain.pt")

    ways = [Way("torch.save", save_plain), Way("studio", save_studio)]
    for _ in range(2):
        for way in ways:
            way.measure(training, checkpoints.drain)
    for way in ways:
        way.stalls_s, way.next_steps_s = [], []
    for number in range(saves):
        for way in ways if number % 2 else reversed(ways):
            way.measure(training, checkpoints.drain)
    alone = bytes_alone(training, folder.with_name(f"{name}-alone"))
    sizes = {"torch.save": (folder / "plain.pt").stat().st_size, "studio": alone}
    for way in ways:
        stall_ms, steps_ms = 1000 * statistics.median(way.stalls_s), 1000 * statistics.median(way.next_steps_s)
        print(f"{name:10} {way.name:12} {stall_ms:9.1f} {steps_ms:18.1f} {sizes[way.name] / 1e6:9.1f}")
    synchronous, studio = ways
    stalls = [statistics.median(way.stalls_s) for way in (studio, synchronous)]
    pairs = zip(studio.next_steps_s, synchronous.next_steps_s, strict=True)
    return {
        "stall_s": round(stalls[0], 4),
        "torch_save_s": round(stalls[1], 4),
        "stall_ratio": round(stalls[0] / stalls[1], 4),
        "next_steps_ratio": round(statistics.median(mine / theirs for mine, theirs in pairs), 4),
        "bytes_ratio": round(alone / sizes["torch.save"], 4),
    }


def bytes_alone(training: Training, folder: Path) -> int:
    """Bytes on the disk of one checkpoint, which is proved to hold what was saved."""
    checkpoints = new_folder(folder)
    content = training.content()
    checkpoints.save(content, file="alone.pt", reason="autosave")
    checkpoints.drain()
    stored = load_checkpoint(folder / "checkpoints" / "alone.pt")
    for name, tensor in content["model_state_dict"].items():
        assert torch.equal(stored["model_state_dict"][name], tensor), name
    return folder_bytes(folder / "checkpoints")


def measure_frozen(name: str, folder: Path) -> dict[str, float]:
    """Ten checkpoints, all kept, of a network that trains its last layer alone."""
    training = Training(name, frozen=True)
    checkpoints = new_folder(folder, keep=FROZEN_SAVES)
    plain_bytes = 0
    for _ in range(FROZEN_SAVES):
        training.train_step()
        checkpoints.save(training.content(), file=f"step_{training.step}.pt", reason="autosave")
        save_synchronously(training.content(), folder / "plain.pt")
        plain_bytes += (folder / "plain.pt").stat().st_size
    checkpoints.drain()
    return {"bytes_ratio": round(folder_bytes(folder / "checkpoints") / plain_bytes, 4)}


def measure_both_durable(figures: dict[str, Any], folder: Path, saves: int) -> None:
    """Add the time until a save is durable to the figures of each network, alone and beside a busy process."""
    print(f"\n{'':10} {'beside':12} {'durable s':>9} {'worst s':>8} {'torch.save s':>13} {'ratio':>6}")
    for name in ("resnet18", "resnet50"):
        figures[name]["durable"] = measure_durable(name, "nothing", folder / f"{name}-durable", saves)
        with busy_cores():
            figures[name]["durable_busy"] = measure_durable(name, "a busy one", folder / f"{name}-busy", saves)


def measure_durable(name: str, beside: str, folder: Path, saves: int) -> dict[str, float]:
    """Seconds until a save is durable while training continues, and those of torch.save with fsync, by turns."""
    training = Training(name)
    log = ClockedLog(new_run(folder) / EVENTS_FILE)
    checkpoints = folder_with(folder, log)
    durable_s, plain_s = [], []
    for _ in range(saves + 1):
        training.train_step()
        began = time.perf_counter()
        save_synchronously(training.content(), folder / "plain.pt")
        plain_s.append(time.perf_counter() - began)
        training.train_step()
        durable_s.append(seconds_until_durable(training, checkpoints, log))
        checkpoints.drain()
    durable_s, plain_s = durable_s[1:], plain_s[1:]  # the first makes the buffer
    durable, plain = statistics.median(durable_s), statistics.median(plain_s)
    promised_s = max(DURABLE_WITHIN_S, DURABLE_RATIO * plain)
    print(f"{name:10} {beside:12} {durable:9.2f} {max(durable_s):8.2f} {plain:13.2f} {durable / plain:6.1f}")
    return {
        "durable_s": round(durable, 3),
        "durable_worst_s": round(max(durable_s), 3),
        "torch_save_s": round(plain, 3),
        "durable_ratio": round(durable / plain, 3),
        "durable_share": round(durable / promised_s, 3),
        "durable_share_worst": round(max(durable_s) / promised_s, 3),
    }


def seconds_until_durable(training: Training, checkpoints: CheckpointFolder, log: ClockedLog) -> float:
    """Save, and train until the checkpoint is reported as saved."""
    log.saved.clear()
    began = time.perf_counter()
    checkpoints.save(training.content(), file=f"step_{training.step}.pt", reason="autosave")
    while not log.saved.is_set() and time.perf_counter() - began < GIVEN_UP_S:
        training.train_step()
    return (log.saved_at if log.saved.is_set() else time.perf_counter()) - began


@contextmanager
def busy_cores() -> Iterator[None]:
    """A process that keeps all cores busy, once it has been noticed as such."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        time.sleep(2.0)
        yield
    finally:
        process.kill()
        process.wait()
        time.sleep(2.0)


def new_run(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def new_folder(folder: Path, keep: int = 2) -> CheckpointFolder:
    return folder_with(folder, EventLog(new_run(folder) / EVENTS_FILE, 1), keep)


def folder_with(folder: Path, log: EventLog, keep: int = 2) -> CheckpointFolder:
    from trainingapp.contract.retention import Policy
    from trainingapp.engine.checkpoint import Keeping

    return CheckpointFolder(folder / "checkpoints", log, Keeping(Policy(last=keep)))


def save_synchronously(content: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def print_summary(figures: dict[str, Any]) -> None:
    networks = [figures["resnet18"], figures["resnet50"]]
    for name in ("stall_ratio", "next_steps_ratio", "bytes_ratio"):
        figures[name] = round(max(network[name] for network in networks), 4)
    figures["bytes_ratio_frozen"] = round(max(network["frozen"]["bytes_ratio"] for network in networks), 4)
    for name in ("durable_ratio", "durable_share", "durable_share_worst"):
        figures[name] = max(network["durable"][name] for network in networks)
        figures[f"{name}_busy"] = max(network["durable_busy"][name] for network in networks)
    figures["load"] = round(os.getloadavg()[0], 1)
    wanted = {"stall_ratio": 0.10, "next_steps_ratio": 1.10, "bytes_ratio": 0.85, "bytes_ratio_frozen": 0.40}
    wanted |= {"durable_share": 1.0, "durable_share_busy": 1.0}
    print(f"\nload of the machine at the end: {figures['load']} on {os.cpu_count()} cores")
    print(f"durable_ratio: {figures['durable_ratio']:.1f}; beside a busy process {figures['durable_ratio_busy']:.1f}")
    for name, most in wanted.items():
        print(f"{name:20} {figures[name]:8.3f}   (at most {most:.2f})")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
