"""Small checkpoints, created by the trainer's code: a frozen layer, a changing layer, an optimizer and generators."""

from pathlib import Path
from typing import Any

import torch

from trainingapp.contract.events import EVENTS_FILE, EventLog
from trainingapp.contract.retention import Policy
from trainingapp.engine.checkpoint import CheckpointFolder, Form, Keeping

FROZEN = 30_000
MOVING = 10_000


def content(epoch: int, *, is_best: bool = False, top1: float | None = None, seed: int = 0) -> dict[str, Any]:
    """The content that a trainer saves after this epoch; the frozen layer never changes."""
    frozen, moving = (torch.Generator().manual_seed(number) for number in (seed, 1000 + epoch))
    weight = torch.randn(8, 4, 3, 3, generator=moving).to(memory_format=torch.channels_last)
    return {
        "format": 1,
        "epoch": epoch,
        "step": epoch * 10,
        "step_in_epoch": 10,
        "steps_per_epoch": 10,
        "validated": True,
        "model_state_dict": {
            "backbone.weight": torch.randn(FROZEN, generator=frozen),
            "head.weight": torch.randn(MOVING, generator=moving),
            "head.conv": weight,
            "head.count": torch.tensor(epoch),
        },
        "optimizer_state_dict": {
            "state": {0: {"step": torch.tensor(float(epoch)), "exp_avg": torch.randn(MOVING, generator=moving)}},
            "param_groups": [{"lr": 0.001, "betas": (0.9, 0.999), "params": [0], "fused": True}],
        },
        "rng_state": {"cpu": torch.Generator().manual_seed(epoch).get_state()},
        "metrics": {"top1": epoch / 100 if top1 is None else top1},
        "is_best": is_best,
        "best": {"value": None, "epoch": 0},
        "timestamp": 1_700_000_000.0 + epoch * 3600,
        "attempt": 1,
        "classes": ["blue", "réd"],
        "config": {"model": "mobilenet_v3_small", "crop": 1e-9},
    }


def open_folder(run_dir: Path, *, last: int = 100, form: Form = "compact", **policy: Any) -> CheckpointFolder:
    run_dir.mkdir(parents=True, exist_ok=True)
    events = EventLog(run_dir / EVENTS_FILE, 1)
    return CheckpointFolder(run_dir / "checkpoints", events, Keeping(Policy(last=last, **policy), "top1"), form=form)


def save(folder: CheckpointFolder, epoch: int, **options: Any) -> dict[str, Any]:
    """Save epoch_{n}.pt and wait until it is on the disk. Returns the saved content."""
    saved = content(epoch, **options)
    folder.save(saved, file=f"epoch_{epoch}.pt", reason="epoch")
    folder.drain()
    return saved


def saved_run(run_dir: Path, epochs: int = 3, *, best: int = 1, **options: Any) -> dict[str, dict[str, Any]]:
    """Create a folder with the given number of checkpoints. Returns the content of each."""
    folder = open_folder(run_dir, **options)
    return {f"epoch_{epoch}.pt": save(folder, epoch, is_best=epoch == best) for epoch in range(1, epochs + 1)}


def stored_files(run_dir: Path) -> set[str]:
    """All checkpoint files by path."""
    folder = run_dir / "checkpoints"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def flip_a_bit(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << place % 8
    path.write_bytes(data)
