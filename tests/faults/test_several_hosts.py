"""One run on two hosts: two workers of other names on this machine, which share the database and the data folder."""

import signal
import subprocess
from typing import Any

import psutil
import pytest
import torch

from tests.faults.test_kills import curve
from tests.faults.test_lost_ranks import is_alive, weights
from tests.helpers.studio import TINY, Studio, wait_for

EPOCHS, IMAGES, BATCH = 3, 144, 4
CONFIG: dict[str, Any] = {
    "epochs": EPOCHS,
    "autosave_minutes": 0.01,
    "keep_checkpoints": 2,
    # Two batches of half the size for each optimizer step, one for each rank.
    "batch_size": BATCH // 2,
    "accumulation_steps": 2,
}
TOGETHER: dict[str, Any] = {"device_count": 2, "hosts_at_most": 2}
STEPS = EPOCHS * IMAGES // BATCH
#: Seconds until no process of the attempt is left.
GONE_WITHIN_S = 10.0

pytestmark = pytest.mark.slow


def start_worker_on(studio: Studio, host: str) -> "subprocess.Popen[bytes]":
    """A worker with one CPU slot, which takes itself for one on the host of that name."""
    return studio.start_worker(HOST_NAME=host, CLUSTER_INTERFACE="lo", MAX_TRAINING_PROCESSES="1")


def shares(studio: Studio, attempt: int) -> list[dict[str, Any]]:
    return studio.rows("SELECT * FROM trainingapp_runshare WHERE attempt = ? ORDER BY node_rank", attempt)


def trained_alone(studio: Studio, images: int, **config: Any) -> int:
    """A run of this configuration on one device of one host, once it is completed."""
    run: int = studio.python(
        f"""
        from tests.helpers.tiny import make_run
        from django.contrib.auth.models import User
        from trainingapp.models import Dataset
        result = make_run(User.objects.get(), Dataset.objects.get(), start=True, **{ {**TINY, **config}!r}).pk
        """
    )
    studio.wait_for_status(run, "completed", 240)
    return run


def assert_same(studio: Studio, run: int, other: int, epochs: int) -> None:
    ours, theirs = weights(studio, run, epochs), weights(studio, other, epochs)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert sorted(curve(studio, run), key=repr) == sorted(curve(studio, other), key=repr)


def test_two_hosts_give_the_result_of_one_device(studio: Studio) -> None:
    config = {**CONFIG, "epochs": 1}
    (run,) = studio.prepare(images=24, **config, **TOGETHER)
    for host in ("barn", "shed"):
        start_worker_on(studio, host)
    row = studio.wait_for_status(run, "completed", 240)
    assert row["attempt"] == 1
    leader, other = shares(studio, 1)
    assert {leader["host"], other["host"]} == {"barn", "shed"}
    assert row["host"] == leader["host"]
    assert row["device"] == f"cpu … {other['host']}/cpu"
    assert (leader["exit_code"], other["exit_code"]) == (0, 0)
    assert leader["address"].startswith("127.0.0.1:")
    held = studio.rows("SELECT device_id, slots, released_at IS NULL AS is_open FROM trainingapp_devicehold")
    assert [(hold["slots"], hold["is_open"]) for hold in held] == [(1, 0), (1, 0)]
    assert len({hold["device_id"] for hold in held}) == 2
    assert not studio.find("--rank")
    assert_same(studio, run, trained_alone(studio, 24, **config), epochs=1)


@pytest.mark.long
@pytest.mark.parametrize("victim", ["worker of rank 0", "other worker", "other rank"])
def test_what_is_lost_of_two_hosts_costs_nothing(studio: Studio, victim: str) -> None:
    (run,) = studio.prepare(images=IMAGES, **CONFIG, **TOGETHER)
    workers = {host: start_worker_on(studio, host) for host in ("barn", "shed")}
    row = studio.wait_for_step(run, STEPS // 3, 240)
    wait_for(lambda: studio.rows("SELECT 1 FROM trainingapp_checkpoint WHERE run_id = ?", run), 30, "a checkpoint")
    leader, other = shares(studio, 1)
    attempt = [psutil.Process(row["pid"]), psutil.Process(other["pid"])]
    if victim == "other rank":
        attempt[1].send_signal(signal.SIGKILL)
    else:
        lost = leader["host"] if victim == "worker of rank 0" else other["host"]
        kill_with_children(workers[lost].pid)
        start_worker_on(studio, lost)
    wait_for(lambda: not any(map(is_alive, attempt)), GONE_WITHIN_S, "no process of the attempt is left")
    after = studio.wait_for_status(run, "completed", 480)
    assert after["attempt"] == 2
    log = [event["data"] for event in studio.events(run, "status") if event["data"].get("to") == "queued"]
    assert log[-1]["error_class"] == ("lost_worker" if victim == "worker of rank 0" else "lost_rank")
    if victim != "worker of rank 0":
        expected = {"other worker": "rank_host_silent", "other rank": "rank_share_lost"}[victim]
        assert expected in repr(log[-1])
        assert other["host"] in log[-1]["message"]
    assert len(shares(studio, 2)) == 2
    assert not studio.rows("SELECT 1 FROM trainingapp_runshare WHERE ended_at IS NULL")
    assert_same(studio, run, trained_alone(studio, IMAGES, **CONFIG), EPOCHS)


def kill_with_children(pid: int) -> None:
    """SIGKILL to a worker and everything below it, as where a host loses its power."""
    worker = psutil.Process(pid)
    for process in (worker, *worker.children(recursive=True)):
        process.send_signal(signal.SIGKILL)


@pytest.mark.long
def test_a_worker_that_is_stopped_has_the_run_saved(studio: Studio) -> None:
    (run,) = studio.prepare(images=IMAGES, **{**CONFIG, "autosave_minutes": 0}, **TOGETHER)
    workers = {host: start_worker_on(studio, host) for host in ("barn", "shed")}
    studio.wait_for_step(run, STEPS // 3 + 1, 240)
    _leader, other = shares(studio, 1)
    studio.stop(workers[other["host"]], timeout_s=60)
    row = studio.wait_for_status(run, "queued", 60)
    assert (row["attempt"], row["recoveries"], row["error_class"]) == (1, 0, "")
    log = [event["data"] for event in studio.events(run, "status") if event["data"].get("to") == "queued"]
    assert log[-1]["code"] == "rank_worker_leaves"
    saved = studio.rows("SELECT step FROM trainingapp_checkpoint WHERE run_id = ? ORDER BY step DESC", run)
    assert saved[0]["step"] == row["step"], "nothing has to be repeated"
    start_worker_on(studio, other["host"])
    studio.wait_for_status(run, "completed", 480)
    assert_same(studio, run, trained_alone(studio, IMAGES, **{**CONFIG, "autosave_minutes": 0}), EPOCHS)
