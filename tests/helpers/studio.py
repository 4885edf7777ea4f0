"""A real studio in separate processes, for tests that start, observe and kill it.

`Studio` has a separate data folder, database and free port. Its database is read directly, so that a test can poll it
without starting Django each time.
"""

import atexit
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest

from trainingapp.contract.series import decode

REPOSITORY = Path(__file__).resolve().parents[2]

#: Environment variables of the tests that would redirect the studio, hide missing flushes, or affect how threads wait.
UNWANTED = ("DATABASE_URL", "REDIS_URL", "PYTHONUNBUFFERED", "OMP_WAIT_POLICY")

#: Small enough for a slow core, long enough to be interrupted.
TINY = {
    "model": "mobilenet_v3_small",
    "image_size": 32,
    "batch_size": 4,
    "epochs": 3,
    "cpu_threads": 1,
    "device": "cpu",
    "log_every_steps": 1,
    "warmup_epochs": 0,
    "augmentation": "light",
}


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


#: Deadlines of `wait_for` are those of an idle machine. A busy one takes longer, and no test is about how long.
PATIENCE = 5


def wait_for(condition: Callable[[], Any], timeout_s: float = 30, what: str = "the condition") -> Any:
    """Poll until `condition()` is true and return its result; fail at the deadline with the last result."""
    deadline = time.monotonic() + PATIENCE * timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {PATIENCE * timeout_s:g} s; last: {found!r}")
        time.sleep(0.05)
    return found


@cache
def _migrated_database() -> Path:
    """A database with its tables and no rows."""
    folder = Path(tempfile.mkdtemp(prefix="cvstudio-migrated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Studio(folder / "data").manage("migrate", "-v0", "--skip-checks")
    return folder / "data" / "studio.sqlite3"


@cache
def _database_with_administrator() -> Path:
    studio = Studio(_migrated_database().parent.with_name("with administrator"))
    studio.migrate()
    studio.python(
        """
        from django.contrib.auth.models import User
        User.objects.create_superuser("admin", password="correct horse")
        """
    )
    return studio.data_dir / "studio.sqlite3"


class Studio:
    """One installation: its folder, its settings and the processes started by a test."""

    def __init__(self, data_dir: Path, repository: Path = REPOSITORY, **env: str) -> None:
        self.data_dir = data_dir
        self.repository = repository
        self.port = free_port()
        self.env = {
            **{name: value for name, value in os.environ.items() if name not in UNWANTED},
            "DATA_DIR": str(data_dir),
            "PORT": str(self.port),
            "SPARE_TRAINER": "false",
            "PUBLISHED_WEIGHTS": "cache",
            "LOG_LEVEL": "INFO",
            "OMP_NUM_THREADS": "1",
            "DJANGO_SETTINGS_MODULE": "cvstudio.settings",
            **env,
        }
        self.log = data_dir.with_name(f"{data_dir.name}.log")
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # Commands

    def manage(self, *arguments: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run `manage.py` and wait for its end."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=self.repository, env=self.env, input=stdin, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    def python(self, code: str) -> Any:
        """Run code with Django set up. Returns the value of its variable `result`, transferred as JSON."""
        prelude = "import json, django\ndjango.setup()\nresult = None\n"
        script = f"{prelude}{textwrap.dedent(code)}\nprint('\\n' + json.dumps(result))\n"
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=self.repository, env=self.env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])

    def migrate(self) -> None:
        """Create the tables. SQLite databases are copied from one migrated earlier, since migrating takes seconds."""
        # Single sign-on has separate tables.
        if self.env.get("DATABASE_URL") or self.env.get("OIDC_NAME") or self.repository != REPOSITORY:
            self.manage("migrate", "-v0", "--skip-checks")
        else:
            self._copy(_migrated_database())

    def migrate_with_administrator(self) -> None:
        """Create the tables, and an administrator: admin, "correct horse". SQLite only."""
        self._copy(_database_with_administrator())

    def _copy(self, database: Path) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with (
            closing(sqlite3.connect(database)) as source,
            closing(sqlite3.connect(self.data_dir / "studio.sqlite3")) as target,
        ):
            source.backup(target)

    def prepare(self, runs: int = 1, start: bool = True, images: int = 24, **config: Any) -> list[int]:
        """A migrated database with an administrator (admin, "correct horse"), a tiny dataset and runs; their ids."""
        self.migrate()
        ids: list[int] = self.python(
            f"""
            from tests.helpers.tiny import make_dataset, make_run
            from django.contrib.auth.models import User
            user = User.objects.create_superuser("admin", password="correct horse")
            dataset = make_dataset(user, images={images})
            result = [make_run(user, dataset, start={start}, **{ {**TINY, **config}!r}).pk for _ in range({runs})]
            """
        )
        return ids

    # Processes

    def spawn(self, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        """Start `manage.py` in a new session; its output goes to the log file beside the data folder."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                cwd=self.repository,
                env={**self.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def start_worker(self, *options: str, **env: str) -> subprocess.Popen[bytes]:
        return self.spawn("run_huey", *options, **env)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the whole studio like `make run`, and wait until its web server responds."""
        process = self.spawn("studio", *arguments)
        wait_for(lambda: self.answers() or process.poll() is not None, 60, "the web server answers")
        assert process.poll() is None, self.log.read_text()
        return process

    def answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=0.5):
            return True
        return False

    def stop(self, process: subprocess.Popen[bytes], signal_number: int = signal.SIGINT, timeout_s: float = 30) -> int:
        """Request the end of the process and wait. Returns its exit status."""
        process.send_signal(signal_number)
        return process.wait(PATIENCE * timeout_s)

    def trainers(self) -> list[psutil.Process]:
        """The running trainer processes of this studio, without the spare process."""
        return [
            found
            for found in self.all_processes()
            if "trainingapp.engine" in _words(found) and "--spare" not in _words(found)
        ]

    def find(self, word: str) -> list[psutil.Process]:
        """The running processes of this studio with `word` in their command line."""
        return [found for found in self.all_processes() if word in _words(found)]

    def all_processes(self) -> list[psutil.Process]:
        """All running processes that use this studio's data folder, regardless of their parents."""
        return [found for found in psutil.process_iter() if _data_dir(found) == str(self.data_dir)]

    def cut_power(self) -> None:
        """Send SIGKILL to all processes at the same time."""
        victims = self.all_processes()
        for signal_number in (signal.SIGSTOP, signal.SIGKILL):
            for victim in victims:
                with suppress(psutil.NoSuchProcess):
                    victim.send_signal(signal_number)
        for process in self.processes:
            process.wait(PATIENCE * 10)
        wait_for(lambda: not self.all_processes(), 10, "all processes are gone")

    # The database, read directly

    def rows(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        path = self.data_dir / "studio.sqlite3"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, parameters)]

    def run(self, run_id: int) -> dict[str, Any]:
        return self.rows("SELECT * FROM trainingapp_trainingrun WHERE id = ?", run_id)[0]

    def status(self, run_id: int) -> str:
        status: str = self.run(run_id)["status"]
        return status

    def events(self, run_id: int, type_: str) -> list[dict[str, Any]]:
        """The stored events of a type in order; metrics are read from their chunks."""
        found = self.rows(
            "SELECT * FROM trainingapp_runevent WHERE run_id = ? AND type = ? ORDER BY seq", run_id, type_
        )
        events = [{**row, "data": json.loads(row["data"])} for row in found]
        if type_ == "metrics":
            for row in self.rows("SELECT * FROM trainingapp_serieschunk WHERE run_id = ?", run_id):
                events += _points_of(row)
        return sorted(events, key=lambda event: event["seq"])

    def numbers(self, run_id: int) -> list[int]:
        """The numbers of all stored events, metrics among them, in order."""
        rows = self.rows("SELECT seq FROM trainingapp_runevent WHERE run_id = ? AND type != 'metrics'", run_id)
        return sorted([*(row["seq"] for row in rows), *(event["seq"] for event in self.events(run_id, "metrics"))])

    def host(self, name: str) -> dict[str, Any]:
        """The row of a host; empty while it has none."""
        return next(iter(self.rows("SELECT * FROM trainingapp_host WHERE name = ?", name)), {})

    def wait_for_status(self, run_id: int, status: str, timeout_s: float = 60) -> dict[str, Any]:
        wait_for(lambda: self.status(run_id) == status, timeout_s, f"run {run_id} is {status}")
        return self.run(run_id)

    def wait_for_step(self, run_id: int, step: int, timeout_s: float = 60) -> dict[str, Any]:
        wait_for(lambda: self.run(run_id)["step"] >= step, timeout_s, f"run {run_id} reaches step {step}")
        return self.run(run_id)


def _points_of(chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
    frame = decode(chunk["data"])
    for index in range(len(frame)):
        place = {"seq": int(frame.seq[index]), "step": int(frame.step[index]), "epoch": int(frame.epoch[index])}
        data = {"split": chunk["split"], "values": frame.values_at(index), **frame.details_at(index)}
        yield {**place, "attempt": chunk["attempt"], "superseded": chunk["superseded"], "data": data}


def _data_dir(process: psutil.Process) -> str:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return process.environ().get("DATA_DIR", "")
    except psutil.Error:
        return ""


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """A separate studio; none of its processes remains after the test."""
    installation = Studio(tmp_path / "data")
    yield installation
    installation.cut_power()
