"""How quickly and how cheaply the web server sends events to many browsers.

    python benchmarks/live.py [--quick] [--only TEXT] [--seconds N]

Makes an installation in a folder that is removed afterwards, or with TEST_DATABASE_URL in a new database of that
PostgreSQL server. `manage.py web` and a writer run as processes of their own: the writer stores ten events a second in
each of the running runs, each with the time of its transaction, as supervisors do. The clients read `/events/` over
connections of their own, with a session each, and note when each event arrives. In the middle of each measurement all
of them disconnect at the same time and come back with the numbers that they have.

Cases: clients on one run and on twenty, the same beside a history of 10,000 runs with a queue, and open lists of runs
that fetch their page at each change. For each: median and 99th percentile from the transaction to the client in ms,
events that were lost or came twice, CPU of one core, memory and threads of the web server, its CPU time for opening a
stream, the time of a page meanwhile, and the seconds from SIGTERM to the end of the server with all streams open. The
last line is JSON. The clients need a core too.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

EVENTS_PER_S = 10
SECONDS = 20
HISTORY, QUEUED = 10_000, 150
#: name -> clients, runs, earlier runs, whether the clients are lists.
CASES: dict[str, tuple[int, int, int, bool]] = {
    "1 client, 1 run": (1, 1, 0, False),
    "200 clients, 1 run": (200, 1, 0, False),
    "1600 clients, 1 run": (1600, 1, 0, False),
    "4000 clients, 1 run": (4000, 1, 0, False),
    "200 clients, 20 runs": (200, 20, 0, False),
    "1600 clients, 20 runs": (1600, 20, 0, False),
    "200 clients, 20 runs, 10000 old": (200, 20, HISTORY, False),
    "20 lists, 20 runs, 10000 old": (20, 20, HISTORY, True),
}
QUICK: dict[str, tuple[int, int, int, bool]] = {
    "200 clients, 1 run": (200, 1, 0, False),
    "40 clients, 4 runs, 1000 old": (40, 4, HISTORY // 10, False),
    "5 lists, 4 runs, 1000 old": (5, 4, HISTORY // 10, True),
}
MARK = re.compile(rb'data-seq="(\d+)".*?at (\d+\.\d+)', re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer clients and runs, five seconds each")
    parser.add_argument("--only", default="", help="only cases with this text in their name")
    parser.add_argument("--seconds", type=float, help="seconds of each case, half of them before the reconnect")
    options = parser.parse_args()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    seconds = options.seconds or (5 if options.quick else SECONDS)
    found: dict[str, Any] = {}
    for name, case in (QUICK if options.quick else CASES).items():
        if options.only in name:
            found[name] = measured(*case, seconds)
            row = "  ".join(f"{key} {value}" for key, value in found[name].items())
            print(f"{name:34} {row}", flush=True)
    names = ("p99_ms", "lost", "repeated", "cpu_percent", "rss_mb")
    summary = {key: {name: one[key] for name, one in found.items() if key in one} for key in names}
    print(json.dumps({**summary, "seconds": seconds, "cases": found}))
    return 0


def measured(clients: int, runs: int, old: int, is_list: bool, seconds: float) -> dict[str, Any]:
    """One case in an installation of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cvstudio-live-")))
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {"DATA_DIR": str(folder), "PORT": str(port), "LOG_LEVEL": "ERROR", "API_RATE_PER_MINUTE": "0"}
        environment |= {"DJANGO_SETTINGS_MODULE": "cvstudio.settings", "DATABASE_URL": "", "REDIS_URL": ""}
        if server := os.environ.get("TEST_DATABASE_URL"):
            from benchmarks.pages import new_database

            environment["DATABASE_URL"] = stack.enter_context(new_database(server))
        os.environ |= environment
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            world = pool.apply(made, (clients, runs, old))
        web = subprocess.Popen([sys.executable, "manage.py", "web"], cwd=REPOSITORY, stdin=subprocess.DEVNULL)
        stack.callback(web.kill)
        stop = context.Event()
        writer = context.Process(target=write, args=(world["runs"], stop))
        wait_for_port(port)
        writer.start()
        try:
            return uvloop.run(Measurement(port, world, is_list, seconds, web).run())
        finally:
            stop.set()
            writer.join()


def made(clients: int, runs: int, old: int) -> dict[str, Any]:
    """The installation: running runs, finished ones, a queue, and a session for each client."""
    import django

    django.setup()
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session
    from django.core.management import call_command
    from django.utils import timezone

    from tests.helpers.tiny import make_dataset, make_run
    from trainingapp.models import TrainingRun

    call_command("migrate", verbosity=0)
    users = [User.objects.create(username=f"user-{number}", password="!") for number in range(min(clients, 50))]
    dataset = make_dataset(users[0])
    running = [make_run(users[0], dataset, start=False) for _number in range(runs)]
    now = timezone.now()
    example = running[0]
    shared = {"owner": users[0], "dataset": dataset, "task": example.task, "config": example.config, "total_epochs": 3}
    past = [
        TrainingRun(
            name=f"old-{number}",
            status="completed",
            epoch=3,
            elapsed_s=60.0 + number % 7,
            device="cpu",
            finished_at=now,
            **shared,
        )
        for number in range(old)
    ]
    waiting = [
        TrainingRun(name=f"queued-{n}", status="queued", queued_at=now, **shared) for n in range(QUEUED if old else 0)
    ]
    TrainingRun.objects.bulk_create([*past, *waiting], batch_size=500)
    TrainingRun.objects.filter(pk__in=[run.pk for run in running]).update(
        status="running", heartbeat_at=now, started_at=now, total_steps=100_000, attempt=1, device="cpu"
    )
    sessions, keys = [], []
    for number in range(clients):
        user = users[number % len(users)]
        store = SessionStore()
        data = {
            SESSION_KEY: str(user.pk),
            BACKEND_SESSION_KEY: "django.contrib.auth.backends.ModelBackend",
            HASH_SESSION_KEY: user.get_session_auth_hash(),
        }
        keys.append(store._get_new_session_key())
        expires = now + timezone.timedelta(days=1)
        sessions.append(Session(pk=keys[-1], session_data=store.encode(data), expire_date=expires))
    Session.objects.bulk_create(sessions, batch_size=500)
    return {"runs": [run.pk for run in running], "sessions": keys}


def write(runs: list[int], stop: Any) -> None:
    """Store EVENTS_PER_S events a second in each run, a transaction each, until `stop`."""
    import django

    django.setup()
    from django.db import transaction
    from django.utils import timezone

    from trainingapp.models import RunEvent, TrainingRun
    from trainingapp.models.run import append_events

    due = time.monotonic()
    while not stop.is_set():
        for number, run_id in enumerate(runs):
            moment = due + number / len(runs) / EVENTS_PER_S
            time.sleep(max(0.0, moment - time.monotonic()))
            with transaction.atomic():
                run = TrainingRun.objects.select_for_update().get(pk=run_id)
                run.step += 1
                run.heartbeat_at = run.last_event_at = timezone.now()
                text = f"at {time.time():.4f} loss 0.5"
                event = RunEvent(type="log", data={"message": text}, time=timezone.now(), epoch=1, step=run.step)
                append_events(run, [event])
                run.save(update_fields=["event_seq", "step", "heartbeat_at", "last_event_at", "updated_at"])
        due = max(due + 1 / EVENTS_PER_S, time.monotonic() - 1)


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the web server does not answer")


@dataclass
class Client:
    """One browser: the number that it has of its topic, and what it has seen."""

    session: str
    topic: str
    after: int
    seen: int = 0
    lost: int = 0
    repeated: int = 0
    changes: int = 0
    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    writer: asyncio.StreamWriter | None = None


class Measurement:
    """The clients of one case in this process, and the figures of the server beside them."""

    def __init__(
        self, port: int, world: dict[str, Any], is_list: bool, seconds: float, web: "subprocess.Popen[bytes]"
    ) -> None:
        runs = world["runs"]
        self.port, self.is_list, self.seconds, self.web = port, is_list, seconds, web
        self.counts = False
        topics = ["runs"] * len(world["sessions"]) if is_list else [f"run.{run}" for run in runs]
        self.clients = [
            Client(session, topics[number % len(topics)], round(time.time() * 1000) if is_list else 0)
            for number, session in enumerate(world["sessions"])
        ]
        self.pages: list[float] = []
        self.lags: list[float] = []

    async def run(self) -> dict[str, Any]:
        import psutil

        process = psutil.Process(self.web.pid)
        before = sum(process.cpu_times()[:2])
        tasks = await self.connect()
        opening_ms = 1000 * (sum(process.cpu_times()[:2]) - before) / len(self.clients)
        await asyncio.sleep(2 + len(self.clients) / 200)  # until all have what they missed
        beside = [asyncio.create_task(self.probe()), asyncio.create_task(self.watch())]
        self.counts = True
        cpu, start = sum(process.cpu_times()[:2]), time.monotonic()
        await asyncio.sleep(self.seconds / 2)
        used = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - start)
        self.counts = False  # what waits while everybody comes back is counted as lost or not, but not timed
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        tasks = await self.connect()
        await asyncio.sleep(2 + len(self.clients) / 200)  # until all have what they missed
        self.counts = True
        await asyncio.sleep(self.seconds / 2)
        for task in beside:
            task.cancel()
        figures = {"rss_mb": round(process.memory_info().rss / 1e6), "threads": process.num_threads()}
        self.web.send_signal(signal.SIGTERM)
        ending = time.monotonic()
        await asyncio.to_thread(self.web.wait)
        ended_s = time.monotonic() - ending
        await asyncio.gather(*tasks, return_exceptions=True)
        found: dict[str, Any] = {"clients": len(self.clients), "cpu_percent": round(100 * used), **figures}
        latencies = sorted(latency for client in self.clients for latency in client.latencies)
        if latencies:
            found["p50_ms"] = round(1000 * statistics.median(latencies))
            found["p99_ms"] = round(1000 * latencies[int(len(latencies) * 0.99)])
            found |= {name: sum(getattr(one, name) for one in self.clients) for name in ("lost", "repeated")}
            found["events"] = sum(client.seen for client in self.clients)
        else:
            found["changes"] = sum(client.changes for client in self.clients)
        found |= {"page_p50_ms": round(1000 * statistics.median(self.pages)) if self.pages else None}
        found |= {"refused": sum(one.refused for one in self.clients), "opening_cpu_ms": round(opening_ms, 1)}
        found["client_lag_p99_ms"] = round(1000 * sorted(self.lags)[int(len(self.lags) * 0.99)])
        return {**found, "sigterm_s": round(ended_s, 2)}

    async def connect(self) -> list["asyncio.Task[None]"]:
        """Open the streams of all clients; each is read by a task."""
        readers = await asyncio.gather(*(self.opened(client) for client in self.clients))
        pairs = zip(self.clients, readers, strict=True)
        return [asyncio.create_task(self.follow(client, reader)) for client, reader in pairs if reader is not None]

    async def opened(self, client: Client) -> asyncio.StreamReader | None:
        address = f"/events/?topics={client.topic}:{client.after}"
        reader, writer, status = await self.asked(client, address)
        if status != 200:
            client.refused += 1
            writer.close()
            return None
        client.writer = writer
        return reader

    async def asked(self, client: Client, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**22)
        host = f"Host: 127.0.0.1:{self.port}\r\nConnection: close\r\nCookie: sessionid={client.session}\r\n"
        writer.write(f"GET {address} HTTP/1.1\r\n{host}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        return reader, writer, int(head.split()[1])

    async def follow(self, client: Client, reader: asyncio.StreamReader) -> None:
        rest = b""
        try:
            while chunk := await reader.read(2**20):
                now = time.time()
                whole, _blank, rest = (rest + chunk).rpartition(b"\n\n")
                if self.is_list:
                    for _number in range(whole.count(b"event: changed")):
                        client.changes += 1
                        await self.page(client, "/")
                    continue
                for seq, moment in MARK.findall(whole):
                    self.note(client, int(seq), now - float(moment))
        finally:
            assert client.writer is not None
            client.writer.close()

    def note(self, client: Client, seq: int, latency_s: float) -> None:
        if seq <= client.after:
            client.repeated += 1
            return
        client.lost += seq - client.after - 1
        client.after = seq
        client.seen += 1
        if self.counts:
            client.latencies.append(latency_s)

    async def probe(self) -> None:
        """Request a small page once a second."""
        while True:
            await asyncio.sleep(1)
            start = time.monotonic()
            await self.page(self.clients[0], "/account/")
            self.pages.append(time.monotonic() - start)

    async def watch(self) -> None:
        """How late this process is itself: a delay of the clients that is none of the server."""
        while True:
            due = time.monotonic() + 0.02
            await asyncio.sleep(0.02)
            if self.counts:
                self.lags.append(time.monotonic() - due)

    async def page(self, client: Client, address: str) -> None:
        reader, writer, _status = await self.asked(client, address)
        await reader.read()
        writer.close()


if __name__ == "__main__":
    sys.exit(main())
