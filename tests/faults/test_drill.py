"""The drill that users run, as a soak test: kills over the three tasks change nothing. The long one makes twenty."""

import json
import subprocess
import sys

import pytest

from tests.helpers.studio import REPOSITORY, Studio
from trainingapp.operations.drill.comparison import Facts, differences

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
def test_kills_change_nothing(studio: Studio, kills: int) -> None:
    command = [sys.executable, "manage.py", "drill", "--kills", str(kills), "--json"]
    done = subprocess.run(command, cwd=REPOSITORY, env=studio.env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["certified"]
    assert sum(report["kills"].values()) == kills
    assert set(report["runs"]) == {"classification", "detection", "segmentation"}
    assert not (studio.data_dir / "runs").exists()  # the studio's own data is not touched


def test_the_comparison_finds_differences() -> None:
    points = [(1, "train", ("loss", 0.5)), (2, "train", ("loss", 0.25))]
    one = Facts({"model_state_dict": "a"}, points, {"epoch_1.json": "x"})
    assert differences(one, one) == []
    assert differences(Facts({"model_state_dict": "b"}, points, one.evaluations), one) == ["model_state_dict differs"]
    assert len(differences(Facts(one.weights, points[:1], one.evaluations), one)) == 1
    assert len(differences(Facts(one.weights, [*points, points[0]], one.evaluations), one)) == 1
    assert differences(Facts(one.weights, points, {}), one) == ["evaluations differ"]
