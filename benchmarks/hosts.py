"""One run on two hosts with a network between them, and how soon it continues when one of them is lost.

    sudo TEST_DATABASE_URL=postgres://... python benchmarks/hosts.py [--quick]

The hosts are network namespaces whose cables end in one bridge: each has its worker, its name, its address and one CPU
slot. They share the folder and a new database on the PostgreSQL server, which they reach through the bridge. The ranks
find each other by CLUSTER_INTERFACE or not at all. It needs Linux and the right to make network namespaces.

    step_ms     median time between two steps, on one host and on two
    resumed_s   from the SIGKILL to all processes of the host without rank 0, to the first step of the next attempt on
                the host that is left (`devices_at_least` is 1)
    cut_off_s   the same from the moment in which the cable of the host with rank 0 is pulled out
    late        events that the first attempt has written after its cable was plugged in again: there must be none

`equal` is true where the last checkpoints of a run on one host, of one on two, and of those that lost a host are the
same, bit by bit. The last line is JSON.
"""

import argparse
import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.rows import dict_row

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.helpers.studio import TINY, Studio, wait_for  # noqa: E402
from trainingapp.contract.events import EVENTS_FILE, AnyEvent, Metrics, read_events  # noqa: E402
from trainingapp.engine.digest import digests  # noqa: E402

#: Names of the hosts, with their addresses on a network of their own.
HOSTS = {"barn": "10.211.0.1", "shed": "10.211.0.2"}
INTERFACE = "lan0"
#: The bridge, with the address and port at which the database is reached.
BRIDGE, SERVER = "cvs-hosts", ("10.211.0.254", 5433)
DATABASE = "cvstudio_hosts"
#: Those of `trainingapp/models/sessions.py`.
KEEPALIVE = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 4,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 2,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 2,
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 8000,
}
CONFIG: dict[str, Any] = {
    **TINY,
    "batch_size": 2,
    "accumulation_steps": 2,
    "autosave_minutes": 0.05,
}
TOGETHER: dict[str, Any] = {"device_count": 2, "hosts_at_most": 2, "devices_at_least": 1}


class ClusterStudio(Studio):
    """A studio on PostgreSQL."""

    def __init__(self, data_dir: Path, server: str, **env: str) -> None:
        self._url = urlsplit(server)._replace(path=f"/{DATABASE}").geturl()
        super().__init__(data_dir, DATABASE_URL=self._url, **env)

    def rows(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
            return connection.execute(sql.replace("?", "%s").encode(), parameters).fetchall()

    def start_on(self, host: str) -> "subprocess.Popen[bytes]":
        """A worker in the network of the host."""
        url = urlsplit(self._url)
        address = f"{url.username or 'postgres'}{':' + url.password if url.password else ''}@{SERVER[0]}:{SERVER[1]}"
        settings = {
            "DATABASE_URL": url._replace(netloc=address).geturl(),
            "HOST_NAME": host,
            "CLUSTER_INTERFACE": INTERFACE,
            "MAX_TRAINING_PROCESSES": "1",
        }
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", host, sys.executable, "manage.py", "run_huey"],
                cwd=ROOT,
                env={**self.env, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter runs")
    parser.add_argument(
        "--database", default=os.environ.get("TEST_DATABASE_URL", ""), help="URL of a PostgreSQL server"
    )
    arguments = parser.parse_args()
    if not arguments.database:
        parser.error("needs a PostgreSQL server: --database or TEST_DATABASE_URL")
    images = 96 if arguments.quick else 400
    with tempfile.TemporaryDirectory(prefix="cvstudio-bench-") as folder, database(arguments.database), networks():
        forward(arguments.database)
        studio = ClusterStudio(Path(folder) / "data", arguments.database)
        runs = studio.prepare(runs=4, start=False, images=images, **{**CONFIG, "epochs": 2})
        try:
            figures = measure(studio, *runs)
        finally:
            studio.cut_power()
    print(json.dumps(figures))


def measure(studio: ClusterStudio, alone: int, together: int, broken: int, cut: int) -> dict[str, Any]:
    workers = {host: studio.start_on(host) for host in HOSTS}
    for run in (together, broken, cut):
        let_have_two_hosts(studio, run)
    for run in (alone, together):
        studio.manage("train", "start", str(run))
        studio.wait_for_status(run, "completed", 600)
    steps = studio.run(together)["step"] // 3
    leader = start_and_wait(studio, cut, steps)
    cut_at = time.time()
    plug(leader, into=None)
    cut_off_s = next_attempt(studio, cut) - cut_at
    plug(leader, into=BRIDGE)
    plugged_at = time.time()
    studio.wait_for_status(cut, "completed", 600)
    late = [event for event in events_of(studio, cut) if event.attempt == 1 and event.time > plugged_at]
    wait_for(lambda: all_at_work(studio), 60, "both hosts take runs")
    (lost,) = set(HOSTS) - {start_and_wait(studio, broken, steps)}
    killed_at = time.time()
    kill_all(lost)
    resumed_s = next_attempt(studio, broken) - killed_at
    studio.wait_for_status(broken, "completed", 600)
    workers[lost].wait()
    results = [last_digests(studio, run) for run in (alone, together, broken, cut)]
    figures = {
        "step_ms_one": step_ms(studio, alone),
        "step_ms_two": step_ms(studio, together),
        "resumed_s": round(resumed_s, 1),
        "cut_off_s": round(cut_off_s, 1),
        "late": len(late),
        "equal": all(result == results[0] for result in results),
    }
    for name, value in figures.items():
        print(f"{name:<14}{value!s:>10}")
    return figures


def start_and_wait(studio: Studio, run: int, steps: int) -> str:
    """Start a run on two hosts and wait for its first steps and a checkpoint; returns the host with rank 0."""
    studio.manage("train", "start", str(run))
    row = studio.wait_for_step(run, steps, 600)
    wait_for(lambda: studio.rows("SELECT 1 FROM trainingapp_checkpoint WHERE run_id = ?", run), 60, "a checkpoint")
    return str(row["host"])


def next_attempt(studio: Studio, run: int) -> float:
    """When an attempt after the first one made its first step, in Unix seconds."""
    times: list[float] = wait_for(
        lambda: step_times(studio, run, lambda attempt: attempt > 1), 600, "the next attempt trains"
    )
    return min(times)


def all_at_work(studio: Studio) -> bool:
    return not any(host["is_away"] for host in json.loads(studio.manage("devices", "--json").stdout))


def let_have_two_hosts(studio: Studio, run: int) -> None:
    """Give the run, which was made for one device, the devices of two hosts."""
    studio.python(
        f"""
        from trainingapp.models import TrainingRun
        run = TrainingRun.objects.get(pk={run})
        run.config = run.config | {TOGETHER!r}
        run.save()
        """
    )


@contextmanager
def networks() -> Iterator[None]:
    """A network namespace for each host, whose cables end in a bridge."""
    remove_networks()
    try:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("address", "add", f"{SERVER[0]}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for host, address in HOSTS.items():
            ip("netns", "add", host)
            ip("link", "add", f"cvs-{host}", "type", "veth", "peer", "name", INTERFACE, "netns", host)
            plug(host, into=BRIDGE)
            ip("link", "set", f"cvs-{host}", "up")
            ip("-n", host, "address", "add", f"{address}/24", "dev", INTERFACE)
            for interface in ("lo", INTERFACE):
                ip("-n", host, "link", "set", interface, "up")
        yield
    finally:
        remove_networks()


def remove_networks() -> None:
    links = [BRIDGE, *(f"cvs-{host}" for host in HOSTS)]
    for command in (*(["link", "delete", link] for link in links), *(["netns", "delete", host] for host in HOSTS)):
        subprocess.run(["ip", *command], check=False, stderr=subprocess.DEVNULL)


def plug(host: str, into: str | None) -> None:
    """Plug the cable of the host into a bridge, or pull it out: packets are lost then, and nobody is told."""
    ip("link", "set", f"cvs-{host}", *(["master", into] if into else ["nomaster"]))


@contextmanager
def database(server: str) -> Iterator[None]:
    """A new database on the server."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {DATABASE}")
        try:
            yield
        finally:
            connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


def forward(server: str) -> None:
    """Let the hosts reach the database server, which may listen on another interface, at SERVER."""
    url = urlsplit(server)
    listener = socket.create_server(SERVER)

    def serve() -> None:
        while True:
            client, _address = listener.accept()
            for option, value in KEEPALIVE.items():  # as the server does, whose sessions ask for it
                client.setsockopt(*option, value)
            target = socket.create_connection((url.hostname or "127.0.0.1", url.port or 5432))
            threading.Thread(target=copy_both, args=(client, target), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


def copy_both(first: socket.socket, second: socket.socket) -> None:
    """Copy between two connections until one of them ends."""
    with first, second, suppress(OSError):
        while True:
            for source in select.select([first, second], [], [])[0]:
                data = source.recv(65536)
                if not data:
                    return
                (second if source is first else first).sendall(data)


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def kill_all(host: str) -> None:
    """SIGKILL to all processes of the host at once."""
    for pid in ip("netns", "pids", host).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def step_times(studio: Studio, run: int, wanted: Callable[[int], bool]) -> list[float]:
    """When the wanted attempts made their steps, each of which has a point, in Unix seconds."""
    events = [event for event in events_of(studio, run) if isinstance(event, Metrics)]
    return [event.time for event in events if event.split == "train" and wanted(event.attempt)]


def events_of(studio: Studio, run: int) -> list[AnyEvent]:
    path = studio.data_dir / "runs" / str(run) / EVENTS_FILE
    return [event for event, _offset in read_events(path, 0, -1)]


def step_ms(studio: Studio, run: int) -> float:
    """The median time between two steps."""
    times = step_times(studio, run, lambda attempt: attempt == 1)
    return round(1000 * statistics.median(later - earlier for earlier, later in pairwise(times)), 1)


def last_digests(studio: Studio, run: int) -> Any:
    folder = studio.data_dir / "runs" / str(run) / "checkpoints"
    return digests(folder / json.loads((folder / "index.json").read_text())[-1]["file"])


if __name__ == "__main__":
    main()
