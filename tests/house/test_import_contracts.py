"""The import contracts hold, and each of them detects a violation."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the packages that a test may change."""
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
    assert "3 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("models/run.py", "from trainingapp.runs import control", "The way down"),
        ("supervision/extra.py", "from trainingapp.worker import tasks", "The way down"),
        ("datasets/report.py", "from trainingapp.operations import checks", "The way down"),
        ("runs/records.py", "from trainingapp.worker import tasks", "The way down"),
        ("views/runs.py", "from trainingapp.admin import base", "The way down"),
        ("jobs/execution.py", "import trainingapp.engine.loop", "The way down"),
        ("helpers.py", "", "The way down"),
        ("engine/loop.py", "from trainingapp.supervision import trainers", "The engine has no Django"),
        ("engine/loop.py", "from django.conf import settings", "The engine has no Django"),
        ("engine/loop.py", "import huey", "The engine has no Django"),
        ("engine/loop.py", "import cvstudio.settings", "The engine has no Django"),
        ("contract/config.py", "import torch", "The contract has no torch and no Django"),
        ("contract/events.py", "import django", "The contract has no torch and no Django"),
    ],
)
def test_a_contract_detects(tree: Path, module: str, line: str, contract: str) -> None:
    append(tree / "trainingapp" / module, line)
    done = lint(tree)
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout


def test_only_the_engine_imports_torch() -> None:
    sources = [*(REPOSITORY / "trainingapp").rglob("*.py"), *(REPOSITORY / "cvstudio").rglob("*.py")]
    importers = {path.relative_to(REPOSITORY).as_posix() for path in sources if imports_torch(path)}
    assert importers
    assert {name for name in importers if not name.startswith("trainingapp/engine/")} == set()


def imports_torch(path: Path) -> bool:
    """Whether a file has an import of torch or torchvision, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        if {name.partition(".")[0] for name in names} & {"torch", "torchvision"}:
            return True
    return False


def test_the_pages_start_without_torch(studio_env: dict[str, str]) -> None:
    program = (
        "import sys, django; django.setup(); import cvstudio.asgi, cvstudio.urls; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], env=studio_env, cwd=REPOSITORY, check=True, timeout=60)
