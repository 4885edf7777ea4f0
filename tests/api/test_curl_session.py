"""The session in docs/sessions/curl.sh, unchanged, against a studio with a worker that trains."""

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.helpers.sources import two_classes, write_zip
from tests.helpers.studio import REPOSITORY, Studio, studio  # noqa: F401  studio is a fixture

SESSION = REPOSITORY / "docs" / "sessions" / "curl.sh"


def run_session(installation: Studio, images: Path, folder: Path, token: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "URL": installation.url, "TOKEN": token}
    command = ["bash", "-eu", str(SESSION), str(images), str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.long
def test_the_session_trains_watches_and_exports(studio: Studio, tmp_path: Path) -> None:  # noqa: F811
    studio.migrate()
    studio.manage("createsuperuser", "--noinput", "--username", "admin", "--email", "admin@example.org")
    token = studio.manage("token", "create", "session", "--scope", "read", "--scope", "control").stdout.strip()
    studio.start("--no-demo")
    images = write_zip(tmp_path / "images.zip", two_classes(12))
    done = run_session(studio, images, tmp_path, token)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{studio.log.read_text()[-3000:]}"
    assert "The run is now completed" in done.stdout
    assert '"top1": ' in done.stdout
    assert zipfile.is_zipfile(tmp_path / "best.pt")  # as torch.save writes it
    with zipfile.ZipFile(tmp_path / "export.zip") as export:
        assert any(name.endswith("model.onnx") for name in export.namelist())


@pytest.mark.long
def test_an_invalid_token_ends_the_session_with_the_reason(studio: Studio, tmp_path: Path) -> None:  # noqa: F811
    studio.migrate()
    studio.start("--no-demo")
    done = run_session(studio, write_zip(tmp_path / "images.zip", two_classes(2)), tmp_path, "cvs_wrong")
    assert done.returncode != 0
    assert "unknown, expired or revoked" in done.stderr + done.stdout
