"""A first batch for the form of a run, drawn by a short trainer process: the web process has no torch.

DATA_DIR/previews/{id} holds config.json, then batch.webp or error.txt, and goes away after an hour.
"""

import json
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from trainingapp.contract.run_directory import CONFIG_FILE, PREVIEW_FILE
from trainingapp.supervision.trainers import trainer_environment

ERROR_FILE = "error.txt"
OWNER_FILE = "owner.txt"
LONGEST_S = 120
KEPT_S = 3600


@dataclass(frozen=True)
class BatchPreview:
    """How a preview stands: neither an image nor an error means that it is being drawn."""

    image: Path | None = None
    error: str = ""


def prepare(config: dict[str, Any], dataset_dir: Path, owner_id: int) -> str:
    """Write down what is to be drawn, and for whom; returns the id."""
    preview_id = uuid.uuid4().hex
    folder = _folder(preview_id)
    folder.mkdir(parents=True)
    drawn = {**config, "start_from": "", "num_workers": 0}
    order = {"config": drawn, "dataset_dir": str(dataset_dir), "attempt": 0}
    (folder / OWNER_FILE).write_text(str(owner_id))
    (folder / CONFIG_FILE).write_text(json.dumps(order))
    return preview_id


def draw(preview_id: str) -> None:
    """Have the batch drawn; what goes wrong is written beside it."""
    folder = _folder(preview_id)
    if not folder.is_dir():
        return
    command = [sys.executable, "-m", "trainingapp.engine", "--preview", str(folder)]
    root = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(
            command, cwd=root, env=trainer_environment(), capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired:
        _fail(folder, _("Drawing the batch took more than %(seconds)d seconds.") % {"seconds": LONGEST_S})
        return
    if done.returncode:
        _fail(folder, (done.stderr.strip().splitlines() or [_("The batch could not be drawn.")])[-1])


def look(preview_id: str, owner_id: int | None) -> BatchPreview | None:
    """How it stands; None when there is no such preview (any more), or it is somebody else's."""
    folder = _folder(preview_id)
    owner = folder / OWNER_FILE
    if not owner.is_file() or owner.read_text() != str(owner_id):
        return None
    if (folder / PREVIEW_FILE).exists():
        return BatchPreview(image=folder / PREVIEW_FILE)
    error = folder / ERROR_FILE
    return BatchPreview(error=error.read_text() if error.exists() else "")


def remove_old() -> None:
    """Remove the previews that nobody can want any more."""
    for folder in _root().glob("*"):
        if folder.stat().st_mtime < time.time() - KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)


def _fail(folder: Path, message: str) -> None:
    temporary = folder / f"{ERROR_FILE}.tmp"
    temporary.write_text(message)
    temporary.replace(folder / ERROR_FILE)


def _root() -> Path:
    return Path(settings.DATA_DIR) / "previews"


def _folder(preview_id: str) -> Path:
    return _root() / uuid.UUID(hex=preview_id).hex
