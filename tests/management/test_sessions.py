"""The sessions in docs/ work as documented, from the first line to the last."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers.studio import REPOSITORY, Studio, studio  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_a_network_is_trained_with_manage_py_only(studio: Studio, tmp_path: Path) -> None:  # noqa: F811
    studio.migrate()
    studio.python(
        "from django.contrib.auth.models import User\nresult = User.objects.create_superuser('admin').pk",
    )
    studio.start_worker()
    done = subprocess.run(
        ["bash", "docs/sessions/manage.sh", sys.executable, str(tmp_path)],
        cwd=REPOSITORY,
        env=studio.env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "epoch 2" in done.stdout
    (run,) = studio.rows("SELECT * FROM trainingapp_trainingrun")
    assert (run["status"], run["epoch"], run["total_epochs"]) == ("completed", 3, 3)
    assert {"README.md", "model.onnx", "predict.py"} <= set(zipfile.ZipFile(tmp_path / "export.zip").namelist())
