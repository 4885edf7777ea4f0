"""A studio of the drill's own: a folder, a database, a worker and a web server that may be killed at any moment."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil

PARENT_DIR = Path(__file__).resolve().parents[3]
#: Settings of the studio that runs the drill and that the drill's own must not take over.
OWN_SETTINGS = frozenset(
    {"DATABASE_URL", "REDIS_URL", "CHECKPOINTS_DIR", "HTTPS", "HOST", "PORT", "SECRET_KEY", "STUDIO_PARENT_PID"}
)
TARGETS = ("trainer", "worker", "web")


class DrillError(Exception):
    """The drill could not be held; the message is for people."""


class Installation:
    """Starts and kills processes, and reads the database beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
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

    # Processes

    def manage(self, *arguments: str, **environment: str) -> str:
        """Run a management command to its end; returns what it printed. Raises DrillError when it fails."""
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
        """Start worker and web server where they are not there (any more)."""
        for name, command in (("worker", ["run_huey"]), ("web", ["web", "--port", str(self.port)])):
            child = self._children.get(name)
            if child is None or child.poll() is not None:
                self._children[name] = self._start(command)

    def _start(self, command: list[str]) -> "subprocess.Popen[bytes]":
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "cvstudio", *command],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, target: str) -> bool:
        """SIGKILL to the worker, the web server, or a trainer of any run; whether there was one."""
        if target == "trainer":
            return self._kill_trainer()
        child = self._children.get(target)
        if child is None or child.poll() is not None:
            return False
        child.kill()
        child.wait()
        return True

    def _kill_trainer(self) -> bool:
        for run in self.rows("SELECT pid FROM trainingapp_trainingrun WHERE status = 'running' AND pid IS NOT NULL"):
            with suppress(psutil.NoSuchProcess):
                psutil.Process(run["pid"]).send_signal(signal.SIGKILL)
                return True
        return False

    def end(self) -> None:
        """Kill everything that works in this installation, whoever its parent is."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid != os.getpid() and process.environ().get("DATA_DIR") == str(self.folder):
                    process.kill()
        for child in self._children.values():
            child.wait()

    # The database

    def rows(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """Read the database directly, which is quick enough to be done often."""
        path = self.folder / "studio.sqlite3"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, parameters)]

    def run(self, run_id: int) -> dict[str, Any]:
        return self.rows("SELECT * FROM trainingapp_trainingrun WHERE id = ?", run_id)[0]

    def events(self, run_id: int, type_: str) -> list[dict[str, Any]]:
        sql = "SELECT * FROM trainingapp_runevent WHERE run_id = ? AND type = ? ORDER BY seq"
        return [{**row, "data": json.loads(row["data"])} for row in self.rows(sql, run_id, type_)]

    def run_folder(self, run_id: int) -> Path:
        return self.folder / "runs" / str(run_id)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pause(seconds: float) -> None:
    time.sleep(seconds)
