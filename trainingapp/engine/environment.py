"""The versions, machine and source of an attempt, recorded so that it can be repeated."""

import contextlib
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from pydantic import JsonValue

#: Distributions that influence the numbers of a run or how it is stored.
PACKAGES = (
    "cvstudio",
    "torch",
    "torchvision",
    "timm",
    "segmentation-models-pytorch",
    "faster-coco-eval",
    "numpy",
    "pillow",
    "pydantic",
    "safetensors",
    "zstandard",
    "tensorboard",
)
DRIVER_FILE = Path("/proc/driver/nvidia/version")
GIT_WAIT_S = 5.0


@cache
def environment() -> dict[str, JsonValue]:
    """{"python", "platform", "cpu", "cuda", "cudnn", "driver", "revision": str, "packages": {name: version}}.

    Missing values are left out: a machine without a GPU has no driver, an installed wheel no revision. `revision` is
    the commit of the git checkout that contains this file, with "+" where files have been changed since.
    """
    found: dict[str, str | None] = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "cpu": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "cuda": torch.version.cuda,
        "cudnn": str(torch.backends.cudnn.version() or "") if torch.version.cuda else None,
        "driver": driver_version(),
        "revision": source_revision(Path(__file__)),
    }
    packages: dict[str, JsonValue] = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {**{name: value for name, value in found.items() if value}, "packages": packages}


def driver_version() -> str:
    """The version of NVIDIA's kernel module; empty without one."""
    try:
        first_line = DRIVER_FILE.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except OSError:
        return ""
    words = first_line.split()
    return next((word for word in words if word[0].isdigit() and "." in word), first_line.strip())


def source_revision(file: Path) -> str:
    """The commit of the checkout that tracks `file`; empty where git does not track it, as in a virtual environment."""
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return ""
    commit = _git(file.parent, "rev-parse", "HEAD")
    if commit is None:
        return ""
    changed = _git(file.parent, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return commit + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of git; None where it fails or is not installed."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=GIT_WAIT_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
