"""Backups of PostgreSQL by its own programs, between databases of one kind and of two."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import postgres_database
from tests.helpers.backups import about, members, write_archive
from tests.helpers.studio import Studio

#: One process makes the backup that the tests of this module share.
pytestmark = [
    pytest.mark.postgres,
    pytest.mark.any_database,
    pytest.mark.slow,
    pytest.mark.xdist_group("backup postgres"),
]

#: What is compared before and after, and one row more: sequences must continue.
CONTENT = """
from trainingapp.models import Dataset, RunEvent, TrainingRun
from django.contrib.auth.models import User
result = [
    list(TrainingRun.objects.order_by("pk").values_list("pk", "name", "status")),
    list(Dataset.objects.values_list("pk", "name")),
    list(RunEvent.objects.order_by("pk").values_list("pk", "run_id", "seq", "data")),
    User.objects.get().check_password("correct horse"),
]
"""
NEW_ROW = """
from trainingapp.models import Dataset, TrainingRun
from django.contrib.auth.models import User
result = TrainingRun.objects.create(
    owner=User.objects.get(), name="new", task="x", config={}, dataset=Dataset.objects.get()
).pk
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Studio, Path, Any]]:
    """A studio on PostgreSQL, its backup, and its content."""
    folder = tmp_path_factory.mktemp("made")
    with postgres_database() as url:
        studio = Studio(folder / "data", DATABASE_URL=url)
        studio.prepare(runs=2)
        studio.manage("backup", str(folder / "b.tar.zst"))
        yield studio, folder / "b.tar.zst", studio.python(CONTENT)


def test_a_dump_comes_back(made: tuple[Studio, Path, Any], tmp_path: Path, postgres_url: str) -> None:
    _studio, file, content = made
    assert about(file)["database"] == "postgresql"
    assert members(file)["database/studio.pgdump"].startswith(b"PGDMP")
    other = Studio(tmp_path / "other", DATABASE_URL=postgres_url)
    assert "2 runs, 1 datasets" in other.manage("restore", str(file)).stdout
    assert other.python(CONTENT) == content
    assert other.python(NEW_ROW) > max(pk for pk, _name, _status in content[0])


@pytest.mark.long
def test_a_portable_backup_goes_into_sqlite(made: tuple[Studio, Path, Any], tmp_path: Path) -> None:
    studio, file, content = made
    other = Studio(tmp_path / "other")
    refused = other.manage("restore", str(file), check=False)
    assert refused.returncode == 1
    assert "--portable" in refused.stderr
    studio.manage("backup", "--portable", str(tmp_path / "portable"))
    other.manage("restore", str(tmp_path / "portable"))
    assert other.python(CONTENT) == content
    assert other.python(NEW_ROW) > max(pk for pk, _name, _status in content[0])


@pytest.mark.long
def test_what_cannot_be_loaded_changes_nothing(
    made: tuple[Studio, Path, Any], tmp_path: Path, postgres_url: str
) -> None:
    _studio, file, content = made
    parts, stated = members(file), about(file)
    newer = {**stated, "postgresql": {"server": 99, "dump": 99}}
    write_archive(tmp_path / "newer", {**parts, "studio.json": json.dumps(newer).encode()})
    dump = parts["database/studio.pgdump"]
    write_archive(tmp_path / "broken", {**parts, "database/studio.pgdump": dump[: len(dump) // 2]})
    other = Studio(tmp_path / "other", DATABASE_URL=postgres_url)
    assert "made with PostgreSQL 99" in other.manage("restore", str(tmp_path / "newer"), check=False).stderr
    assert "pg_restore failed" in other.manage("restore", str(tmp_path / "broken"), check=False).stderr
    assert not list((tmp_path / "other" / "runs").glob("*"))
    assert not list((tmp_path / "other").glob(".restore-*"))
    other.manage("restore", str(file))
    assert other.python(CONTENT) == content


#: Kills its own process when the beginning of the dump is loaded.
KILLED = """
import os, signal, sys
from pathlib import Path
import django
django.setup()
from trainingapp.operations.backup import postgres, restore_backup

postgres.PIECE_BYTES = 20_000
restore_backup(Path(sys.argv[1]), lambda name, _count: name == "database" and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.long
def test_a_restore_that_is_killed_can_be_repeated(
    made: tuple[Studio, Path, Any], tmp_path: Path, postgres_url: str
) -> None:
    _studio, file, content = made
    other = Studio(tmp_path / "other", DATABASE_URL=postgres_url)
    other.migrate()
    command = [sys.executable, "-c", KILLED, str(file)]
    killed = subprocess.run(command, cwd=other.repository, env=other.env, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list((tmp_path / "other").glob(".restore-*"))
    other.manage("restore", str(file))
    assert other.python(CONTENT) == content
    assert not list((tmp_path / "other").glob(".restore-*"))
