"""The whole data folder becomes read-only, as after a disk error: it is reported clearly, and nothing is lost."""

import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.test_server_stop import logged_in
from tests.helpers.studio import Studio, wait_for

pytestmark = pytest.mark.slow

CONFIG: dict[str, Any] = {"epochs": 3000, "images": 48, "autosave_minutes": 0.02}


@pytest.fixture
def set_read_only(studio: Studio) -> Iterator[Callable[[bool], None]]:
    """A call makes DATA_DIR read-only, or writable again: permissions do not bind an administrator, a mount does.

    A mount over the folder does not affect open files. Files opened later are read-only.
    """
    folder = str(studio.data_dir)
    aside = f"{folder}-read-only"
    mounted: list[str] = []

    def set_(on: bool) -> None:
        if on:
            subprocess.run(["mount", "--bind", aside, folder], check=True)
            mounted.append(folder)
        elif mounted:
            subprocess.run(["umount", "-l", mounted.pop()], check=True)

    studio.data_dir.mkdir()
    Path(aside).mkdir()
    if subprocess.run(["mount", "--bind", folder, aside], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    # Made read-only beside the folder and then put over it, which takes that along: over the folder itself a process
    # can open a file before the mount is read-only, and then it cannot become so.
    subprocess.run(["mount", "-o", "remount,bind,ro", aside], check=True)
    yield set_
    set_(False)
    subprocess.run(["umount", "-l", aside], check=True)


def answer(opener: urllib.request.OpenerDirector, url: str, data: bytes | None = None) -> tuple[int, str]:
    try:
        with opener.open(url, data, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def check_it_continues(studio: Studio, run: int) -> None:
    """The run trains again, and every step was made and is shown once."""
    step = studio.run(run)["step"]
    studio.wait_for_step(run, step + 3)
    studio.manage("train", "stop", str(run))
    row = studio.wait_for_status(run, "stopped")
    points = [event for event in studio.events(run, "metrics") if event["data"]["split"] == "train"]
    assert [event["step"] for event in points if not event["superseded"]] == list(range(1, row["step"] + 1))


@pytest.mark.long
def test_a_running_run_waits_until_it_can_be_saved(studio: Studio, set_read_only: Callable[[bool], None]) -> None:
    studio.env["RETRY_WAIT_S"] = "0"
    (run,) = studio.prepare(**CONFIG)
    process = studio.start("--no-demo")
    studio.wait_for_step(run, 5)
    wait_for(lambda: studio.rows("SELECT 1 FROM trainingapp_checkpoint WHERE run_id = ?", run), 30, "a checkpoint")
    browser = logged_in(studio)
    set_read_only(True)
    wait_for(lambda: not studio.trainers(), 30, "the trainer could not save, and left")
    assert answer(browser, f"{studio.url}/runs/{run}/")[0] == 200, "it can still be looked at"
    status, page = answer(urllib.request.build_opener(), f"{studio.url}/readyz")
    assert (status, "Nothing can be written to" in page) == (503, True)
    refused = studio.manage("train", "pause", str(run), check=False)
    assert refused.returncode
    assert f"{studio.data_dir} cannot be written to" in refused.stderr
    doctor = studio.manage("doctor", check=False)
    assert doctor.returncode == 2
    assert "Read-only file system" in doctor.stdout
    assert process.poll() is None
    set_read_only(False)
    wait_for(lambda: studio.trainers(), 60, "a trainer takes it up again")
    check_it_continues(studio, run)
    row = studio.run(run)
    assert (row["attempt"], row["recoveries"]) == (2, 1), "waiting has cost nothing"
    (left,) = [event for event in studio.events(run, "status") if event["data"].get("state") == "failed"]
    assert left["data"]["error_class"] == "read_only"
    assert "No checkpoint was lost" in left["data"]["message"]


@pytest.mark.long
@pytest.mark.parametrize("command", ["studio", "run_huey", "web"])
def test_a_process_that_cannot_start_reports_why_in_a_few_lines(
    studio: Studio, set_read_only: Callable[[bool], None], command: str
) -> None:
    (run,) = studio.prepare(**CONFIG)
    set_read_only(True)
    process = studio.spawn(command)
    assert process.wait(60)
    said = studio.log.read_text()
    assert f"{studio.data_dir} cannot be written to" in said
    assert "Traceback" not in said
    set_read_only(False)
    studio.start("--no-demo")
    studio.wait_for_step(run, 1)
    check_it_continues(studio, run)


@pytest.mark.long
def test_a_running_web_server_keeps_answering(studio: Studio, set_read_only: Callable[[bool], None]) -> None:
    studio.prepare(start=False, **CONFIG)
    studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    set_read_only(True)
    with pytest.raises(urllib.error.HTTPError) as refused:
        logged_in(studio)
    assert refused.value.code == 503
    assert "Nothing can be written to the studio" in refused.value.read().decode()
    set_read_only(False)
    assert answer(logged_in(studio), f"{studio.url}/")[0] == 200
