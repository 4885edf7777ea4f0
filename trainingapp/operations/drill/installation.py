"""The studio of a drill: its own folder, database, worker and web server, which may be killed at any moment."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Collection
from contextlib import closing, suppress
from pathlib import Path
from typing import TypedDict, cast

import psutil
from pydantic import JsonValue

from trainingapp.contract.events import EVENTS_FILE
from trainingapp.contract.series import decode

PARENT_DIR = Path(__file__).resolve().parents[3]
#: Settings of the calling studio that the studio of the drill must not inherit.
OWN_SETTINGS = frozenset(
    {"DATABASE_URL", "REDIS_URL", "CHECKPOINTS_DIR", "HTTPS", "HOST", "PORT", "SECRET_KEY", "STUDIO_PARENT_PID"}
)
#: What is killed: a trainer at any moment, one that has just ended an epoch, the worker, the web server.
TARGETS = ("trainer", "trainer_after_epoch", "worker", "web")


SqlValue = str | int | float | bytes | None


class RunRow(TypedDict):
    """The columns of a run that the drill reads."""

    status: str
    attempt: int
    error_message: str
    event_seq: int
    event_offset: int


class MetricsData(TypedDict):
    """The data of a stored point."""

    split: str
    values: dict[str, JsonValue]


class MetricsRow(TypedDict):
    """What the drill reads of a stored point."""

    seq: int
    step: int
    superseded: bool
    data: MetricsData


class DrillError(Exception):
    """The drill could not be carried out; the message is shown to the user."""


class Installation:
    """Starts and kills processes, and reads their database and files directly."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with closing(socket.socket()) as probe:  # port 0: the system chooses one that is free
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        inherited = {name: value for name, value in os.environ.items() if name not in OWN_SETTINGS}
        path = os.pathsep.join(filter(None, [str(PARENT_DIR), os.environ.get("PYTHONPATH")]))
        self.environment = inherited | {
            "DATA_DIR": str(folder),
            "PORT": str(self.port),
            "PYTHONPATH": path,
            "MAX_RECOVERIES": "100",
            "RETRY_WAIT_S": "0",
            "MAX_TRAINING_PROCESSES": "2",
            "API_RATE_PER_MINUTE": "100000",
            "LOG_LEVEL": "WARNING",
        }
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def manage(self, *arguments: str, **environment: str) -> str:
        """Run a management command and wait for it; returns its output. Raises DrillError if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "cvstudio", *arguments],
            env=self.environment | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DrillError(f"{' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def keep_up(self) -> None:
        """Start the worker and the web server unless they are running."""
        for name, command in (("worker", ["run_huey"]), ("web", ["web", "--port", str(self.port)])):
            child = self._children.get(name)
            if child is not None and child.poll() is None:
                continue
            with (self.folder / "log.txt").open("ab") as log:
                self._children[name] = subprocess.Popen(
                    [sys.executable, "-m", "cvstudio", *command],
                    env=self.environment,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def kill_trainer(self, run_ids: Collection[int]) -> bool:
        """Send SIGKILL to the trainer of the first of these runs that has one; returns whether there was one."""
        sql = "SELECT id, pid FROM trainingapp_trainingrun WHERE status = 'running' AND pid IS NOT NULL"
        pids = [cast(int, row["pid"]) for row in self.rows(sql) if row["id"] in run_ids]
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).send_signal(signal.SIGKILL)
                return True
        return False

    def kill(self, target: str) -> bool:
        """Send SIGKILL to the worker or the web server; returns whether it was running."""
        child = self._children.get(target)
        if child is None or child.poll() is not None:
            return False
        child.kill()
        child.wait()
        return True

    def end(self) -> None:
        """Kill every process of this installation.

        A trainer is a child of the worker and outlives it, so processes are found by their environment.
        """
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid != os.getpid() and process.environ().get("DATA_DIR") == str(self.folder):
                    process.kill()
        for child in self._children.values():
            child.wait()

    def rows(self, sql: str, *parameters: str | int) -> list[dict[str, SqlValue]]:
        """Read the database directly: the drill looks every 50 ms, and a management command takes seconds."""
        path = self.folder / "studio.sqlite3"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, parameters)]

    def run(self, run_id: int) -> RunRow:
        (row,) = self.rows("SELECT * FROM trainingapp_trainingrun WHERE id = ?", run_id)
        return cast(RunRow, row)

    def metrics(self, run_id: int) -> list[MetricsRow]:
        """The stored points of a run, in their order."""
        points: list[MetricsRow] = []
        for chunk in self.rows("SELECT * FROM trainingapp_serieschunk WHERE run_id = ?", run_id):
            frame = decode(cast(bytes, chunk["data"]))
            for index, seq in enumerate(frame.seq.tolist()):
                data: MetricsData = {"split": str(chunk["split"]), "values": frame.values_at(index)}
                step, superseded = int(frame.step[index]), bool(chunk["superseded"])
                points.append({"seq": seq, "step": step, "superseded": superseded, "data": data})
        return sorted(points, key=lambda point: point["seq"])

    def numbers(self, run_id: int) -> list[int]:
        """The numbers of all stored events of a run, those of points among them, in order."""
        events = self.rows("SELECT seq FROM trainingapp_runevent WHERE run_id = ?", run_id)
        return sorted([*(int(row["seq"] or 0) for row in events), *(point["seq"] for point in self.metrics(run_id))])

    def checkpoint_hashes(self, run_id: int) -> dict[str, str]:
        """The hash of each part of the last checkpoint. Raises DrillError if there is none or it cannot be read."""
        sql = "SELECT file FROM trainingapp_checkpoint WHERE run_id = ? AND is_last ORDER BY step DESC, id DESC"
        found = self.rows(sql, run_id)
        if not found:
            raise DrillError(f"Run {run_id} has no checkpoint.")
        file = self.run_folder(run_id) / "checkpoints" / str(found[0]["file"])
        # In a separate process, because reading a checkpoint needs torch.
        done = subprocess.run(
            [sys.executable, "-m", "trainingapp.engine.digest", str(file)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DrillError(done.stderr.strip().splitlines()[-1])
        hashes: dict[str, str] = json.loads(done.stdout)[str(file)]
        return hashes

    def events_file(self, run_id: int) -> Path:
        return self.run_folder(run_id) / EVENTS_FILE

    def run_folder(self, run_id: int) -> Path:
        return self.folder / "runs" / str(run_id)
