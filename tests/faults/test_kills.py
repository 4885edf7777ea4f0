"""Each process is killed once during a run, and the run ends as if uninterrupted."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.helpers.startup import NEVER_SAVED, at_start
from tests.helpers.studio import Studio, wait_for
from trainingapp.contract.system_series import SYSTEM
from trainingapp.engine.checkpoint import load_checkpoint

HONEST_WITHIN_S = 15
EPOCHS = 3
#: Long enough to be hit in the middle; autosaves within an epoch, so that a kill finds one.
CONFIG: dict[str, Any] = {"epochs": EPOCHS, "autosave_minutes": 0.01, "keep_checkpoints": 2}
IMAGES = 144
STEPS = EPOCHS * IMAGES // 4

#: One process makes what the tests of this module share.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Any]]]:
    """The folder and the series of an uninterrupted run."""
    studio = Studio(tmp_path_factory.mktemp("undisturbed") / "data")
    try:
        (run,) = studio.prepare(images=IMAGES, **CONFIG)
        worker = studio.start_worker()
        studio.wait_for_status(run, "completed", 120)
        assert studio.stop(worker) == 0
        yield studio.data_dir / "runs" / str(run), curve(studio, run)
    finally:
        studio.cut_power()


def curve(studio: Studio, run: int) -> list[Any]:
    """What the charts show: split, step and values of every point that is not superseded, without the speed.

    What was measured of the machine is another thing each time.
    """
    points = [event for event in studio.events(run, "metrics") if not event["superseded"]]
    points = [event for event in points if event["data"]["split"] != SYSTEM]
    for event in points:
        event["data"]["values"].pop("images_per_s", None)
    return [(event["data"]["split"], event["step"], event["data"]["values"]) for event in points]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    content = load_checkpoint(folder / "checkpoints" / f"epoch_{EPOCHS}.pt")
    state: dict[str, torch.Tensor] = content["model_state_dict"]
    return state


def check_equal(studio: Studio, run: int, undisturbed: tuple[Path, list[Any]]) -> None:
    """The run is complete, and its weights, series and log are those of an uninterrupted run."""
    folder, expected = undisturbed
    ours, theirs = weights(studio.data_dir / "runs" / str(run)), weights(folder)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    points = curve(studio, run)
    assert [point[:2] for point in points if point[0] == "train"] == [("train", step) for step in range(1, STEPS + 1)]
    assert sorted(points, key=repr) == sorted(expected, key=repr)
    numbers = studio.numbers(run)
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def middle(studio: Studio, run: int) -> dict[str, Any]:
    """Wait until the run is in its middle and has a checkpoint."""
    row = studio.wait_for_step(run, STEPS // 3)
    assert row["status"] == "running"
    wait_for(lambda: studio.rows("SELECT 1 FROM trainingapp_checkpoint WHERE run_id = ?", run), 30, "a checkpoint")
    return row


def is_running_or_queued(studio: Studio, run: int, attempt: int) -> Any:
    row = studio.run(run)
    return row["attempt"] > attempt or row["status"] == "queued"


@pytest.mark.long
def test_trainer_killed(studio: Studio, undisturbed: tuple[Path, list[Any]]) -> None:
    (run,) = studio.prepare(images=IMAGES, **CONFIG)
    studio.start_worker()
    row = middle(studio, run)
    psutil.Process(row["pid"]).kill()
    wait_for(lambda: is_running_or_queued(studio, run, 1), HONEST_WITHIN_S, "the studio says that the trainer is lost")
    after = studio.wait_for_status(run, "completed", 120)
    assert (after["attempt"], after["recoveries"]) == (2, 1)
    check_equal(studio, run, undisturbed)


@pytest.mark.long
def test_worker_killed(studio: Studio, undisturbed: tuple[Path, list[Any]]) -> None:
    (run,) = studio.prepare(images=IMAGES, **CONFIG)
    worker = studio.start_worker()
    middle(studio, run)
    worker.kill()
    worker.wait()
    studio.start_worker()
    wait_for(lambda: is_running_or_queued(studio, run, 1), HONEST_WITHIN_S, "the run goes on with another worker")
    after = studio.wait_for_status(run, "completed", 120)
    assert after["recoveries"] == 1
    check_equal(studio, run, undisturbed)


@pytest.mark.long
def test_power_cut(studio: Studio, undisturbed: tuple[Path, list[Any]]) -> None:
    (run,) = studio.prepare(images=IMAGES, **CONFIG)
    studio.start_worker()
    middle(studio, run)
    studio.cut_power()
    assert studio.status(run) == "running", "nobody was left to write anything else"
    with (studio.data_dir / "runs" / str(run) / "events.jsonl").open("a") as file:
        file.write('{"type": "metr')
    studio.start_worker()
    wait_for(lambda: is_running_or_queued(studio, run, 1), HONEST_WITHIN_S, "the next start goes on with the run")
    studio.wait_for_status(run, "completed", 120)
    check_equal(studio, run, undisturbed)


@pytest.mark.long
def test_worker_stopped(studio: Studio, undisturbed: tuple[Path, list[Any]]) -> None:
    (run,) = studio.prepare(images=IMAGES, **CONFIG)
    worker = studio.start_worker()
    middle(studio, run)
    assert studio.stop(worker, signal.SIGTERM, timeout_s=15) == 0
    row = studio.run(run)
    assert (row["status"], row["recoveries"], row["requested_action"]) == ("queued", 0, "")
    assert not studio.trainers()
    (last,) = studio.rows("SELECT step FROM trainingapp_checkpoint WHERE run_id = ? AND is_last", run)
    assert last["step"] == row["step"], "nothing has to be made again"
    studio.start_worker()
    studio.wait_for_status(run, "completed", 120)
    check_equal(studio, run, undisturbed)


def left_cause(studio: Studio, run: int) -> list[str]:
    """Why the run was queued again, for each time."""
    moves = [event["data"] for event in studio.events(run, "status") if event["data"].get("to") == "queued"]
    return [move["cause"] for move in moves if move.get("from") == "running"]


@pytest.mark.long
def test_worker_that_leaves_hands_its_run_to_another(studio: Studio, undisturbed: tuple[Path, list[Any]]) -> None:
    (run,) = studio.prepare(images=IMAGES, **CONFIG)
    first = studio.start_worker("--once", HOST_NAME="barn")
    assert middle(studio, run)["host"] == "barn"
    studio.start_worker(HOST_NAME="shed")
    wait_for(lambda: studio.host("shed"), 60, "the other worker reports")
    first.send_signal(signal.SIGUSR1)
    assert studio.stop(first, signal.SIGTERM) == 0, "a second signal changes nothing"
    assert (studio.host("barn")["state"], studio.host("shed")["state"]) == ("left", "working")
    row = studio.wait_for_status(run, "completed", 120)
    assert (row["host"], row["attempt"], row["recoveries"]) == ("shed", 2, 0)
    assert left_cause(studio, run) == ["left"]
    assert not studio.rows("SELECT * FROM trainingapp_journalentry"), "nothing was recovered"
    check_equal(studio, run, undisturbed)


@pytest.mark.long
def test_host_taken_away_before_its_run_was_saved(
    studio: Studio, tmp_path: Path, undisturbed: tuple[Path, list[Any]]
) -> None:
    at_start(studio, tmp_path / "hook", NEVER_SAVED)
    (run,) = studio.prepare(images=IMAGES, **CONFIG)
    first = studio.start_worker("--once", HOST_NAME="barn", LEAVE_GRACE_S="600")
    middle(studio, run)
    first.send_signal(signal.SIGTERM)
    wait_for(lambda: studio.host("barn")["state"] == "leaving", 15, "the worker is leaving")
    studio.cut_power()
    studio.start_worker(HOST_NAME="shed")
    row = studio.wait_for_status(run, "completed", 120)
    assert (row["host"], row["attempt"], row["recoveries"]) == ("shed", 2, 1)
    check_equal(studio, run, undisturbed)
