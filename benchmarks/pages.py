"""How long the pages, the admin and the API of a large installation take.

    python benchmarks/pages.py [--quick] [--only TEXT] [--keep FOLDER]

Makes an installation with 10,000 runs, 10 million points of metrics, 5 million lines of logs and 60,000 checkpoints (a
tenth of each with --quick) in a folder of its own, or with TEST_DATABASE_URL in a new database of that PostgreSQL
server, and requests each page in this process, through every middleware and compressed, as an administrator. Each page
is warmed up and then requested in rounds with all others. Prints for each page the number of queries, the median and
the 95th percentile, and the bytes that are sent. The last line is JSON. Times say something on a machine with nothing
else to do.

--keep makes the installation in FOLDER and leaves it there; where it is there already, it is used again.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from math import exp
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.test import Client

    from trainingapp.models import Dataset, TrainingRun

RUNS, LOG_LINES, CHECKPOINTS = 10_000, 500, 6
#: Points of the largest run, of the second and of each other one.
POINTS = (1_000_000, 100_000, 890)
EPOCHS = 100
QUEUED, RUNNING = 150, 2
ROUNDS = 20
#: A page that takes longer in all is requested in fewer rounds.
MOST_S = 30.0
BATCH = 20_000
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
EVENT_COLUMNS = ("run_id", "seq", "attempt", "type", "level", "time", "epoch", "step", "data", "superseded")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, and fewer rounds")
    parser.add_argument("--only", default="", help="only pages with this text in their name")
    parser.add_argument("--keep", type=Path, help="make the installation in this folder, and use it again")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cvstudio-pages-")))
        is_new = not (folder / "made").exists()
        os.environ |= {"DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "cvstudio.settings", "LOG_LEVEL": "ERROR"}
        os.environ |= {"API_RATE_PER_MINUTE": "0", "ALLOWED_HOSTS": "testserver"}
        os.environ["DATABASE_URL"] = ""
        if server := os.environ.get("TEST_DATABASE_URL"):
            os.environ["DATABASE_URL"] = stack.enter_context(new_database(server)) if not options.keep else server
        import django

        django.setup()
        from django.db import connection

        stack.callback(connection.close)
        if is_new:
            make_installation(10 if options.quick else 1)
            (folder / "made").touch()
        found = measured(requests(), 5 if options.quick else ROUNDS, options.only)
        report(found, connection.vendor, is_quick=options.quick)
    return 0


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """Within: an empty database on the PostgreSQL server, by its URL."""
    import psycopg

    name = f"cvstudio_pages_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            yield urlsplit(server)._replace(path=f"/{name}").geturl()
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


# The installation


def make_installation(share: int) -> None:
    """Fill a new database with one `share`-th of the rows."""
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from trainingapp.models.run_value import store_values

    call_command("migrate", verbosity=0)
    admin = User.objects.create_superuser("admin")
    dataset = make_dataset(admin)
    runs = make_runs(admin, dataset, RUNS // share)
    points = [max(1, number // share) if place < 2 else number for place, number in enumerate(POINTS)]
    store_values(runs)
    insert("trainingapp_runevent", EVENT_COLUMNS, events_of(runs, points))
    insert("trainingapp_checkpoint", CHECKPOINT_COLUMNS, checkpoints_of(runs))
    for run in runs[:3]:
        write_evaluations(run)
    set_counters(runs)
    convert()
    analyze()


def make_dataset(owner: "User") -> "Dataset":
    from trainingapp.models import Dataset

    classes = [f"class {number}" for number in range(20)]
    counts = {"train": dict.fromkeys(classes, 500), "val": dict.fromkeys(classes, 100)}
    return Dataset.objects.create(
        name="scenes",
        owner=owner,
        source="/nowhere",
        status=Dataset.Status.READY,
        tasks=["classification"],
        classes=classes,
        counts=counts,
        images={"train": 10_000, "val": 2_000},
        fingerprint="0" * 64,
    )


def make_runs(owner: "User", dataset: "Dataset", count: int) -> list["TrainingRun"]:
    """Completed and failed runs with some queued and running ones, over a year."""
    from trainingapp.contract.config import parse_config
    from trainingapp.models import TrainingRun

    config = parse_config({"task": "classification", "model": "resnet18", "epochs": EPOCHS}).model_dump(mode="json")
    packages = {f"package-{number}": "1.2.3" for number in range(40)}
    rows = []
    for number in range(count):
        status = "failed" if number % 9 == 8 else "completed"
        if count - RUNNING - QUEUED <= number:
            status = "running" if number >= count - RUNNING else "queued"
        ended = BEGAN + timedelta(minutes=50 * number + 40)
        rows.append(
            TrainingRun(
                name=f"run {number}",
                owner=owner,
                dataset=dataset,
                task="classification",
                config=config,
                status=status,
                queue_rank=number,
                attempt=1,
                epoch=EPOCHS,
                total_epochs=EPOCHS,
                step=100 * EPOCHS,
                total_steps=100 * EPOCHS,
                elapsed_s=2400.0,
                metrics={"train/loss": 0.1, "val/loss": 0.2, "val/top1": 0.9},
                best_metric_name="top1",
                best_metric=0.9,
                best_epoch=EPOCHS,
                environment={"python": "3.11", "packages": packages},
                queued_at=ended - timedelta(minutes=40),
                started_at=ended - timedelta(minutes=39),
                finished_at=ended if status in ("completed", "failed") else None,
                heartbeat_at=datetime.now(UTC) if status == "running" else None,
            )
        )
    made = TrainingRun.objects.bulk_create(rows, batch_size=500)
    for number, run in enumerate(made):
        run.created_at = BEGAN + timedelta(minutes=50 * number)
    TrainingRun.objects.bulk_update(made, ["created_at"], batch_size=500)
    return made


def events_of(runs: list["TrainingRun"], points: list[int]) -> Iterator[tuple[object, ...]]:
    """The points of each run with a line of its log now and then, and its validations at the ends of epochs."""
    chance = random.Random(0)
    for place, run in enumerate(runs):
        count = points[min(place, 2)]
        every, epoch_length = max(1, count // LOG_LINES), max(1, count // EPOCHS)
        seq = 0
        for step in range(1, count + 1):
            epoch, seq = min(EPOCHS, 1 + (step - 1) // epoch_length), seq + 1
            moment = (run.created_at + timedelta(seconds=step % 2400)).isoformat(" ")
            loss = exp(-step / count) + chance.random() / 10
            values = {"loss": loss, "top1": 1 - loss / 2, "lr": 0.001, "images_per_s": 500.0}
            data = json.dumps({"split": "train", "values": values})
            yield run.pk, seq, 1, "metrics", "info", moment, epoch, step, data, False
            if step % every == 0:
                seq += 1
                level = "error" if seq % 800 == 0 else "warning" if seq % 80 == 0 else "info"
                data = json.dumps({"message": f"step {step}: the loss is {loss:.4f}"})
                yield run.pk, seq, 1, "log", level, moment, epoch, step, data, False
            if step % epoch_length == 0:
                seq += 1
                values = {"loss": loss, "top1": 1 - loss / 2}
                evaluation = {"evaluation": f"evaluations/epoch_{epoch}.json"} if place < 3 else {}
                data = json.dumps({"split": "val", "values": values, **evaluation})
                yield run.pk, seq, 1, "metrics", "info", moment, epoch, step, data, False
        run.event_seq = seq


CHECKPOINT_COLUMNS = (
    *("run_id", "file", "attempt", "epoch", "step", "reason", "size_bytes", "sha256", "metrics", "is_best", "is_last"),
    *("stored_bytes", "is_pinned", "damage", "damage_data", "created_at"),
)


def checkpoints_of(runs: list["TrainingRun"]) -> Iterator[tuple[object, ...]]:
    for run in runs:
        for number in range(1, CHECKPOINTS + 1):
            epoch, is_last = number * EPOCHS // CHECKPOINTS, number == CHECKPOINTS
            about = (run.pk, f"epoch_{epoch}.pt", 1, epoch, epoch * 100, "epoch", 90_000_000, "0" * 64)
            moment = (run.created_at + timedelta(minutes=number)).isoformat(" ")
            yield *about, '{"top1": 0.9}', is_last, is_last, 90_000_000, False, "", "{}", moment


def insert(table: str, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """Insert the rows by the database's fastest way."""
    from django.db import connection, transaction

    rows, names = iter(rows), ", ".join(columns)
    with connection.cursor() as cursor, transaction.atomic():
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            return
        places = ", ".join(["%s"] * len(columns))
        while batch := list(islice(rows, BATCH)):
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", batch)


def write_evaluations(run: "TrainingRun") -> None:
    """The evaluation files of every epoch of the run."""
    from trainingapp.contract.evaluation import Column, Evaluation, ImageScore, write_evaluation

    classes = run.dataset.classes
    run.folder.mkdir(parents=True)
    for epoch in range(1, EPOCHS + 1):
        found = Evaluation(
            values={"loss": 1 / epoch, "top1": 1 - 1 / (epoch + 1)},
            score="loss",
            score_higher_is_better=False,
            columns=[Column("recall", "Accuracy (recall)"), Column("images", "Images", is_share=False)],
            per_class=[{"class": name, "recall": 0.9, "images": 100} for name in classes],
            confusion_names=classes,
            confusion=[[5] * len(classes) for _name in classes],
            curves=[],
            images=[ImageScore(index, float(index), (index % len(classes),)) for index in range(100)],
            predictions={index: {"classes": [[0, 0.75], [1, 0.25]]} for index in range(100)},
        )
        paths = [f"images/{index}.png" for index in range(100)]
        write_evaluation(
            run.folder, found, task="classification", epoch=epoch, step=epoch * 100, classes=classes, paths=paths
        )


def set_counters(runs: list["TrainingRun"]) -> None:
    """What the supervisor would have written beside the events: their number, and the marks of evaluations."""
    from django.db.models import F

    from trainingapp.models import RunEvent, TrainingRun

    TrainingRun.objects.bulk_update(runs, ["event_seq"], batch_size=500)
    validations = RunEvent.objects.filter(run__in=runs[:3], type="metrics", data__has_key="evaluation")
    validations.update(is_evaluation=True)
    TrainingRun.objects.update(updated_at=F("created_at"))


def convert() -> None:
    """Store the metrics as series: they were inserted as rows of events, as version 0.2 made them."""
    from trainingapp.models import TrainingRun
    from trainingapp.runs.series_migration import convert_some

    TrainingRun.objects.update(metrics_in_rows=True)
    convert_some()


def analyze() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


# The requests


def requests() -> dict[str, str]:
    """The addresses that are requested, by what they are called in the table."""
    from django.db.models import Max

    from trainingapp.admin.runs import CheckpointAdmin
    from trainingapp.models import Checkpoint, TrainingRun

    listed = min(Checkpoint.objects.count(), CheckpointAdmin.newest)
    done = TrainingRun.objects.filter(status="completed").order_by("pk").values_list("pk", flat=True)
    big, second, third, small = done[0], done[1], done[2], done[10]
    running = TrainingRun.objects.filter(status="running").aggregate(last=Max("pk"))["last"]
    last = TrainingRun.objects.count() // 25
    admin = "/admin/trainingapp"
    return {
        "home": "/",
        "runs, first page": "/runs/",
        "runs, last page": f"/runs/?page={last}",
        "runs, search": "/runs/?q=run+77",
        "runs, one status": "/runs/?status=failed",
        "runs, sorted by best": "/runs/?sort=-best",
        "runs, sorted by a metric": "/runs/?sort=-val/top1",
        "runs, after 5,000 by a metric": f"/runs/?sort=-val/top1&after=[0.9,{TrainingRun.objects.count() // 2}]",
        "runs, conditions": "/runs/?q=weight_decay<0.1+and+top1>0.5",
        "runs, four conditions": "/runs/?q=weight_decay<0.1+and+top1>0.5+and+seed>=0+and+val/loss<1",
        "run, 1,000,000 points": f"/runs/{big}/",
        "run, small": f"/runs/{small}/",
        "run, running": f"/runs/{running}/",
        "new run": "/runs/new/",
        "evaluation, 100 epochs": f"/runs/{second}/evaluation/",
        "queue": "/queue/",
        "new run, like another": f"/runs/new/?clone={second}",
        "new sweep": "/sweeps/new/",
        "fork": f"/runs/{second}/fork/",
        "run, charts": f"/runs/{big}/charts/",
        "run, log": f"/runs/{big}/log/",
        "run, log, rare text": f"/runs/{big}/log/?q=nowhere",
        "run, activity": f"/runs/{big}/activity/",
        "run, configuration": f"/runs/{big}/config/",
        "run, checkpoints": f"/runs/{big}/checkpoints/",
        "run, report": f"/runs/{second}/report.html",
        "compare, three runs": f"/compare/?runs={big}&runs={second}&runs={third}",
        "compare, curves": f"/compare/curves.json?runs={big}&runs={second}&runs={third}",
        "search": "/search/?q=run+77",
        "models": "/weights/",
        "notifications": "/notifications/",
        "devices": "/devices/",
        "disk": "/disk/",
        "datasets": "/datasets/",
        "audit trail": "/audit/",
        "admin: runs": f"{admin}/trainingrun/",
        "admin: events": f"{admin}/runevent/",
        "admin: events, errors": f"{admin}/runevent/?level=error",
        "admin: events, search": f"{admin}/runevent/?q=0.5555",
        "admin: events of a run": f"{admin}/runevent/?run__id__exact={second}",
        "admin: a run": f"{admin}/trainingrun/{big}/change/",
        "admin: runs, search": f"{admin}/trainingrun/?q=run+77",
        "admin: series": f"{admin}/serieschunk/",
        "admin: values": f"{admin}/runvalue/",
        "admin: values, search": f"{admin}/runvalue/?q=loss",
        "admin: checkpoints": f"{admin}/checkpoint/",
        "admin: checkpoints, last page": f"{admin}/checkpoint/?p={listed // CheckpointAdmin.list_per_page}",
        "API: runs": "/api/v1/training/",
        "API: runs, last 200": f"/api/v1/training/?limit=200&skip={max(0, TrainingRun.objects.count() - 200)}",
        "API: runs, search": "/api/v1/training/?q=run+77",
        "API: a run": f"/api/v1/training/{second}",
        "API: queue": "/api/v1/queue",
        "API: checkpoints": f"/api/v1/training/{second}/checkpoints",
        "API: document": "/api/v1/openapi.json",
        "API: log": f"/api/v1/training/{second}/logs",
        "API: log, errors": f"/api/v1/training/{second}/logs?level=error",
        "API: log, rare text": f"/api/v1/training/{second}/logs?q=nowhere",
        "API: metrics, 500 of 1,000,000": f"/api/v1/training/{big}/metrics?max_points=500",
        "chart, 1,000,000 points": f"/runs/{big}/metrics/",
        "chart, 100,000 points": f"/runs/{second}/metrics/",
        "chart, small": f"/runs/{small}/metrics/",
    }


class Measured:
    """The times of one page in milliseconds, its queries and the bytes that are sent."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.times_ms: list[float] = []
        self.queries = 0
        self.bytes = 0

    @property
    def p95_ms(self) -> float:
        return quantiles(self.times_ms, n=20)[-1] if len(self.times_ms) > 1 else self.times_ms[0]


def measured(paths: dict[str, str], rounds: int, only: str) -> dict[str, Measured]:
    """Request every page: first to warm up, with its queries counted, then in rounds with all others."""
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from trainingapp.operations.collector import settle

    settle()  # as the web server does when it has started
    client = Client(headers={"Accept-Encoding": "gzip"})
    client.force_login(User.objects.get(username="admin"))
    found = {name: Measured(path) for name, path in paths.items() if only in name}
    for page in found.values():
        request(client, page)
        with CaptureQueriesContext(connection) as captured:
            request(client, page)
        page.queries = len(captured)
        page.times_ms.clear()
    for number in range(rounds):
        for page in found.values():
            if number < 2 or sum(page.times_ms) / 1000 < MOST_S:
                request(client, page)
    return found


def request(client: "Client", page: Measured) -> None:
    began = time.perf_counter()
    response = client.get(page.path)
    body = response.getvalue()
    page.times_ms.append((time.perf_counter() - began) * 1000)
    page.bytes = len(body)
    assert response.status_code == 200, (page.path, response.status_code)


def report(found: dict[str, Measured], vendor: str, *, is_quick: bool) -> None:
    print(f"{'page':32} {'queries':>7} {'p50 ms':>8} {'p95 ms':>8} {'kB':>7}")
    for name, page in found.items():
        print(f"{name:32} {page.queries:7} {median(page.times_ms):8.1f} {page.p95_ms:8.1f} {page.bytes / 1000:7.1f}")
    p95 = {name: round(page.p95_ms, 1) for name, page in found.items()}
    about = {"benchmark": "pages", "database": vendor, "quick": is_quick, "p95_ms_max": max(p95.values())}
    print(json.dumps({**about, "p95_ms": p95, "queries": {name: page.queries for name, page in found.items()}}))


if __name__ == "__main__":
    sys.exit(main())
