"""The first batch of a run, drawn before it exists."""

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image


def _drawn(run_dir: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The job for the run that the config.json of `run_dir` describes, done in `folder`."""
    order = json.loads((run_dir / "config.json").read_text())
    params = {name: order[name] for name in ("config", "dataset_dir")}
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({"kind": "batch_preview", "params": params}))
    command = [sys.executable, "-m", "trainingapp.engine", "--job", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_batch_is_drawn(new_run, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    done = _drawn(new_run(augmentation="strong", mixup=0.2), folder)
    assert done.returncode == 0, done.stderr
    with Image.open(folder / "batch.webp") as sheet:
        assert sheet.width > 4 * 192
    assert json.loads((folder / "result.json").read_text()) == {"file": "batch.webp"}


def test_an_error_is_reported_in_a_line(new_run, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    assert _drawn(new_run(dataset_dir=tmp_path / "nowhere"), folder).returncode == 1
    error = json.loads((folder / "error.json").read_text())
    assert (error["error_class"], "\n" in error["message"]) == ("bad_data", False)
    assert error["message"].endswith("dataset.json: the file is missing.")
