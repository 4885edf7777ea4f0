"""Trainers that hang, do not respond, exhaust memory or log without limit: the status stays accurate."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from tests.helpers.startup import DEAF, HANG, IN_GROUP, LITTLE_MEMORY, TALK, TALK_EVENTS, at_start, let_an_hour_pass
from tests.helpers.studio import Studio, wait_for

pytestmark = pytest.mark.slow

LONG: dict[str, Any] = {"epochs": 500, "autosave_minutes": 0.01}


@pytest.fixture(autouse=True)
def _no_waits(studio: Studio) -> None:
    studio.env["RETRY_WAIT_S"] = "0"


def messages(studio: Studio, run: int) -> str:
    return "\n".join(str(event["data"].get("message", "")) for event in studio.events(run, "status"))


def test_a_hanging_trainer_is_ended_and_the_run_continues(studio: Studio, tmp_path: Path) -> None:
    at_start(studio, tmp_path / "hook", HANG)
    (run,) = studio.prepare(epochs=2, images=48)
    studio.start_worker()
    studio.wait_for_step(run, 3)
    hung = studio.run(run)["pid"]
    folder = studio.data_dir / "runs" / str(run)
    wait_for(lambda: (folder / "hangs").exists(), 60, "the trainer hangs")
    # A longer silence must not count as usual, so the worker reads the last events before the clock moves.
    written = (folder / "events.jsonl").stat().st_size
    wait_for(lambda: studio.run(run)["event_offset"] >= written, 30, "its events are stored")
    let_an_hour_pass(studio)
    row = studio.wait_for_status(run, "completed", 120)
    assert (row["attempt"], row["recoveries"], row["error_class"]) == (2, 1, "")
    assert not psutil.pid_exists(hung)
    assert "reported nothing for more than 15 min" in messages(studio, run)
    (event,) = [event for event in studio.events(run, "status") if event["data"].get("error_class") == "hang"]
    assert any("in never" in line for line in event["data"]["lines"]), "the lines show where it hung"


@pytest.mark.long
def test_an_unresponsive_trainer_is_ended_after_the_grace_period(studio: Studio, tmp_path: Path) -> None:
    at_start(studio, tmp_path / "hook", DEAF)
    studio.env["STOP_GRACE_S"] = "3"
    (run,) = studio.prepare(**LONG)
    studio.start_worker()
    studio.wait_for_step(run, 8)
    wait_for(lambda: studio.rows("SELECT 1 FROM trainingapp_checkpoint WHERE run_id = ?", run), 30, "a checkpoint")
    studio.manage("train", "pause", str(run))
    studio.wait_for_status(run, "paused", 30)
    assert "did not respond within 3 s" in messages(studio, run)
    assert not studio.trainers()
    saved = studio.rows("SELECT max(step) AS step FROM trainingapp_checkpoint WHERE run_id = ?", run)[0]["step"]
    studio.manage("train", "resume", str(run))
    wait_for(lambda: studio.run(run)["attempt"] == 2 and studio.run(run)["phase"] == "train", 60, "it goes on")
    started = [event for event in studio.events(run, "status") if event["data"].get("state") == "started"][-1]
    assert started["step"] == saved


@pytest.mark.long
def test_a_force_stop_ends_it_immediately_and_it_can_be_resumed(studio: Studio, tmp_path: Path) -> None:
    at_start(studio, tmp_path / "hook", DEAF)
    (run,) = studio.prepare(**LONG)
    studio.start_worker()
    studio.wait_for_step(run, 8)
    studio.manage("train", "stop", str(run))
    step = studio.run(run)["step"]
    studio.wait_for_step(run, step + 2)
    assert studio.status(run) == "running", "it does not answer"
    studio.manage("train", "force-stop", str(run))
    studio.wait_for_status(run, "stopped", 15)
    assert not studio.trainers()
    assert "Stopped by force. When resumed, it continues from its checkpoint" in messages(studio, run)
    studio.manage("train", "resume", str(run))
    wait_for(lambda: studio.run(run)["attempt"] == 2 and studio.run(run)["phase"] == "train", 60, "it goes on")


@pytest.mark.long
def test_the_force_stop_of_a_run_whose_worker_is_lost(studio: Studio) -> None:
    (run,) = studio.prepare(**LONG)
    worker = studio.start_worker()
    studio.wait_for_step(run, 3)
    worker.kill()
    worker.wait()
    studio.manage("train", "force-stop", str(run))
    assert studio.status(run) == "running", "nobody is there yet who could"
    studio.start_worker()
    studio.wait_for_status(run, "stopped", 30)
    wait_for(lambda: not studio.trainers(), 15, "its trainer is gone")


@pytest.mark.long
def test_a_trainer_that_ignores_sigterm_does_not_block_the_end_of_the_worker(studio: Studio, tmp_path: Path) -> None:
    code = "import signal\nfrom trainingapp.engine.control import Control\nControl.catch_signals = lambda self: None\n"
    at_start(studio, tmp_path / "hook", f"{DEAF}\n{code}signal.signal(signal.SIGTERM, signal.SIG_IGN)\n")
    (run,) = studio.prepare(**LONG)
    worker = studio.start_worker()
    studio.wait_for_step(run, 3)
    assert studio.stop(worker, signal.SIGTERM, timeout_s=60) == 0
    assert studio.status(run) == "queued"
    wait_for(lambda: not studio.trainers(), 15, "its trainer is gone")


@pytest.mark.long
def test_out_of_memory_continues_with_half_the_batch_size(studio: Studio, tmp_path: Path) -> None:
    at_start(studio, tmp_path / "hook", LITTLE_MEMORY.replace("{spare}", str(64 << 20)))
    (run,) = studio.prepare(epochs=1, batch_size=16, image_size=224, images=32, augmentation="none")
    studio.start_worker()
    row = studio.wait_for_status(run, "completed", 120)
    assert (row["attempt"], row["recoveries"]) == (2, 1)
    assert '"batch_size": 8' in row["config"]
    assert "batch_size was reduced from 16 to 8 and accumulation_steps set to 2" in messages(studio, run)
    assert "batch_size was reduced from 16 to 8" in row["corrections"]


class Group(NamedTuple):
    """A cgroup, and the names of its files with the limit and the use of memory in bytes."""

    folder: Path
    limit: str
    used: str

    def hook(self) -> str:
        return IN_GROUP.format(group=self.folder, limit=self.limit, used=self.used)


@pytest.fixture
def group(studio: Studio) -> Iterator[Group]:
    """A separate control group; the system kills a process in it that exceeds its limit."""
    first = Path("/sys/fs/cgroup/memory")
    root, limit, used = (
        (first, "memory.limit_in_bytes", "memory.usage_in_bytes")
        if first.is_dir()
        else (Path("/sys/fs/cgroup"), "memory.max", "memory.current")
    )
    folder = root / f"cvstudio-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / limit).write_text(str(8 << 30))
    except OSError as error:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip(f"no cgroup with a limit of memory can be made here ({error})")
    yield Group(folder, limit, used)
    studio.cut_power()
    wait_for(lambda: not (folder / "cgroup.procs").read_text(), 10, "its processes are gone")
    folder.rmdir()


@pytest.mark.long
def test_a_memory_kill_continues_with_half_the_batch_size(studio: Studio, tmp_path: Path, group: Group) -> None:
    at_start(studio, tmp_path / "hook", group.hook())
    config = {"epochs": 1, "batch_size": 16, "image_size": 224, "augmentation": "none", "num_workers": 0}
    (run,) = studio.prepare(images=32, **config)
    studio.start_worker()
    row = studio.wait_for_status(run, "completed", 120)
    assert (row["attempt"], row["recoveries"]) == (2, 1)
    assert "memory ran out (exit status -9)" in messages(studio, run)
    assert "batch_size was reduced from 16 to 8 and accumulation_steps set to 2" in messages(studio, run)
    (event,) = [event for event in studio.events(run, "status") if event["data"].get("error_class")]
    assert event["data"]["error_class"] == "out_of_memory"


@pytest.mark.long
def test_a_memory_kill_of_another_process_is_not_attributed_to_the_trainer(
    studio: Studio, tmp_path: Path, group: Group
) -> None:
    (run,) = studio.prepare(**{**LONG, "epochs": 3, "images": 48})
    studio.start_worker()
    pid = studio.wait_for_step(run, 8)["pid"]
    (group.folder / group.limit).write_text(str(32 << 20))
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('0'); b'x' * (64 << 20)"
    other = subprocess.run([sys.executable, "-c", code, str(group.folder / "cgroup.procs")], check=False)
    assert other.returncode == -signal.SIGKILL, "the system killed this one for its memory"
    psutil.Process(pid).kill()
    row = studio.wait_for_status(run, "completed", 120)
    assert row["corrections"] == "[]"
    (event,) = [event for event in studio.events(run, "status") if event["data"].get("error_class")]
    assert event["data"]["error_class"] == "lost_trainer"


@pytest.mark.long
def test_a_trainer_killed_by_a_user_is_not_classified_as_out_of_memory(studio: Studio) -> None:
    (run,) = studio.prepare(**{**LONG, "epochs": 3, "images": 48})
    studio.start_worker()
    psutil.Process(studio.wait_for_step(run, 8)["pid"]).kill()
    row = studio.wait_for_status(run, "completed", 120)
    assert row["corrections"] == "[]"
    (event,) = [event for event in studio.events(run, "status") if event["data"].get("error_class")]
    assert event["data"]["error_class"] == "lost_trainer"


@pytest.mark.long
def test_a_trainer_that_ends_with_a_signal(studio: Studio) -> None:
    (run,) = studio.prepare(**{**LONG, "epochs": 3, "images": 48})
    studio.start_worker()
    pid = studio.wait_for_step(run, 8)["pid"]
    psutil.Process(pid).send_signal(signal.SIGSEGV)
    row = studio.wait_for_status(run, "completed", 120)
    assert row["recoveries"] == 1
    assert "terminated by the signal SIGSEGV" in messages(studio, run)
    (event,) = [event for event in studio.events(run, "status") if event["data"].get("error_class") == "lost_trainer"]
    assert any("Fatal Python error" in line for line in event["data"]["lines"]), "the lines show where it was"


#: A flood that fills every buffer on its way; the long one is a gigabyte.
MEGABYTES = [100, 1000]


@pytest.mark.long
@pytest.mark.parametrize("megabytes", MEGABYTES)
def test_too_much_standard_output(studio: Studio, tmp_path: Path, megabytes: int) -> None:
    at_start(studio, tmp_path / "hook", TALK.replace("{megabytes}", str(megabytes)))
    studio.env["TRAINER_LOG_MB"] = "8"
    (run,) = studio.prepare(epochs=2, images=48)
    studio.start_worker()
    row = studio.wait_for_status(run, "completed", 180)
    assert row["attempt"] == 1
    log = studio.data_dir / "runs" / str(run) / "trainer.log"
    assert log.stat().st_size <= 9 << 20
    assert b"bytes were left out here" in log.read_bytes()
    assert (studio.data_dir / "studio.sqlite3").stat().st_size < 10 << 20


@pytest.mark.long
@pytest.mark.parametrize("megabytes", MEGABYTES)
def test_too_many_events(studio: Studio, tmp_path: Path, megabytes: int) -> None:
    at_start(studio, tmp_path / "hook", TALK_EVENTS.replace("{megabytes}", str(megabytes)))
    (run,) = studio.prepare(epochs=2, images=48)
    studio.start_worker()
    row = studio.wait_for_status(run, "completed", 400)
    assert row["attempt"] == 1
    logs = studio.events(run, "log")
    assert 2000 <= len(logs) < 4000
    said = [event["data"]["message"] for event in logs if "lines were left out here" in event["data"]["message"]]
    flood = sum("all work and no play" in event["data"]["message"] for event in logs)
    left_out = sum(int(message.split()[0].replace(",", "")) for message in said)
    assert left_out + flood >= megabytes * 1_000_000 // 750 - megabytes, "every line is stored or counted"
    steps = [event["step"] for event in studio.events(run, "metrics") if event["data"]["split"] == "train"]
    assert steps == list(range(1, 25)), "what is measured is never left out"
    events = studio.data_dir / "runs" / str(run) / "events.jsonl"
    assert events.stat().st_size > megabytes * 900_000
    assert events.stat().st_blocks * 512 < 20 << 20, "the disk has its bytes back"
    assert (studio.data_dir / "studio.sqlite3").stat().st_size < 20 << 20
