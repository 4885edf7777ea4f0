import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.trainers import dataset_dir, new_run, start, straight_run  # noqa: F401


@pytest.fixture(autouse=True)
def _step_ahead_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends early leaves out the step that verifies its resumption where steps take seconds."""
    monkeypatch.setattr("trainingapp.engine.loop.LONGEST_STEP_AHEAD_S", math.inf)


@pytest.fixture(scope="session")
def plain_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with numpy, pillow, onnxruntime and openvino alone."""
    folder = tmp_path_factory.mktemp("venv") / "env"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    wanted = ["numpy", "pillow", "onnxruntime", "openvino"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True, cwd=folder)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, cwd=folder).returncode == 1
    return python
