"""The drill that users run, as a soak test: kills change nothing. The long one makes twenty, over all tasks."""

import json
import subprocess
import sys

import pytest

from tests.helpers.studio import REPOSITORY, Studio
from trainingapp.operations.drill.comparison import Facts, differences

pytestmark = pytest.mark.slow

TASKS = ("classification", "detection", "segmentation", "instances")


@pytest.mark.long
@pytest.mark.parametrize(
    ("kills", "tasks"),
    [(1, ("classification",)), (20, TASKS)],
    ids=["short", "long"],
)
def test_kills_change_nothing(studio: Studio, kills: int, tasks: tuple[str, ...]) -> None:
    chosen = [part for task in tasks for part in ("--task", task)]
    command = [sys.executable, "manage.py", "drill", "--kills", str(kills), *chosen, "--json"]
    done = subprocess.run(command, cwd=REPOSITORY, env=studio.env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["certified"]
    assert sum(report["kills"].values()) == kills
    assert report["durable_s"]["worst"] is not None
    if kills > 10:
        assert report["kills"]["trainer_after_epoch"]
        assert report["lost_steps"]["worst"] <= report["lost_steps"]["promised"]
    assert set(report["runs"]) == set(tasks)
    assert not (studio.data_dir / "runs").exists()  # the studio's own data is not touched


def test_the_comparison_finds_differences() -> None:
    points = [(1, "train", ("loss", 0.5)), (2, "train", ("loss", 0.25))]
    one = Facts({"model_state_dict": "a"}, points, {"epoch_1.json": "x"})
    assert differences(one, one) == []
    assert differences(Facts({"model_state_dict": "b"}, points, one.evaluations), one) == ["model_state_dict differs"]
    assert len(differences(Facts(one.weights, points[:1], one.evaluations), one)) == 1
    assert len(differences(Facts(one.weights, [*points, points[0]], one.evaluations), one)) == 1
    nothing = Facts(one.weights, [], one.evaluations)
    assert len(differences(nothing, nothing)) == 1
    assert differences(Facts(one.weights, points, {}), one) == ["evaluations differ"]
