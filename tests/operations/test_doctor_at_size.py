"""manage.py doctor with many rows: what it reads, and how much it reports."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.operations.test_doctor_command import _calm, problems, ready, run_doctor, saved  # noqa: F401
from trainingapp.models import Dataset, RunEvent, TrainingRun
from trainingapp.models.run import append_events
from trainingapp.operations import doctor
from trainingapp.operations.backup import sqlite
from trainingapp.operations.doctor import files, machine

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def trained(make: MAKE) -> TrainingRun:
    """A completed run with its folder, three checkpoints and some events."""
    run = make("completed", attempt=1)
    folder = run.folder / "checkpoints"
    folder.mkdir(parents=True)
    (run.folder / "config.json").write_text("{}")
    for number in range(3):
        saved(run, f"epoch_{number}.pt")
        (folder / f"epoch_{number}.pt").write_bytes(b"x")
    (folder / "index.json").write_text(str([{"file": f"epoch_{number}.pt"} for number in range(3)]).replace("'", '"'))
    append_events(run, [RunEvent(type="log", time=timezone.now(), data={"message": "x"}) for _number in range(10)])
    run.save()
    return run


def queries() -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        assert {finding.severity for finding in doctor.examine()} == {"ok"}
    return [query["sql"] for query in captured.captured_queries]


def test_the_queries_neither_read_events_nor_grow_with_runs(make: MAKE, ready: Dataset) -> None:  # noqa: F811
    trained(make)
    few = queries()
    for _number in range(20):
        trained(make)
    many = queries()
    assert len(many) == len(few)
    of_events = {sql for sql in many if "runevent" in sql and "quick_check" not in sql}
    bounded = f"LIMIT {machine.MOST_CHECKED_ROWS + 1})"
    assert [sql for sql in of_events if not sql.endswith(bounded)] == []


def test_rows_of_runs_are_read_without_their_configuration(make: MAKE, ready: Dataset) -> None:  # noqa: F811
    trained(make)
    of_runs = [sql for sql in queries() if 'FROM "trainingapp_trainingrun"' in sql and "= 'running'" not in sql]
    assert of_runs
    assert [sql for sql in of_runs if '"config"' in sql] == []


def test_many_findings_of_a_kind_are_counted(
    make: MAKE,
    ready: Dataset,  # noqa: F811
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(files, "MOST_FINDINGS", 4)
    run = trained(make)
    for number in range(10):
        saved(run, f"lost_{number}.pt")
    found = problems()
    assert [finding.message for finding in found[:4]] == [
        f"The checkpoint {run.pk}/lost_{number}.pt has no file." for number in range(4)
    ]
    assert (found[4].message, found[4].severity) == ("6 further problems of this kind were found.", "warning")
    assert len(found) == 5
    assert run_doctor("--fix", "--yes")[0] == 1
    assert run.checkpoints.filter(file__startswith="lost").count() == 6
    assert len(problems()) == 5
    run_doctor("--fix", "--yes")
    assert run_doctor("--fix", "--yes")[0] == 0


@pytest.mark.any_database
def test_large_tables_are_read_on_request(tmp_path: Path, monkeypatch: Any) -> None:
    """Of a copy of the database: one page of the events is overwritten."""
    copy = tmp_path / "copy.sqlite3"
    sqlite.copy_live(copy, lambda _name, _count: None)
    with closing(sqlite3.connect(copy)) as raw, raw:
        columns = "run_id, seq, attempt, type, level, time, data, superseded"
        rows = ((1, seq, 1, "log", "info", "2026-11-29 00:00:00", "{}", 0) for seq in range(5000))
        raw.executemany(f"INSERT INTO trainingapp_runevent ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        (page,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'trainingapp_runevent'").fetchone()
    monkeypatch.setattr(machine, "MOST_CHECKED_ROWS", 1000)
    with sqlite.connected_to(copy):
        (found,) = machine.database()
        assert (found.severity, "not read: trainingapp_runevent (" in found.message) == ("ok", True)
        (found,) = machine.database(full=True)
        assert found.message == "SQLite is valid and in WAL mode."
    content = bytearray(copy.read_bytes())
    content[(page - 1) * 4096 + 8 : (page - 1) * 4096 + 200] = b"\xff" * 192
    copy.write_bytes(content)
    with sqlite.connected_to(copy):
        assert [finding.severity for finding in machine.database()] == ["ok"]
        (found,) = machine.database(full=True)
        assert (found.severity, "corrupted" in found.message) == ("error", True)
