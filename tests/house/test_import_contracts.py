"""The import contracts hold, and each of them bites."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the packages that a test may spoil."""
    for package in ("cvstudio", "trainingapp"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def append(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(f"\n{line}\n")


def test_the_contracts_hold(tree: Path) -> None:
    done = lint(tree)
    assert done.returncode == 0, done.stdout
    assert "4 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("models/run.py", "from trainingapp import lifecycle", "One way down"),
        ("supervisor/extra.py", "from trainingapp import tasks", "One way down"),
        ("datasets/errors.py", "from trainingapp import forms", "One way down"),
        ("lifecycle/runs.py", "from trainingapp import live", "One way down"),
        ("views/runs.py", "from trainingapp import admin", "One way down"),
        ("engine/control.py", "from trainingapp import supervisor", "One way down"),
        ("helpers.py", "", "One way down"),
        ("engine/loop.py", "from django.conf import settings", "The engine is pure PyTorch"),
        ("engine/loop.py", "import huey", "The engine is pure PyTorch"),
        ("engine/loop.py", "import cvstudio.settings", "The engine is pure PyTorch"),
        ("forms.py", "import torch", "Torch stays inside the engine"),
        ("tasks.py", "import trainingapp.engine.loop", "Torch stays inside the engine"),
        ("engine/config.py", "import torch", "What the web may import of the engine has no torch"),
    ],
)
def test_a_contract_is_broken_by(tree: Path, module: str, line: str, contract: str) -> None:
    append(tree / "trainingapp" / module, line)
    done = lint(tree)
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout


def test_every_module_outside_the_engine_is_kept_from_torch() -> None:
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [each for each in contracts if each["name"] == "Torch stays inside the engine"]
    stems = {path.stem for path in (REPOSITORY / "trainingapp").iterdir() if path.suffix == ".py" or path.is_dir()}
    modules = {f"trainingapp.{stem}" for stem in stems if not stem.startswith("__")}
    apart = {"trainingapp.engine", "trainingapp.apps", "trainingapp.migrations"}
    assert modules - apart == set(contract["source_modules"]) - {"cvstudio"}


def test_the_pages_start_without_torch(studio_env: dict[str, str]) -> None:
    program = (
        "import sys, django; django.setup(); import cvstudio.asgi, cvstudio.urls; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], env=studio_env, cwd=REPOSITORY, check=True, timeout=60)
