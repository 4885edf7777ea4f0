"""Workers that stay for a while only: they leave by themselves, and what they had continues elsewhere."""

import signal
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.startup import NEVER_SAVED, at_start
from tests.helpers.studio import PATIENCE, REPOSITORY, Studio, wait_for

pytestmark = pytest.mark.slow

LONG: dict[str, Any] = {"epochs": 2000, "autosave_minutes": 0.01}


def test_without_work_it_leaves(studio: Studio) -> None:
    studio.migrate()
    worker = studio.start_worker("--once", "--idle-seconds", "0", HOST_NAME="barn")
    assert worker.wait(PATIENCE * 60) == 0
    host = studio.host("barn")
    assert (host["state"], host["is_temporary"]) == ("left", 1)
    assert "This worker leaves: there has been nothing to do for 0 s" in studio.log.read_text()


@pytest.mark.long
def test_it_trains_what_is_queued_and_then_leaves(studio: Studio) -> None:
    runs = studio.prepare(runs=2, epochs=1)
    waiting: int = studio.python(
        """
        from tests.helpers.tiny import make_run
        from trainingapp.models import TrainingRun
        run = TrainingRun.objects.first()
        result = make_run(run.owner, run.dataset, start=True, **{**run.config, "device": "cuda"}).pk
        """
    )
    worker = studio.start_worker("--once", "--idle-seconds", "0", MAX_TRAINING_PROCESSES="1")
    assert worker.wait(PATIENCE * 120) == 0
    assert [studio.status(run) for run in runs] == ["completed", "completed"]
    assert studio.status(waiting) == "queued", "it fits no device of this host"
    assert not studio.all_processes()


@pytest.mark.long
def test_after_its_time_it_gives_its_run_back(studio: Studio) -> None:
    (run,) = studio.prepare(**LONG)
    began = time.monotonic()
    worker = studio.start_worker("--leave-after", "0.5", HOST_NAME="barn")
    assert worker.wait(PATIENCE * 90) == 0
    assert time.monotonic() - began >= 30, "not before its time"
    row = studio.run(run)
    assert (row["status"], row["recoveries"], row["requested_action"]) == ("queued", 0, "")
    assert row["attempt"] <= 1, "nothing is taken twice"
    assert studio.host("barn")["state"] == "left"
    assert not studio.all_processes()


@pytest.mark.long
def test_a_trainer_that_cannot_save_is_killed_within_the_grace(studio: Studio, tmp_path: Path) -> None:
    at_start(studio, tmp_path / "hook", NEVER_SAVED)
    (run,) = studio.prepare(**LONG)
    worker = studio.start_worker("--once", HOST_NAME="barn", LEAVE_GRACE_S="5")
    studio.wait_for_step(run, 3)
    worker.send_signal(signal.SIGUSR1)
    wait_for(lambda: studio.host("barn")["state"] == "leaving", 15, "the worker is leaving")
    assert studio.status(run) == "running"
    assert worker.wait(PATIENCE * 30) == 0
    row = studio.run(run)
    assert (row["status"], row["recoveries"]) == ("queued", 0)
    assert studio.host("barn")["state"] == "left"
    assert not studio.trainers()


@pytest.mark.long
def test_a_signal_for_all_processes_is_no_failure_of_the_run(studio: Studio) -> None:
    """As `scancel` sends it."""
    (run,) = studio.prepare(**LONG)
    worker = studio.start_worker("--once")
    studio.wait_for_step(run, 3)
    psutil.Process(studio.run(run)["pid"]).terminate()
    assert studio.stop(worker, signal.SIGTERM) == 0
    row = studio.run(run)
    assert (row["status"], row["recoveries"]) == ("queued", 0)


#: The engine process of a job says that it has begun, and waits until it may continue.
WAITING_JOB = """
import sys
if "--job" in sys.orig_argv:
    import os, pathlib, time
    folder = pathlib.Path(os.environ["DATA_DIR"])
    (folder / "begun").touch()
    while not (folder / "may continue").exists():
        time.sleep(0.05)
"""


@pytest.mark.long
@pytest.mark.parametrize("is_for_all", [False, True])
def test_a_job_is_returned_and_done_by_the_next_worker(studio: Studio, tmp_path: Path, is_for_all: bool) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(textwrap.dedent(WAITING_JOB))
    studio.env["PYTHONPATH"] = f"{tmp_path / 'hook'}:{REPOSITORY}"
    studio.prepare(start=False)
    studio.python(
        """
        from trainingapp.contract.config import parse_config
        from trainingapp.models import TrainingRun
        from trainingapp.runs.records import preview_batch
        run = TrainingRun.objects.get()
        preview_batch(run.dataset, parse_config(run.config), owner=run.owner)
        """
    )
    worker = studio.start_worker("--once")
    wait_for((studio.data_dir / "begun").exists, 60, "the job has begun")
    if is_for_all:
        (engine,) = studio.find("--job")
        engine.terminate()
    assert studio.stop(worker, signal.SIGTERM) == 0
    assert job(studio) == ("waiting", 0)
    assert not studio.all_processes()
    (studio.data_dir / "may continue").touch()
    worker = studio.start_worker("--once", "--idle-seconds", "0")
    assert worker.wait(PATIENCE * 60) == 0
    assert job(studio) == ("done", 1)


def job(studio: Studio) -> tuple[str, int]:
    """The state of the only job, and how many attempts count."""
    (row,) = studio.rows("SELECT state, tries FROM trainingapp_job")
    return row["state"], row["tries"]
