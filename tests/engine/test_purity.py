"""The engine does not import Django, and the contract, which the web process imports, does not import torch."""

import subprocess
import sys

import pytest

LIGHT = ["config", "events", "dataset_index", "disk_space", "messages", "schedule_preview", "script"]


def _loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_trainer_imports_no_django() -> None:
    loaded = _loaded_by("trainingapp.engine.__main__, trainingapp.engine.loop, trainingapp.engine.spare")
    assert "torch" in loaded
    assert not loaded & {"django", "huey", "channels", "redis", "psutil", "cvstudio"}


@pytest.mark.parametrize("name", LIGHT)
def test_the_contract_loads_no_torch(name: str) -> None:
    assert not _loaded_by(f"trainingapp.contract.{name}") & {"torch", "torchvision", "numpy"}
