"""The machine: database file, disk, GPUs, and whether torch supports them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import TypedDict

from django.conf import settings
from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from trainingapp.contract.disk_space import is_almost_full
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.devices import GPU_BACKEND_REFUSED
from trainingapp.object_store.errors import StoreError
from trainingapp.object_store.store import ObjectStore
from trainingapp.operations.doctor.finding import Finding, Severity, ok
from trainingapp.operations.doctor.health import data_folders, write_problem
from trainingapp.presentation.messages import rendered
from trainingapp.scheduling.gpus import GpuReading
from trainingapp.supervision.device_checks import explanation_of, read_gpus, run_probe

#: Tables with more rows are read by `doctor --full` alone.
MOST_CHECKED_ROWS = 50_000
#: Seconds for importing torch: a cold network drive takes a minute.
TORCH_S = 120

_ASK_TORCH = """
import json, torch, torchvision
print(json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__, "cuda": torch.version.cuda,
                  "nms": bool(torchvision.ops.nms)}))
"""


class TorchFacts(TypedDict):
    """What the process of `_ASK_TORCH` prints."""

    torch: str
    torchvision: str
    cuda: str | None
    nms: bool


def database(*, full: bool = False) -> Iterator[Finding]:
    """Whether the database file is valid, and SQLite is in WAL mode.

    Unless `full`, tables of more than MOST_CHECKED_ROWS rows are left out: reading all of them takes minutes.
    """
    if connection.vendor != "sqlite":
        yield ok("database", _("%(vendor)s answers.") % {"vendor": connection.display_name})
        return
    with connection.cursor() as cursor:
        large = [] if full else _large_tables(cursor)
        checks = [f'PRAGMA quick_check("{name}")' for name in _tables(cursor) if name not in large] if large else []
        checks = checks or ["PRAGMA quick_check(5)"]
        found = [str(row[0]) for check in checks for row in cursor.execute(check).fetchmany(5)]
        problems = [text for text in found if text != "ok"][:5]
        (mode,) = cursor.execute("PRAGMA journal_mode").fetchone()
    if problems:
        message = _("The database file is corrupted: %(what)s") % {"what": "; ".join(problems)}
        meaning = _("Stop the studio and restore a copy of the file. The folders of the runs are not affected.")
        yield Finding("database", "error", message, meaning)
    elif mode != "wal":
        message = _("The database is in the mode “%(mode)s”, not in WAL.") % {"mode": mode}
        meaning = _("Readers and writers wait for each other. Network drives refuse WAL: use a local disk.")
        yield Finding("database", "warning", message, meaning)
    elif large:
        message = _("SQLite is in WAL mode, and its tables are valid; not read: %(names)s (doctor --full reads them).")
        yield ok("database", message % {"names": ", ".join(large)})
    else:
        yield ok("database", _("SQLite is valid and in WAL mode."))


def _tables(cursor: CursorWrapper) -> list[str]:
    # A virtual table has no pages; those that hold its content are listed as tables of their own.
    is_stored = "type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
    cursor.execute(f"SELECT name FROM sqlite_master WHERE {is_stored} ORDER BY name")  # noqa: S608 - a constant
    return [str(name) for (name,) in cursor.fetchall()]


def _large_tables(cursor: CursorWrapper) -> list[str]:
    """The tables of more than MOST_CHECKED_ROWS rows, without counting further."""
    found = []
    for name in _tables(cursor):
        cursor.execute(f'SELECT count(*) FROM (SELECT 1 FROM "{name}" LIMIT {MOST_CHECKED_ROWS + 1})')  # noqa: S608 - a name of a table
        if cursor.fetchone()[0] > MOST_CHECKED_ROWS:
            found.append(name)
    return found


def disk() -> Iterator[Finding]:
    """Whether the folders can be written to, and how much space is free."""
    for folder in data_folders():
        if problem := write_problem(folder):
            message = _("%(folder)s cannot be written to: %(problem)s") % {"folder": folder, "problem": problem}
            yield Finding("disk", "error", message, _("Nothing can be saved. Make the studio's user its owner."))
    total, _used, free = shutil.disk_usage(data_folders()[0])
    message = _("%(free)s free of %(total)s.") % {"free": filesizeformat(free), "total": filesizeformat(total)}
    if is_almost_full(total_bytes=total, free_bytes=free):
        meaning = _("Runs fail when it is full. Delete runs, checkpoints or datasets that are no longer needed.")
        yield Finding("disk", "warning", message, meaning)
    else:
        yield ok("disk", message)


def object_store() -> Iterator[Finding]:
    """Whether the object store can be read and written: a small object is stored, read and removed."""
    if not settings.OBJECT_STORE_URL:
        return
    try:
        ObjectStore(settings.OBJECT_STORE_URL).try_out()
    except StoreError as error:
        meaning = _("Datasets are not copied there, and other hosts cannot fetch them. See OBJECT_STORE_URL.")
        yield Finding("object store", "error", rendered(error.message), meaning)
    else:
        yield ok("object store", _("The object store can be read and written."))


def torch_and_gpus() -> Iterator[Finding]:
    """Whether torch can be imported and matches torchvision, and whether it can train on each GPU of the driver."""
    try:
        # In a separate process: the studio itself never imports torch, which takes seconds and much memory.
        command = [sys.executable, "-c", _ASK_TORCH]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TORCH_S, check=True)
        seen: TorchFacts = json.loads(done.stdout.strip().splitlines()[-1])  # libraries may print lines before it
    except (subprocess.SubprocessError, ValueError) as error:
        last_line = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
        message = _("torch cannot be loaded: %(error)s") % {"error": " ".join(last_line)}
        yield Finding("torch", "error", message, _("Nothing can be trained. Install torch and torchvision that match."))
        return
    yield from _gpus()
    yield ok("torch", f"torch {seen['torch']}, torchvision {seen['torchvision']}, CUDA {seen['cuda'] or '–'}")


def _gpus() -> Iterator[Finding]:
    driver = read_gpus()
    if driver.explanation is not None and driver.is_installed:
        is_refused = driver.explanation.code == GPU_BACKEND_REFUSED.code
        severity: Severity = "warning" if is_refused else "error"
        yield Finding("gpu", severity, rendered(driver.explanation), _("Runs that need a GPU wait."))
    elif not driver.gpus:
        yield ok("gpu", _("No GPU: runs train on the CPU."))
    for number, gpu in enumerate(driver.gpus):
        name = f"cuda:{number} ({gpu.name})" if gpu.name else f"cuda:{number}"
        explanation = gpu.explanation or _trouble(number, gpu)
        if explanation is None:
            yield ok("gpu", _("%(name)s can be used.") % {"name": name})
        else:
            message = _("%(name)s cannot be used. %(reason)s") % {"name": name, "reason": rendered(explanation)}
            yield Finding("gpu", "error", message, _("Runs that need a GPU wait."))


def _trouble(number: int, gpu: GpuReading) -> Message | None:
    """Why torch cannot use the GPU. One with compute processes may be full, or theirs alone, without being broken."""
    report = run_probe(["0" if gpu.uuid else str(number)], uuid=gpu.uuid)
    is_in_use = report["trouble"] in ("busy", "full") and any(not process.is_graphics for process in gpu.processes)
    return explanation_of(report) if report["trouble"] and not is_in_use else None
