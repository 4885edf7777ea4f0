"""The forms of the database in a backup: its moment, its versions, and what happens where one cannot be used."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core import serializers
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone

from tests.helpers.backups import about, database_of_version_0_1, members, write_archive
from tests.helpers.tiny import make_dataset, make_run
from tests.operations.test_backup_command import empty, use
from trainingapp.models import AuditEntry, Dataset, TrainingRun
from trainingapp.operations import backup
from trainingapp.operations.backup import BackupError, make_backup, postgres, restore_backup, scratch, sqlite
from trainingapp.operations.backup.parts import applied_migrations

pytestmark = pytest.mark.django_db(transaction=True)
#: Of SQLite: the tests of PostgreSQL's own form are in test_backup_postgres.py.
on_sqlite = pytest.mark.any_database


@pytest.fixture(autouse=True)
def data(own_database: None, tmp_path: Path, settings: Any) -> Path:
    use(settings, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def run(user: User) -> TrainingRun:
    run = make_run(user, make_dataset(user))
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "config.json").write_text("{}")
    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "b.tar.zst"


def is_empty(folder: Path) -> bool:
    """Whether an installation has neither rows nor files, nor anything that a restore left behind."""
    left = [path for path in folder.rglob("*") if path.is_file()]
    return not left and not list(folder.glob(".*")) and not User.objects.exists() and not TrainingRun.objects.exists()


# One moment


@on_sqlite
def test_a_copy_shows_one_moment_while_others_write(user: User, tmp_path: Path, monkeypatch: Any) -> None:
    make_run(user, make_dataset(user))
    monkeypatch.setattr(sqlite, "STEP_PAGES", 20)
    written: list[int] = []

    def write_more(_name: str, _count: int) -> None:
        with closing(sqlite3.connect(sqlite.live_file(), timeout=20)) as other, other:
            other.execute("UPDATE trainingapp_dataset SET name = name || '+'")
            other.execute("UPDATE trainingapp_trainingrun SET name = name || '+'")
        written.append(_count)

    sqlite.copy_live(tmp_path / "copy", write_more)
    assert len(written) > 3, "the copy took several steps"
    with closing(sqlite3.connect(tmp_path / "copy")) as copy:
        names = [
            copy.execute(f"SELECT name FROM trainingapp_{table}").fetchone()[0] for table in ("dataset", "trainingrun")
        ]
        assert names == ["tints", "try"]
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert Dataset.objects.get().name == "tints" + "+" * len(written)
    assert sum(written) == sqlite.live_bytes()


def test_sessions_are_not_stored(user: User, file: Path) -> None:
    client = Client()
    client.force_login(user)
    key = client.session.session_key
    assert key
    assert Session.objects.filter(pk=key).exists()
    make_backup(file)
    assert not [name for name, content in members(file).items() if key.encode() in content]
    assert Session.objects.filter(pk=key).exists(), "the installation keeps them"


def test_the_bar_counts_every_byte(run: TrainingRun, file: Path) -> None:
    expected, counted = backup.measure().processed(portable=False), 0

    def advance(_name: str, count: int) -> None:
        nonlocal counted
        counted += count

    make_backup(file, advance)
    if connection.vendor == "sqlite":
        assert counted == pytest.approx(expected, rel=0.05)
    else:  # a dump is smaller than the tables of so few rows
        assert expected / 20 < counted < expected


# Other versions


def old_rows(old: Any) -> None:
    """A user, a dataset and a run as version 0.1 stored them."""
    owner = old.get_model("auth", "User").objects.create(username="ada", password="x")
    dataset = old.get_model("trainingapp", "Dataset").objects.create(
        name="old", owner=owner, source="/nowhere", status="ready", recipes=["detection"], pictures={"train": 3}
    )
    config = {"recipe": "detection", "epochs": 3}
    runs = old.get_model("trainingapp", "TrainingRun").objects
    run = runs.create(name="old run", owner=owner, dataset=dataset, recipe="detection", config=config, wanted="pause")
    events = old.get_model("trainingapp", "RunEvent").objects
    events.create(run=run, seq=1, type="log", time=timezone.now(), data={"message": "é 😀"})
    team = old.get_model("trainingapp", "Team").objects.create(name="vision")
    team.members.add(owner)


def check_old_rows(folder: Path) -> None:
    run = TrainingRun.objects.get()
    assert (run.name, run.task, run.requested_action) == ("old run", "detection", "pause")
    assert run.config["task"] == "detection"
    assert "recipe" not in run.config
    assert run.owner.username == "ada"
    assert (run.dataset.tasks, run.dataset.images) == (["detection"], {"train": 3})
    assert [event.data for event in run.events.all()] == [{"message": "é 😀"}]
    assert [team.name for team in run.owner.teams.all()] == ["vision"]
    assert MigrationRecorder.Migration.objects.filter(app="trainingapp", name="0007_task_and_image").exists()
    assert AuditEntry.objects.filter(verb="restore").exists()
    assert (folder / "runs" / str(run.pk) / "config.json").exists()


def test_rows_of_version_0_1_are_migrated(tmp_path: Path, file: Path, settings: Any) -> None:
    with database_of_version_0_1(tmp_path / "old.sqlite3") as old:
        old_rows(old)
        content = {}
        for model in old.get_models():
            rows = serializers.serialize("jsonl", model.objects.all())
            if model._meta.label_lower not in ("contenttypes.contenttype", "auth.permission"):
                # The old studio named owners by their natural key, which models of migrations do not have.
                records = [json.loads(line) for line in rows.splitlines()]
                for record in records:
                    if "owner" in record["fields"]:
                        record["fields"]["owner"] = ["ada"]
                    if "members" in record["fields"]:
                        record["fields"]["members"] = [["ada"]]
                content[f"database/{model._meta.label_lower}.jsonl"] = "".join(
                    json.dumps(record) + "\n" for record in records
                ).encode()
        stated = {"format": 1, "created": "", "migrations": applied_migrations(), "rows": {}}
        run = old.get_model("trainingapp", "TrainingRun").objects.get().pk
    content["studio.json"] = json.dumps(stated).encode()
    content[f"files/runs/{run}/config.json"] = b"{}"
    restore_backup(write_archive(file, content))
    check_old_rows(settings.DATA_DIR)


def test_a_database_of_version_0_1_is_migrated(tmp_path: Path, file: Path, settings: Any) -> None:
    with database_of_version_0_1(tmp_path / "old.sqlite3") as old:
        old_rows(old)
        names = applied_migrations()
        run = old.get_model("trainingapp", "TrainingRun").objects.get().pk
    data = (tmp_path / "old.sqlite3").read_bytes()
    stated = {
        "format": 2,
        "created": "",
        "migrations": names,
        "database": "sqlite",
        "bytes": {"database": len(data), "runs": 2},
    }
    content = {
        "studio.json": json.dumps(stated).encode(),
        "database/studio.sqlite3": data,
        f"files/runs/{run}/config.json": b"{}",
    }
    restore_backup(write_archive(file, content))
    check_old_rows(settings.DATA_DIR)


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("change", [{"format": 3}, {"migrations": ["trainingapp.9999_of_tomorrow"]}])
def test_a_newer_backup_is_refused(
    run: TrainingRun, tmp_path: Path, file: Path, settings: Any, portable: bool, change: dict[str, Any]
) -> None:
    make_backup(file, portable=portable)
    empty()
    use(settings, tmp_path / "new")
    newer = {**members(file), "studio.json": json.dumps({**about(file), **change}).encode()}
    with pytest.raises(CommandError, match="made by a newer version"):
        call_command("restore", str(write_archive(tmp_path / "newer", newer)))
    assert is_empty(tmp_path / "new")


# Failures


@on_sqlite
def test_a_restore_that_fails_last_leaves_the_installation_empty(
    run: TrainingRun, tmp_path: Path, file: Path, settings: Any, monkeypatch: Any
) -> None:
    make_backup(file)
    empty()
    use(settings, tmp_path / "new")
    with closing(sqlite3.connect(sqlite.live_file())) as other:
        other.execute("SELECT count(*) FROM auth_user").fetchone()
        with pytest.raises(BackupError, match="Stop the studio first"):
            restore_backup(file)
        assert is_empty(tmp_path / "new")
    restore_backup(file)
    assert TrainingRun.objects.get().folder.exists()


def test_a_migration_that_fails_leaves_the_installation_empty(
    run: TrainingRun, tmp_path: Path, file: Path, settings: Any, monkeypatch: Any
) -> None:
    make_backup(file)
    empty()
    use(settings, tmp_path / "new")

    def fail(source: Path) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("trainingapp.operations.backup.restore._complete", fail)
        with pytest.raises(OSError, match="no space left"):
            restore_backup(file)
    assert is_empty(tmp_path / "new")
    restore_backup(file)
    assert TrainingRun.objects.get().folder.exists()


def test_missing_disk_space_is_reported_first(
    run: TrainingRun, tmp_path: Path, file: Path, settings: Any, monkeypatch: Any
) -> None:
    make_backup(file)
    little = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda _path: little)
    with pytest.raises(CommandError, match=r"Not enough disk space in .*: about .* are needed, 97.7.KB are free"):
        call_command("backup", str(tmp_path / "second"))
    assert not (tmp_path / "second").exists()
    empty()
    use(settings, tmp_path / "new")
    with pytest.raises(CommandError, match="Not enough disk space"):
        call_command("restore", str(file))
    assert is_empty(tmp_path / "new")


def test_folders_of_killed_processes_are_removed(run: TrainingRun, data: Path, file: Path) -> None:
    killed, old = data / ".backup-killed", data / ".backup-old"
    for folder in (killed, old):
        folder.mkdir()
        (folder / "studio.sqlite3").write_bytes(b"x" * 1000)
    (killed / scratch.LOCK_FILE).touch()
    os.utime(old, (1, 1))  # version 0.1 did not lock its folders
    with scratch.scratch(data, ".backup-") as running:
        assert not killed.exists()
        assert not old.exists()
        make_backup(file)
        assert running.exists(), "that of a running process stays"
    assert not running.exists()


def test_what_a_killed_restore_moved_is_removed_by_the_next(
    run: TrainingRun, tmp_path: Path, file: Path, settings: Any
) -> None:
    make_backup(file)
    empty()
    use(settings, tmp_path / "new")
    partly = tmp_path / "new" / "runs" / "999999"
    partly.mkdir(parents=True)
    (partly / "config.json").write_text("{}")
    killed = tmp_path / "new" / ".restore-killed"
    killed.mkdir()
    (killed / scratch.LOCK_FILE).touch()
    with pytest.raises(BackupError, match="already contains files"):
        restore_backup(file)
    assert (partly / "config.json").exists(), "files that no restore moved stay"
    (killed / "moved.json").write_text(json.dumps([str(partly)]))
    restore_backup(file)
    assert not partly.exists()
    assert not killed.exists()
    assert TrainingRun.objects.get().folder.exists()


# The programs of PostgreSQL


def program(folder: Path, name: str, version: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version} (Test {version}-1)'\n")
    path.chmod(0o755)


def test_the_program_of_the_version_of_the_server_is_chosen(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(postgres, "TOOL_FOLDERS", (f"{tmp_path}/*/bin",))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{os.environ['PATH']}")
    for version in ("14.2", "16.1", "17.0"):
        (tmp_path / version).mkdir()
        program(tmp_path / version / "bin", "pg_dump", version)
    program(tmp_path / "path", "pg_dump", "18.0")
    assert postgres.find_tool("pg_dump", 16) == (tmp_path / "16.1" / "bin" / "pg_dump", 16)
    assert postgres.find_tool("pg_dump", 15)[1] == 16, "the next newer one"
    assert postgres.find_tool("pg_dump", 18) == (tmp_path / "path" / "pg_dump", 18)
    with pytest.raises(BackupError, match=r"postgresql-client-19\. .*--portable") as error:
        postgres.find_tool("pg_dump", 19)
    assert "found: 14, 16, 17, 18" in str(error.value)


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(postgres, "TOOL_FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match=r"pg_restore of PostgreSQL 15 or newer was not found \(found: –\)"):
        postgres.find_tool("pg_restore", 15)


@on_sqlite
def test_a_postgresql_backup_is_refused_by_sqlite(run: TrainingRun, tmp_path: Path, file: Path, settings: Any) -> None:
    stated = {"format": 2, "created": "", "migrations": [], "database": "postgresql", "bytes": {"database": 1}}
    stated["postgresql"] = {"server": 15, "dump": 15}
    write_archive(file, {"studio.json": json.dumps(stated).encode(), "database/studio.pgdump": b"PGDMP"})
    empty()
    use(settings, tmp_path / "new")
    with pytest.raises(CommandError, match=r"contains a PostgreSQL database.*--portable"):
        call_command("restore", str(file))
