"""Databases, queues and disks that are temporarily unavailable: the run continues, and nothing is missing."""

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.studio import Studio, free_port, wait_for
from trainingapp.contract.series import decode

pytestmark = pytest.mark.slow

CONFIG: dict[str, Any] = {"images": 48, "autosave_minutes": 0.05}


def steps_of(points: list[dict[str, Any]]) -> list[int]:
    return [event["step"] for event in points if event["data"]["split"] == "train"]


def check_whole(studio: Studio, run: int, epochs: int) -> None:
    assert steps_of(studio.events(run, "metrics")) == list(range(1, epochs * 12 + 1))
    numbers = studio.numbers(run)
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


#: A lock that outlasts the 20 s for which SQLite waits: a shorter one would be no fault.
LOCKED_S = 30
#: A server away for longer than the lease of a heartbeat; the long test waits out every timeout.
STOPPED_S = [15, 60]


@pytest.mark.long
def test_a_database_that_is_locked(studio: Studio) -> None:
    (run,) = studio.prepare(epochs=2000, **CONFIG)
    studio.start_worker()
    studio.wait_for_step(run, 5)
    events = studio.data_dir / "runs" / str(run) / "events.jsonl"
    with closing(sqlite3.connect(studio.data_dir / "studio.sqlite3", isolation_level=None, timeout=20)) as locker:
        locker.execute("BEGIN IMMEDIATE")
        before = events.stat().st_size
        time.sleep(LOCKED_S)  # the fault itself
        locker.execute("ROLLBACK")
    assert events.stat().st_size > before, "training went on meanwhile"
    studio.manage("train", "stop", str(run))
    row = studio.wait_for_status(run, "stopped", 60)
    assert (row["attempt"], row["recoveries"]) == (1, 0)
    assert steps_of(studio.events(run, "metrics")) == list(range(1, row["step"] + 1))
    assert "database is locked" in studio.log.read_text()


@pytest.mark.redis
@pytest.mark.long
def test_a_redis_that_is_flushed_and_then_stopped(studio: Studio, tmp_path: Path) -> None:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    studio.env["REDIS_URL"] = f"redis://127.0.0.1:{port}/0"
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path)
    try:
        first, second = studio.prepare(runs=2, start=False, epochs=2, **CONFIG)
        worker = studio.start_worker()
        studio.manage("train", "start", str(first))
        studio.wait_for_step(first, 3)
        subprocess.run(["redis-cli", "-p", str(port), "flushall"], check=True, capture_output=True)
        server.send_signal(signal.SIGKILL)
        server.wait()
        studio.wait_for_status(first, "completed", 120)
        check_whole(studio, first, 2)
        done = studio.manage("train", "start", str(second), check=False)
        assert studio.status(second) == "queued", done.stderr
        assert worker.poll() is None, "a worker outlives its queue"
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path)
        studio.wait_for_status(second, "completed", 120)
        check_whole(studio, second, 2)
    finally:
        server.kill()
        server.wait()


class Postgres:
    """A server of the test's own, which it may stop."""

    def __init__(self, folder: Path) -> None:
        self.bin = max(Path("/usr/lib/postgresql").glob("*/bin"))
        self.folder, self.port = folder, free_port()
        self.user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        folder.mkdir()
        if self.user:
            folder.chmod(0o700)
            shutil.chown(folder, "postgres")
            folder.parent.chmod(0o711)
        self._run("initdb", "-A", "trust", "-U", "studio", "-N", "-D", str(folder / "db"))
        self.start()

    def _run(self, name: str, *arguments: str) -> None:
        command = [*self.user, str(self.bin / name), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-w", "-D", str(self.folder / "db"), "-l", log, "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "-D", str(self.folder / "db"), "stop")

    @property
    def url(self) -> str:
        return f"postgres://studio@127.0.0.1:{self.port}/postgres"

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(self.url) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """Not in pytest's folder, which any other run of pytest closes to other users again."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin")):
        pytest.skip("no PostgreSQL on this machine")
    with tempfile.TemporaryDirectory(prefix="cvstudio-postgres-") as folder:
        server = Postgres(Path(folder) / "server")
        yield server
        server.stop()


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.parametrize("fault_s", STOPPED_S)
def test_a_database_server_that_is_stopped(studio: Studio, postgres: Postgres, fault_s: int) -> None:
    studio.env["DATABASE_URL"] = postgres.url
    (run,) = studio.prepare(epochs=2000, **CONFIG)
    worker = studio.start_worker()
    state = f"SELECT status, step, attempt, recoveries FROM trainingapp_trainingrun WHERE id = {run}"
    wait_for(lambda: postgres.rows(state)[0][1] >= 5, 60, "the run trains")
    events = studio.data_dir / "runs" / str(run) / "events.jsonl"
    postgres.stop()
    before = events.stat().st_size
    time.sleep(fault_s)  # the fault itself
    assert events.stat().st_size > before, "training went on meanwhile"
    assert worker.poll() is None
    postgres.start()
    studio.manage("train", "stop", str(run))
    wait_for(lambda: postgres.rows(state)[0][0] == "stopped", 60, "the run is stopped")
    _status, step, attempt, recoveries = postgres.rows(state)[0]
    assert (attempt, recoveries) == (1, 0)
    chunks = postgres.rows(
        f"SELECT data FROM trainingapp_serieschunk WHERE run_id = {run} AND split = 'train' ORDER BY first_seq"
    )
    steps = [each for (data,) in chunks for each in decode(data).step.tolist()]
    assert steps == list(range(1, step + 1)), "nothing is missing, nothing twice"
    assert studio.stop(worker) == 0


@pytest.fixture
def read_only_runs(studio: Studio) -> Iterator[Path]:
    """RUNS_DIR on a file system that can be made read-only: permissions do not bind an administrator."""
    folder = studio.data_dir.with_name("runs")
    folder.mkdir()
    if os.geteuid() == 0:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "studio-test", str(folder)], capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip("this machine lets nobody mount")
    studio.env["CHECKPOINTS_DIR"] = str(folder)
    yield folder
    studio.cut_power()
    set_read_only(folder, False)
    if os.geteuid() == 0:
        subprocess.run(["umount", str(folder)], check=True)


def set_read_only(folder: Path, on: bool) -> None:
    if os.geteuid() == 0:
        option = "remount,ro" if on else "remount,rw"
        wait_for(lambda: not subprocess.run(["mount", "-o", option, str(folder)], check=False).returncode, 30, option)
    else:
        folder.chmod(0o555 if on else 0o755)


@pytest.mark.long
def test_a_data_folder_that_is_read_only(studio: Studio, read_only_runs: Path) -> None:
    first, second = studio.prepare(runs=2, start=False, epochs=1, **CONFIG)
    studio.start_worker()
    studio.manage("train", "start", str(first))
    studio.wait_for_status(first, "completed", 120)
    set_read_only(read_only_runs, True)
    refused = studio.manage("train", "start", str(second), check=False)
    assert "cannot be written to" in refused.stderr
    studio.python(
        "from trainingapp import models\nfrom trainingapp.runs.verbs import start_run\n"
        f"start_run(models.TrainingRun(pk={second}))"
    )
    wait_for(lambda: "queued runs wait until that is possible" in studio.log.read_text(), 30, "the worker says it")
    assert studio.status(second) == "queued", "it would only fail"
    why = studio.python(f"""
        from trainingapp import models
        from trainingapp.scheduling import scheduler
        result = scheduler.why_waiting(models.TrainingRun.objects.get(pk={second}))
        """)
    assert why.startswith("The folder of runs cannot be written to.")
    assert studio.manage("doctor", check=False).returncode == 2
    set_read_only(read_only_runs, False)
    row = studio.wait_for_status(second, "completed", 120)
    assert (row["attempt"], row["recoveries"]) == (1, 0)
    check_whole(studio, second, 1)
