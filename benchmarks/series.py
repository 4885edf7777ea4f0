"""What the series of metrics cost: bytes on the disk, storing them, reading them, converting those of older versions.

    python benchmarks/series.py [--quick]

Writes the events.jsonl of a run with 1,000,000 points of four metrics and a validation now and then (a tenth with
--quick), stores it as the supervisor does in a new SQLite database (with TEST_DATABASE_URL in a new database of that
PostgreSQL server), and requests the chart and the metrics of the API in a process of their own, which measures its
memory. Then it converts a tenth of the points from rows of events. The last line is JSON:

    bytes_per_value     of the table and its indexes, for each stored number
    values_per_s        stored from events.jsonl, on one core
    chart_ms, api_ms    medians and 95th percentiles of the requests, and memory_mb of the process at its peak
    converted_per_s     values converted from rows of events

Times say something on a machine with nothing else to do.
"""

import argparse
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.pages import insert, make_dataset, new_database

if TYPE_CHECKING:
    from trainingapp.models import TrainingRun

POINTS = 1_000_000
#: Training points between two validations.
EVERY = 1000
ROUNDS = 20
BEGAN = 1_767_225_600.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the points, and fewer rounds")
    parser.add_argument("--read", type=int, help=argparse.SUPPRESS)  # the process that reads: rounds
    options = parser.parse_args()
    if options.read:
        start_django()
        print(json.dumps(reading(options.read)))
        return 0
    count = POINTS // (10 if options.quick else 1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cvstudio-series-")))
        os.environ |= {"DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "cvstudio.settings", "LOG_LEVEL": "ERROR"}
        os.environ |= {"API_RATE_PER_MINUTE": "0", "ALLOWED_HOSTS": "testserver", "DATABASE_URL": ""}
        if server := os.environ.get("TEST_DATABASE_URL"):
            os.environ["DATABASE_URL"] = stack.enter_context(new_database(server))
        start_django()
        from django.db import connection

        stack.callback(connection.close)
        run = make_run()
        found: dict[str, Any] = {"vendor": connection.vendor, "points": count}
        found |= storing(run, count)
        command = [sys.executable, __file__, "--read", str(5 if options.quick else ROUNDS)]
        read = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        found |= json.loads(read.stdout.splitlines()[-1])
        found |= converting(count // 10)
    print(f"{'measured':24} {'':>12}")
    for name, value in found.items():
        print(f"{name:24} {value if isinstance(value, str) else f'{value:,.2f}':>12}")
    print(json.dumps(found))
    return 0


def start_django() -> None:
    import django

    django.setup()


def make_run() -> "TrainingRun":
    """A new database with a run that a worker holds."""
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from trainingapp.contract.config import parse_config
    from trainingapp.models import TrainingRun

    call_command("migrate", verbosity=0)
    admin = User.objects.create_superuser("admin")
    config = parse_config({"task": "classification", "model": "resnet18", "epochs": 100}).model_dump(mode="json")
    fields = {"status": "running", "attempt": 1, "worker": "here:1:1", "host": "here", "task": "classification"}
    return TrainingRun.objects.create(
        name="long", owner=admin, dataset=make_dataset(admin), config=config, heartbeat_at=datetime.now(UTC), **fields
    )


def write_events(path: Path, count: int) -> int:
    """Write the events as a trainer does; returns how many numbers they hold."""
    from trainingapp.contract.events import Metrics

    chance, moment, values = random.Random(0), BEGAN, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for step in range(1, count + 1):
            moment += 0.1 + chance.random() / 100
            loss = single(math.exp(-step / count) + chance.random() / 10)
            found = {
                "loss": loss,
                "top1": chance.randrange(33) / 32,
                "lr": 0.01 * (1 + math.cos(step / count * math.pi)),
                "images_per_s": 500 + 20 * chance.random(),
            }
            place = {"time": moment, "attempt": 1, "epoch": 1 + step * 100 // (count + 1), "step": step}
            file.write(
                Metrics(split="train", values=found, **place).model_dump_json(exclude_unset=True).encode() + b"\n"
            )
            values += len(found)
            if step % EVERY == 0:
                validated = Metrics(split="val", values={"loss": loss, "top1": chance.random()}, **place)
                file.write(validated.model_dump_json(exclude_unset=True).encode() + b"\n")
                values += 2
    return values


def single(value: float) -> float:
    """As a tensor of float32 gives it."""
    import numpy as np

    return float(np.float32(value))


def storing(run: "TrainingRun", count: int) -> dict[str, float]:
    from trainingapp.contract.events import EVENTS_FILE
    from trainingapp.models import SeriesChunk
    from trainingapp.operations.collector import settle
    from trainingapp.supervision.event_store import EventStore

    settle()  # as the worker does when it has started
    values = write_events(run.folder / EVENTS_FILE, count)
    before = stored_bytes(SeriesChunk._meta.db_table)
    began, cpu = time.perf_counter(), time.process_time()
    EventStore(run).pull_all()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    size = stored_bytes(SeriesChunk._meta.db_table) - before
    return {
        "values": values,
        "bytes_per_value": size / values,
        "values_per_s": values / took,
        "values_per_cpu_s": values / cpu,
        "store_memory_mb": peak_mb(),
    }


def stored_bytes(table: str) -> int:
    """The bytes of a table and its indexes; with SQLite of all pages in use, which only this table adds to."""
    from django.db import connection

    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_total_relation_size(%s)", [table])
            return int(cursor.fetchone()[0])
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        figures = [cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count")]
        return int((figures[0] - figures[1]) * cursor.execute("PRAGMA page_size").fetchone()[0])


def reading(rounds: int) -> dict[str, float]:
    """Request the chart and the metrics of the run, as an administrator."""
    from django.contrib.auth.models import User
    from django.test import Client

    from trainingapp.models import TrainingRun
    from trainingapp.operations.collector import settle

    settle()  # as the web server does when it has started
    client, run = Client(), TrainingRun.objects.get()
    client.force_login(User.objects.get())
    before = peak_mb()
    pages = {
        "chart": f"/runs/{run.pk}/metrics/",
        "api": f"/api/v1/training/{run.pk}/metrics?max_points=500",
        "api_one": f"/api/v1/training/{run.pk}/metrics?max_points=500&names=val/top1",
        "news": f"/runs/{run.pk}/metrics/?after={run.event_seq - 10}",
    }
    found: dict[str, float] = {}
    for name, address in pages.items():
        times = [milliseconds(lambda address=address: client.get(address)) for _round in range(rounds + 1)][1:]
        found |= {f"{name}_ms": median(times), f"{name}_p95_ms": quantiles(times, n=20)[-1]}
    return {**found, "memory_mb": peak_mb(), "memory_added_mb": peak_mb() - before}


def milliseconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    assert call().status_code == 200
    return (time.perf_counter() - began) * 1000


def peak_mb() -> float:
    """The most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def converting(count: int) -> dict[str, float]:
    """Store points as version 0.2 did before, and convert them."""
    from benchmarks.pages import EVENT_COLUMNS
    from trainingapp.models import TrainingRun
    from trainingapp.runs.series_migration import convert_some

    chance, run, names = random.Random(1), TrainingRun.objects.get(), ("loss", "top1", "lr", "images_per_s")
    first = run.event_seq + 1
    rows = (
        (
            *(run.pk, seq, 1, "metrics", "info"),
            (datetime.fromtimestamp(BEGAN, UTC) + timedelta(milliseconds=seq * 100)).isoformat(" "),
            *(1, seq),
            json.dumps({"split": "train", "values": {name: chance.random() for name in names}}),
            False,
        )
        for seq in range(first, first + count)
    )
    insert("trainingapp_runevent", EVENT_COLUMNS, rows)
    TrainingRun.objects.update(event_seq=first + count, metrics_in_rows=True)
    began = time.perf_counter()
    assert convert_some()
    return {"converted_per_s": 4 * count / (time.perf_counter() - began)}


if __name__ == "__main__":
    sys.exit(main())
