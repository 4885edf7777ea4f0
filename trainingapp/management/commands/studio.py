"""manage.py studio: web server and worker under one parent process."""

import http.client
import io
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable
from types import FrameType

from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.db import connections

from cvstudio.settings import PACKAGE_DIR, env
from trainingapp.models import Dataset, TrainingRun
from trainingapp.worker.consumer import PARENT_VARIABLE

POLL_S = 0.2
#: Seconds before a child that died is started again: doubled for each death in a row, up to the second value.
RESTART_WAITS_S = (1.0, 30.0)
#: A child that ran for this long starts a new row of deaths.
STEADY_S = 60.0
ADMIN_NAME = "admin"


class Command(BaseCommand):
    help = "Run CV Studio: prepare the database, then run web server and worker until Ctrl-C. No run is lost."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=env.HOST, help="Address to listen on (HOST).")
        parser.add_argument("--port", type=int, default=env.PORT, help="Port to listen on (PORT).")
        parser.add_argument("--no-demo", action="store_true", help="Do not create a demo dataset.")

    def handle(self, *, host: str, port: int, no_demo: bool, **options: object) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):  # write each line immediately to a file or a pipe too
            sys.stdout.reconfigure(line_buffering=True)
        check_port(host, port)
        call_command("migrate", verbosity=0, interactive=False)
        self.make_administrator()
        with_demo = not no_demo and not Dataset.objects.exists()
        _Parent(host, port, self.stdout.write, with_demo=with_demo).run()

    def make_administrator(self) -> None:
        """Create the first account, with a password that is printed once and stored only as a hash."""
        users = get_user_model()._default_manager
        if users.exists():
            return
        password = secrets.token_urlsafe(12)
        users.create_superuser(username=ADMIN_NAME, password=password)
        lines = ["The first administrator of this studio:", f"  user name  {ADMIN_NAME}", f"  password   {password}"]
        lines.append("Keep the password: it is not shown again.")
        width = max(map(len, lines))
        edge = "+" + "-" * (width + 2) + "+"
        self.stdout.write("\n".join([edge, *(f"| {line:<{width}} |" for line in lines), edge]))


class _Child:
    """A process that is kept running as long as the studio runs."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        self.arguments = arguments
        self.deaths = 0
        self.start_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        path = os.pathsep.join(filter(None, [str(PACKAGE_DIR.parent), os.environ.get("PYTHONPATH")]))
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cvstudio", *self.arguments],
            env={**os.environ, "PYTHONPATH": path, PARENT_VARIABLE: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # the terminal sends Ctrl-C to the parent only, which ends its children in order
        )

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, signal_number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal_number)

    def restart_wait_s(self) -> float:
        """Record a death; returns the seconds to wait before the next start."""
        first, last = RESTART_WAITS_S
        self.deaths = 1 if time.monotonic() - self.started_at > STEADY_S else self.deaths + 1
        wait_s = min(last, first * 2.0 ** (self.deaths - 1))
        self.start_at = time.monotonic() + wait_s
        self.process = None
        return wait_s


class _Parent:
    """Keeps the two children running, and ends them in order on Ctrl-C or SIGTERM."""

    def __init__(self, host: str, port: int, write_line: Callable[[str], object], *, with_demo: bool = False) -> None:
        self.host, self.port, self.write_line = host, port, write_line
        #: Draws the demo scenes beside the studio, which serves meanwhile; it ends by itself.
        self.demo = _Child("demo dataset", ["demo"]) if with_demo else None
        self.worker = _Child("worker", ["run_huey"])
        self.web = _Child("web server", ["web", "--host", host, "--port", str(port)])
        self.children = [self.web, self.worker]
        self.requests_to_end = 0
        self._woken = threading.Event()

    def run(self) -> None:
        connections.close_all()
        for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signal_number, self._on_signal)
        for child in self.children:
            child.start()
        if self.demo is not None:
            self.write_line("Creating a demo dataset (only once) ...")
            self.demo.start()
        has_announced = False
        while not self.requests_to_end:
            if not has_announced and self.web.is_running() and _answers(self.host, self.port):
                has_announced = True
                self.write_line(f"CV Studio is at {address_of(self.host, self.port)} (Ctrl-C stops it; no run is lost)")
            for child in self.children:
                if child.process is None:
                    if time.monotonic() >= child.start_at:
                        child.start()
                elif (status := child.process.poll()) is not None:
                    wait_s = child.restart_wait_s()
                    self.write_line(
                        f"The {child.name} ended unexpectedly ({_end(status)}); it starts again in {wait_s:g} s."
                    )
            self._look_after_demo()
            self._woken.wait(POLL_S)
        self._end()

    def _look_after_demo(self) -> None:
        """Report how the demo dataset ended; the studio is usable without it."""
        if self.demo is None or self.demo.is_running():
            return
        process, self.demo = self.demo.process, None
        if process is not None and process.returncode:
            self.write_line("The demo dataset could not be created. “manage.py demo” tries again.")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requests_to_end += 1

    def _end(self) -> None:
        running = list(TrainingRun.objects.filter(status=TrainingRun.Status.RUNNING).values_list("name", flat=True))
        connections.close_all()
        if running:
            names = ", ".join(running)
            self.write_line(f"Stopping: waiting for {names} to save (Ctrl-C again ends immediately) ...")
        else:
            self.write_line("Stopping ...")
        ends = [(self.worker, signal.SIGINT), (self.web, signal.SIGTERM)]
        if self.demo is not None:
            self.children.append(self.demo)
            ends.insert(0, (self.demo, signal.SIGINT))
        for child, signal_number in ends:
            child.send(signal_number)
            while child.is_running() and self.requests_to_end < 2:
                self._woken.wait(POLL_S / 4)
        if any(child.is_running() for child in self.children):
            self.write_line(
                "Ending immediately. Trainers still save a checkpoint; their runs resume at the next start."
            )
            for child in self.children:
                child.send(signal.SIGKILL)
        self.write_line("Stopped.")


def check_port(host: str, port: int) -> None:
    """Raise CommandError if the port cannot be listened on."""
    if not 1 <= port <= 65535:
        raise CommandError(f"PORT: {port} is not a port; it must be from 1 to 65535.")
    try:
        family, kind, _protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise CommandError(f"HOST: {host} is not an address of this machine ({error.strerror}).") from None
    except OSError as error:
        hint = f"Choose another one, for example: PORT={port + 1} make run"
        raise CommandError(f"PORT: {host}:{port} is not available ({error.strerror}). {hint}") from None


def _answers(host: str, port: int) -> bool:
    """Whether the web server answers, with any status."""
    connection = http.client.HTTPConnection(_reachable(host), port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on


def address_of(host: str, port: int) -> str:
    """The URL of the studio for a browser on this machine."""
    name = _reachable(host)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


def _end(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name
