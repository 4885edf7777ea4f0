"""The first batch of a run, drawn before it exists."""

import subprocess
import sys
from pathlib import Path

from PIL import Image


def _preview(run_dir: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainingapp.engine", "--preview", str(run_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_batch_is_drawn(new_run) -> None:
    run_dir = new_run(augmentation="strong", mixup=0.2)
    done = _preview(run_dir)
    assert done.returncode == 0, done.stderr
    with Image.open(run_dir / "batch.webp") as sheet:
        assert sheet.width > 4 * 192
    assert {path.name for path in run_dir.iterdir()} == {"config.json", "batch.webp"}


def test_what_is_wrong_is_said_in_a_line(new_run, tmp_path: Path) -> None:
    done = _preview(new_run(dataset_dir=tmp_path / "nowhere"))
    assert done.returncode == 1
    assert done.stderr.strip().endswith("dataset.json: the file is missing.")
    assert "Traceback" not in done.stderr
