"""A process of a run on two devices is killed: all of them end, the devices are free, and the run ends as on one."""

import signal
from typing import Any

import psutil
import pytest
import torch

from tests.faults.test_kills import curve, is_running_or_queued
from tests.helpers.studio import TINY, Studio, wait_for
from trainingapp.engine.checkpoint import load_checkpoint

EPOCHS, IMAGES, BATCH = 3, 144, 4
CONFIG: dict[str, Any] = {
    "epochs": EPOCHS,
    "autosave_minutes": 0.01,
    "keep_checkpoints": 2,
    "device": "cpu",
    # Two batches of half the size for each optimizer step, one for each rank.
    "batch_size": BATCH // 2,
    "accumulation_steps": 2,
    "cpu_threads": 1,
}
STEPS = EPOCHS * IMAGES // BATCH
#: Seconds until no process of the attempt is left and its devices are free.
FREE_WITHIN_S = 3.0

pytestmark = [pytest.mark.slow, pytest.mark.long]


def ranks(studio: Studio, parent: int) -> list[psutil.Process]:
    """The processes that rank 0 has started for the other ranks."""
    return [found for found in studio.find("--rank") if found.ppid() == parent]


def held(studio: Studio, attempt: int) -> list[dict[str, Any]]:
    sql = "SELECT slots FROM trainingapp_devicehold WHERE attempt = ? AND released_at IS NULL"
    return studio.rows(sql, attempt)


def weights(studio: Studio, run: int, epochs: int = EPOCHS) -> dict[str, torch.Tensor]:
    content = load_checkpoint(studio.data_dir / "runs" / str(run) / "checkpoints" / f"epoch_{epochs}.pt")
    state: dict[str, torch.Tensor] = content["model_state_dict"]
    return state


@pytest.mark.parametrize("victim", ["first rank", "second rank"])
def test_a_killed_rank_ends_the_attempt_and_the_run_ends_as_on_one_device(studio: Studio, victim: str) -> None:
    (run,) = studio.prepare(images=IMAGES, **CONFIG, device_count=2)
    studio.start_worker()
    row = studio.wait_for_step(run, STEPS // 3, 240)
    wait_for(lambda: studio.rows("SELECT 1 FROM trainingapp_checkpoint WHERE run_id = ?", run), 30, "a checkpoint")
    assert held(studio, 1) == [{"slots": 2}]
    (second,) = ranks(studio, row["pid"])
    attempt = [psutil.Process(row["pid"]), second]
    attempt[victim == "second rank"].send_signal(signal.SIGKILL)
    wait_for(lambda: not any(map(is_alive, attempt)), FREE_WITHIN_S, "no process of the attempt is left")
    wait_for(lambda: not held(studio, 1), FREE_WITHIN_S, "its devices are free")
    wait_for(lambda: is_running_or_queued(studio, run, 1), FREE_WITHIN_S, "the run is queued again")
    after = studio.wait_for_status(run, "completed", 240)
    assert (after["attempt"], after["recoveries"]) == (2, 1)
    log = [event["data"] for event in studio.events(run, "status") if event["data"].get("to") == "queued"]
    assert log[-1]["error_class"] == ("lost_rank" if victim == "second rank" else "lost_trainer")
    single = studio.python(
        f"""
        from tests.helpers.tiny import make_run
        from django.contrib.auth.models import User
        from trainingapp.models import Dataset
        result = make_run(User.objects.get(), Dataset.objects.get(), start=True, **{ {**TINY, **CONFIG}!r}).pk
        """
    )
    studio.wait_for_status(single, "completed", 240)
    ours, theirs = weights(studio, run), weights(studio, single)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert sorted(curve(studio, run), key=repr) == sorted(curve(studio, single), key=repr)
    assert not studio.find("--rank")


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
