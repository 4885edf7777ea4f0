"""Backup, restore and doctor with a large database, and the garbage collector of the web process.

    python benchmarks/operations.py [--quick] [--share N]

Generates an installation (runs, metrics, log lines and checkpoints, as rows and as small files) in a folder that is
removed afterwards, on SQLite and, with TEST_DATABASE_URL, in a new database of that PostgreSQL server. The commands of
manage.py run as processes of their own. Each figure is a median, and stands beside a plain copy of the SQLite file with
zstd (level 1, flushed to the disk) in the same run. Peak memory is that of the process itself: the doctor imports torch
in another one, whose time is listed as `torch_s`.

The collector part asks one process for pages of that installation and counts collections and their time, in CPU
seconds: as Python starts, with everything frozen that was loaded, and with the thresholds of the studio.

The full size is that of the load test: 10,000 runs, 2.5 million metric events of 4 values, 5 million log lines, 60,000
checkpoints. `--quick` is a twentieth. The last line is JSON.
"""

import argparse
import gc
import io
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

RUNS, METRICS, LOGS, CHECKPOINTS_PER_RUN = 10_000, 2_500_000, 5_000_000, 6
#: Divisor of the sizes for --quick.
QUICK_SHARE = 20
REPEATS = 3
REQUESTS_PER_PAGE = 60
VARIANTS = ("as Python starts", "frozen", "frozen, thresholds of the studio")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"a {QUICK_SHARE}th of the rows, one repeat")
    parser.add_argument("--share", type=int, help="another divisor of the numbers of rows")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        arguments.result.write_text(json.dumps(CHILDREN[arguments.child[0]](*arguments.child[1:])))
        return 0
    share = arguments.share or (QUICK_SHARE if arguments.quick else 1)
    repeats = 1 if arguments.quick else REPEATS
    found: dict[str, Any] = {"share": share}
    with tempfile.TemporaryDirectory(prefix="operations-") as name:
        folder = Path(name)
        studio = Installation(folder / "sqlite")
        found["generated"] = studio.child("generate", str(share))
        database = folder / "sqlite" / "studio.sqlite3"
        found["database_mb"] = round(database.stat().st_size / 1e6, 1)
        plain(database, folder)  # warm-up
        copies = [plain(database, folder) for _repeat in range(REPEATS)]
        found["plain"] = {name: round(statistics.median(copy[name] for copy in copies), 2) for name in copies[0]}
        found["sqlite"] = measured(studio, folder, repeats, lambda number: Installation(folder / f"restored-{number}"))
        found["collector"] = {variant: studio.child("collector", variant) for variant in VARIANTS}
        if server := os.environ.get("TEST_DATABASE_URL"):
            found["postgresql"] = on_postgres(server, folder, share, repeats)
    report(found)
    print(json.dumps(found))
    return 0


@dataclass
class Installation:
    """A data folder and a database; every piece of work runs in a process of its own."""

    folder: Path
    database_url: str = ""

    def child(self, *arguments: str) -> Any:
        """Run a function of CHILDREN; returns its result."""
        self.folder.mkdir(exist_ok=True)
        result = self.folder.with_name(f"{self.folder.name}.json")
        environment = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL")}
        environment |= {"DATA_DIR": str(self.folder), "LOG_LEVEL": "ERROR", "PYTHONPATH": str(REPOSITORY)}
        environment["PUBLISHED_WEIGHTS"] = "cache"
        environment |= {"DJANGO_SETTINGS_MODULE": "cvstudio.settings", "DATABASE_URL": self.database_url}
        command = [sys.executable, __file__, "--result", str(result), "--child", *arguments]
        subprocess.run(command, env=environment, cwd=REPOSITORY, check=True)
        return json.loads(result.read_text())


def measured(
    studio: Installation, folder: Path, repeats: int, new: Callable[[int], Installation]
) -> dict[str, dict[str, float]]:
    """The medians of each command."""
    found: dict[str, list[dict[str, float]]] = {"backup": [], "restore": [], "doctor": []}
    for number in range(repeats):
        file = folder / f"backup-{number}.tar.zst"
        found["backup"].append(studio.child("command", "backup", str(file)))
        other = new(number)
        found["restore"].append(other.child("command", "restore", str(file)))
        shutil.rmtree(other.folder)
        file.unlink()
        found["doctor"].append(studio.child("command", "doctor"))
    return {
        name: {key: round(statistics.median(one[key] for one in figures), 2) for key in figures[0]}
        for name, figures in found.items()
    }


def on_postgres(server: str, folder: Path, share: int, repeats: int) -> dict[str, dict[str, float]]:
    """The same in new databases of the server, which are dropped afterwards."""
    import psycopg

    names: list[str] = []
    with psycopg.connect(server, autocommit=True) as connection:

        def new(number: int) -> Installation:
            names.append(f"operations_{os.getpid()}_{number + 1}")
            connection.execute(f'CREATE DATABASE "{names[-1]}"')
            url = urlsplit(server)._replace(path=f"/{names[-1]}").geturl()
            return Installation(folder / f"postgresql-{number + 1}", url)

        try:
            studio = new(-1)
            studio.child("generate", str(share))
            return measured(studio, folder, repeats, new)
        finally:
            for name in names:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def plain(database: Path, folder: Path) -> dict[str, float]:
    """Seconds to copy a file compressed, and back."""
    import zstandard

    packed, unpacked = folder / "plain.zst", folder / "plain"
    compressor = zstandard.ZstdCompressor(level=1, threads=min(4, len(os.sched_getaffinity(0))))

    def copy(source: Path, target: Path, copy_stream: Callable[[Any, Any], object]) -> float:
        began = time.perf_counter()
        with source.open("rb") as reader, target.open("wb") as writer:
            copy_stream(reader, writer)
            writer.flush()
            os.fsync(writer.fileno())
        return time.perf_counter() - began

    seconds = {
        "backup_s": copy(database, packed, compressor.copy_stream),
        "restore_s": copy(packed, unpacked, zstandard.ZstdDecompressor().copy_stream),
    }
    packed.unlink()
    unpacked.unlink()
    return seconds


def report(found: dict[str, Any]) -> None:
    generated = ", ".join(f"{count:,} {name}" for name, count in found["generated"].items())
    print(f"{generated}; SQLite {found['database_mb']:,} MB")
    print(f"{'':24} {'seconds':>8} {'CPU':>8} {'torch':>8} {'peak MB':>8} {'to plain':>8}")
    for name in ("backup_s", "restore_s"):
        print(f"{'plain copy, ' + name[:-2]:24} {found['plain'][name]:8.2f}")
    for database in ("sqlite", "postgresql"):
        for name, figures in found.get(database, {}).items():
            figures["ratio"] = round(
                figures["seconds"] / found["plain"]["restore_s" if name == "restore" else "backup_s"], 2
            )
            columns = (figures[key] for key in ("seconds", "cpu_s", "torch_s", "peak_mb", "ratio"))
            print(f"{database + ', ' + name:24} " + " ".join(f"{value:8.2f}" for value in columns))
    columns = {"requests": 8, "cpu_ms": 8, "collections": 11, "full": 6, "collector_ms": 12, "longest_ms": 10}
    print(f"\n{'collector':34} " + " ".join(f"{name:>{width}}" for name, width in columns.items()))
    for name, figures in found["collector"].items():
        print(f"{name:34} " + " ".join(f"{figures[key]:{width}}" for key, width in columns.items()))


# In processes of their own


def command(*words: str) -> dict[str, float]:
    """Run a command of manage.py: its seconds, CPU seconds with its children, and its own peak memory in MB."""
    import django

    began = time.perf_counter()
    django.setup()
    from django.core.management import call_command

    from trainingapp.operations.doctor import examination

    torch_s, ask_torch = 0.0, examination.torch_and_gpus

    def timed() -> Iterator[Any]:
        nonlocal torch_s
        start = time.perf_counter()
        found = list(ask_torch())
        torch_s = time.perf_counter() - start
        yield from found

    examination.torch_and_gpus = timed
    status: object = 0
    try:
        call_command(*words, stdout=io.StringIO())
    except SystemExit as end:
        status = end.code
    assert status in (0, 1), f"{words}: {status}"  # 1 of the doctor: no worker is running
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_s": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        "torch_s": torch_s,
        "peak_mb": own.ru_maxrss / 1024,
    }


def collector(variant: str) -> dict[str, float]:
    """Ask for pages; the collections of that time, and what they took of the CPU time of this process."""
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.test import Client
    from django.urls import get_resolver, reverse

    from trainingapp.models import TrainingRun
    from trainingapp.operations.collector import settle

    settings.ALLOWED_HOSTS = ["testserver"]
    client = Client()
    client.force_login(get_user_model()._default_manager.get())
    newest = TrainingRun.objects.latest("pk").get_absolute_url()
    pages = [reverse("run_list"), reverse("queue"), reverse("run_new"), newest]
    assert get_resolver().url_patterns
    if variant == VARIANTS[1]:
        gc.collect()
        gc.freeze()
    elif variant == VARIANTS[2]:
        settle()
    for page in pages:  # warm-up: templates are loaded when they are used first
        assert client.get(page).status_code == 200, page
    collections: list[tuple[int, float]] = []
    began_collection = 0.0

    def note(phase: str, info: dict[str, int]) -> None:
        nonlocal began_collection
        if phase == "start":
            began_collection = time.process_time()
        else:
            collections.append((info["generation"], (time.process_time() - began_collection) * 1000))

    gc.callbacks.append(note)
    began = time.process_time()
    for _number in range(REQUESTS_PER_PAGE):
        for page in pages:
            client.get(page)
    cpu_ms = (time.process_time() - began) * 1000
    gc.callbacks.remove(note)
    requests = REQUESTS_PER_PAGE * len(pages)
    return {
        "requests": requests,
        "cpu_ms": round(cpu_ms / requests, 2),
        "collections": len(collections),
        "full": sum(generation == 2 for generation, _ms in collections),
        "collector_ms": round(sum(ms for _generation, ms in collections), 1),
        "longest_ms": round(max((ms for _generation, ms in collections), default=0), 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def generate(share: str) -> dict[str, int]:
    """Fill the installation: rows by the fastest way of its database, and a folder with small files for each run."""
    import django

    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.utils import timezone

    from trainingapp.contract.config import parse_config
    from trainingapp.models import Checkpoint, Dataset, RunEvent, TrainingRun
    from trainingapp.runs.series_migration import convert_some

    call_command("migrate", verbosity=0)
    divisor = int(share)
    runs, metrics, logs = RUNS // divisor, METRICS // divisor, LOGS // divisor
    user = get_user_model()._default_manager.create_superuser("admin", password=None)
    classes = [f"class {number}" for number in range(10)]
    dataset = Dataset.objects.create(
        name="large", owner=user, source="/nowhere", status="ready", tasks=["classification"], classes=classes
    )
    dataset.folder.mkdir(parents=True)
    config = parse_config({"epochs": 30}).model_dump(mode="json")
    now = timezone.now()
    TrainingRun.objects.bulk_create(
        (
            TrainingRun(
                name=f"run {number}",
                owner=user,
                dataset=dataset,
                task="classification",
                config=config,
                status="completed",
                attempt=1,
                epoch=30,
                total_epochs=30,
                step=9000,
                total_steps=9000,
                metrics={"val/top1": 0.5 + number % 100 / 250, "val/loss": 1.0},
                best_metric_name="top1",
                best_metric=0.5 + number % 100 / 250,
                event_seq=(metrics + logs) // runs,
                started_at=now,
                finished_at=now,
            )
            for number in range(runs)
        ),
        batch_size=500,
    )
    numbers = list(TrainingRun.objects.order_by("pk").values_list("pk", flat=True))
    Checkpoint.objects.bulk_create(
        (
            Checkpoint(
                run_id=pk,
                file=f"epoch_{epoch}.pt",
                attempt=1,
                epoch=epoch,
                step=epoch * 300,
                reason="epoch",
                size_bytes=64,
                sha256="0" * 64,
                metrics={"top1": 0.5},
                created_at=now,
            )
            for pk in numbers
            for epoch in range(CHECKPOINTS_PER_RUN)
        ),
        batch_size=500,
    )
    for pk in numbers:
        folder = Path(os.environ["DATA_DIR"]) / "runs" / str(pk)
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        for epoch in range(CHECKPOINTS_PER_RUN):
            (folder / "checkpoints" / f"epoch_{epoch}.pt").write_bytes(b"x" * 64)
    drawn = random.Random(0)

    def events() -> Iterator[tuple[Any, ...]]:
        for pk in numbers:
            for seq in range(1, (metrics + logs) // runs + 1):
                time_ = now + timedelta(milliseconds=seq * 20)
                if seq * metrics % (metrics + logs) < metrics:
                    values = {name: drawn.random() for name in ("loss", "top1", "lr", "images_per_s")}
                    kind, data = "metrics", {"split": "train", "values": values}
                else:
                    kind, data = "log", {"message": f"Epoch {seq // 300}, step {seq}: {drawn.random():.6f} s per batch"}
                yield pk, seq, 1, kind, "info", time_, seq // 300, seq, json.dumps(data), False

    columns = ("run_id", "seq", "attempt", "type", "level", "time", "epoch", "step", "data", "superseded")
    insert(RunEvent._meta.db_table, columns, events())
    TrainingRun.objects.update(metrics_in_rows=True)
    convert_some()
    return {"runs": runs, "metric events": metrics, "log lines": logs, "checkpoints": runs * CHECKPOINTS_PER_RUN}


def insert(table: str, columns: tuple[str, ...], rows: Iterator[tuple[Any, ...]]) -> None:
    from django.db import connection, transaction

    names = ", ".join(columns)
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            places = ", ".join("?" * len(columns))
            adapted = ((*row[:5], row[5].replace(tzinfo=None).isoformat(" "), *row[6:]) for row in rows)
            connection.connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", adapted)


CHILDREN: dict[str, Callable[..., Any]] = {"command": command, "collector": collector, "generate": generate}

if __name__ == "__main__":
    sys.exit(main())
