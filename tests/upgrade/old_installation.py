"""An installation made by the code of version 0.1, taken from the git history: its database, its runs and their files.

python -m tests.upgrade.old_installation FOLDER    creates one for inspection in FOLDER/data (and DATABASE_URL, if set)
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.studio import PATIENCE, REPOSITORY, Studio

#: The last commit of version 0.1.
COMMIT = "2b44a5f"
IMAGES = 160
CONFIG: dict[str, Any] = {"epochs": 3, "autosave_minutes": 0.01, "keep_checkpoints": 3}
#: Steps after which the run is requested to pause: within its second epoch of 40 steps.
PAUSE_AFTER = 45

#: The scene of the old browser tests. It is only for display: a worker must not treat its running run as lost.
SCENE = """
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from tests.e2e.test_every_page import SCENE
from trainingapp.models import TrainingRun
User.objects.create_superuser("admin", password="correct horse")
scope = {}
exec(SCENE, scope)
pages = scope["result"]
later = timezone.now() + timedelta(days=1)
TrainingRun.objects.filter(status="running").update(heartbeat_at=later)
TrainingRun.objects.filter(status="queued").update(not_before=later)
"""
#: Runs that really train, in addition to those of the scene: one to its end, one that is paused.
TRAIN = f"""
from tests.studio import TINY
from tests.tiny import make_dataset, make_run
admin = User.objects.get()
dataset = make_dataset(admin, "trained on", pictures={IMAGES})
config = {{**TINY, **{CONFIG!r}}}
trained = [make_run(admin, dataset, name, start=True, **config).pk for name in ("undisturbed", "paused midway")]
"""


#: Observes the runs in one process, since starting a command for each look would take longer than the training.
OBSERVE = f"""
import time
from trainingapp.models import TrainingRun
def wait_until(run, is_reached, what):
    deadline = time.monotonic() + {PATIENCE * 240}
    while not is_reached(row := TrainingRun.objects.get(pk=run)):
        assert row.status != "failed" and time.monotonic() < deadline, (
            f"run {{run}}: {{what}}; it is {{row.status}} at step {{row.step}}: {{row.error_message}}"
        )
        time.sleep(0.05)
"""
PAUSE = f"""
{OBSERVE}
from trainingapp import lifecycle
wait_until(paused, lambda run: run.step >= {PAUSE_AFTER}, "it has not come to the step of the pause")
lifecycle.pause_run(TrainingRun.objects.get(pk=paused))
wait_until(paused, lambda run: run.status == "paused", "it is not paused")
wait_until(completed, lambda run: run.status == "completed", "it is not completed")
result = [TrainingRun.objects.get(pk=run).step for run in (paused, completed)]
"""


#: [[run, number, attempt, epoch, step, data], ...]
POINTS = """
from trainingapp.models import RunEvent
rows = RunEvent.objects.filter(type="metrics", superseded=False).order_by("run", "seq")
result = [list(row) for row in rows.values_list("run", "seq", "attempt", "epoch", "step", "data")]
"""


@dataclass(frozen=True)
class OldInstallation:
    """The studio as run by the old code, and its content."""

    studio: Studio
    #: URLs of every page of the old version, with rows of every kind.
    pages: list[str]
    completed_run: int
    paused_run: int
    #: Every metric point of every run, as stored by the old version.
    points: list[Any]


def has_history() -> bool:
    """Whether the commit is in the history of this checkout; an archive or a shallow clone has none."""
    found = subprocess.run(["git", "cat-file", "-e", f"{COMMIT}^{{commit}}"], cwd=REPOSITORY, capture_output=True)
    return found.returncode == 0


def extract(folder: Path) -> Path:
    """Write the files of the old version into `folder`."""
    archive = subprocess.run(["git", "archive", COMMIT], cwd=REPOSITORY, capture_output=True, check=True).stdout
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def make_old_installation(folder: Path, **env: str) -> OldInstallation:
    """Create an installation in FOLDER/data with the code in FOLDER/code: scenes of every page and two trained runs."""
    code = extract(folder / "code")
    studio = Studio(folder / "data", code, **{"PYTHONPATH": str(code), **env})
    studio.manage("migrate", "-v0", "--skip-checks")
    pages, (completed, paused) = studio.python(f"{SCENE}\n{TRAIN}\nresult = [pages, trained]")
    worker = studio.start_worker()
    try:
        paused_at, completed_at = studio.python(f"paused, completed = {paused}, {completed}\n{PAUSE}")
        assert paused_at < completed_at
    finally:
        studio.stop(worker)
    return OldInstallation(studio, pages, completed, paused, studio.python(POINTS))


def shown(studio: Studio, run: int) -> dict[str, Any]:
    """The output of `manage.py train show --json` for a run, on any database."""
    found: dict[str, Any] = json.loads(studio.manage("train", "show", str(run), "--json").stdout)
    return found


if __name__ == "__main__":
    env = {name: os.environ[name] for name in ("DATABASE_URL",) if name in os.environ}
    made = make_old_installation(Path(sys.argv[1]).resolve(), **env)
    print(f"completed run {made.completed_run}, paused run {made.paused_run}, {len(made.pages)} pages")
