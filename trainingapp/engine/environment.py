"""What an attempt is made with: versions, machine and source, for whoever wants to repeat it."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from pydantic import JsonValue

#: Distributions that have a part in the numbers of a run, or in how it is stored.
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

    What is not there is left out: a machine without a GPU has no driver, an installed wheel no revision. `revision` is
    that of the git checkout in which this file lies, with "+" where files were changed since.
    """
    found: dict[str, str | None] = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "cpu": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "cuda": torch.version.cuda,
        "cudnn": str(torch.backends.cudnn.version() or "") if torch.version.cuda else None,
        "driver": _driver(),
        "revision": _revision(Path(__file__)),
    }
    return {**{name: value for name, value in found.items() if value}, "packages": dict(_packages())}


def _packages() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _driver() -> str:
    """The version of NVIDIA's kernel module; empty without one."""
    try:
        first_line = DRIVER_FILE.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except OSError:
        return ""
    words = first_line.split()
    return next((word for word in words if word[0].isdigit() and "." in word), first_line.strip())


def _revision(file: Path) -> str:
    """The commit of the checkout that `file` is a part of. An installation within somebody's checkout is none."""
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return ""
    commit = _git(file.parent, "rev-parse", "HEAD")
    if commit is None:
        return ""
    changed = _git(file.parent, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return commit + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where it fails or is not there."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=GIT_WAIT_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
