"""The whole studio: stopped, its web server killed, its parent killed."""

import signal
import socket
from typing import Any

import pytest

from tests.helpers.studio import Studio, wait_for

pytestmark = pytest.mark.slow

LONG: dict[str, Any] = {"epochs": 2000, "autosave_minutes": 0.01}


def start_training(studio: Studio, **config: Any) -> tuple[int, Any]:
    """A studio that trains a run: the run's number and the parent process."""
    (run,) = studio.prepare(**{**LONG, **config})
    parent = studio.start("--no-demo")
    studio.wait_for_step(run, 5)
    return run, parent


def announced(studio: Studio) -> int:
    return studio.log.read_text().count(f"CV Studio is at {studio.url}/")


@pytest.mark.long
def test_stopping_it_loses_no_run_and_the_next_start_resumes(studio: Studio) -> None:
    run, parent = start_training(studio, epochs=20)
    wait_for(lambda: announced(studio) == 1, 10, "it says where it is")
    assert studio.stop(parent) == 0
    assert not studio.all_processes()
    row = studio.run(run)
    assert (row["status"], row["recoveries"]) == ("queued", 0)
    assert "waiting for try to save" in studio.log.read_text()
    again = studio.start("--no-demo")
    studio.wait_for_status(run, "completed", 120)
    (started,) = [event for event in studio.events(run, "status") if event["data"].get("state") == "started"][1:]
    assert started["step"] == row["step"]
    assert studio.stop(again, signal.SIGTERM) == 0
    assert not studio.all_processes()


@pytest.mark.long
def test_the_first_start_serves_while_demo_scenes_are_drawn(studio: Studio) -> None:
    studio.migrate()
    marker = studio.data_dir / "demo.preparing"
    parent = studio.start()
    wait_for(marker.exists, 30, "the demo scenes are being prepared")
    assert studio.answers()
    assert not studio.rows("SELECT id FROM trainingapp_dataset WHERE status = 'ready'")
    assert studio.stop(parent) == 0
    assert not studio.all_processes()
    assert not marker.exists()
    assert "Ending immediately" not in studio.log.read_text()


@pytest.mark.long
def test_killed_children_are_restarted_and_end_with_their_parent(studio: Studio) -> None:
    run, parent = start_training(studio)
    (web,) = studio.find("web")
    web.kill()
    wait_for(lambda: [found for found in studio.find("web") if found.pid != web.pid] and studio.answers(), 30, "web")
    assert "web server ended unexpectedly (SIGKILL)" in studio.log.read_text()
    step = studio.run(run)["step"]
    studio.wait_for_step(run, step + 5)
    assert studio.run(run)["attempt"] == 1, "training went on without the web server"

    (worker,) = studio.find("run_huey")
    worker.kill()
    wait_for(lambda: studio.run(run)["attempt"] == 2, 15, "the run goes on with a new worker")
    wait_for(lambda: studio.run(run)["phase"] == "train", 30, "the run trains")
    assert len(studio.trainers()) == 1

    parent.kill()
    parent.wait()
    wait_for(lambda: not studio.all_processes(), 15, "web server, worker and trainer have ended")
    row = studio.run(run)
    assert (row["status"], row["recoveries"]) == ("queued", 1)


def test_a_port_in_use_is_named(studio: Studio) -> None:
    with socket.create_server(("127.0.0.1", studio.port)):
        done = studio.manage("studio", "--no-demo", check=False)
    assert done.returncode == 1
    assert f"PORT: 127.0.0.1:{studio.port}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (studio.data_dir / "studio.sqlite3").exists(), "nothing was begun"
