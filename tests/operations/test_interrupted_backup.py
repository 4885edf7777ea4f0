"""Backups and restores whose process is killed: the next one starts from where it should."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.studio import Studio

pytestmark = [pytest.mark.slow, pytest.mark.any_database]

#: Kills its own process at the moment that the first argument names.
KILLED = """
import os, signal, sys
from pathlib import Path
import django
django.setup()
from trainingapp.operations.backup import make_backup, restore_backup, sqlite

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

moment, file = sys.argv[1], Path(sys.argv[2])
if moment == "backup: copying the database":
    make_backup(file, kill)
elif moment == "backup: adding files":
    make_backup(file, lambda name, _count: kill() if name.startswith("files/") else None)
elif moment == "restore: reading":
    restore_backup(file, lambda name, _count: kill() if name.startswith("files/") else None)
elif moment == "restore: before the database":
    sqlite.replace_live = kill
    restore_backup(file)
elif moment == "restore: within the database":
    replace = sqlite.replace_live
    sqlite.STEP_PAGES = 20
    sqlite.replace_live = lambda file, _tell: replace(file, kill)
    restore_backup(file)
"""


def kill_at(studio: Studio, moment: str, file: Path) -> None:
    command = [sys.executable, "-c", KILLED, moment, str(file)]
    done = subprocess.run(command, cwd=studio.repository, env=studio.env, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.long
def test_a_killed_backup_leaves_no_file_and_the_next_one_removes_its_copy(studio: Studio, tmp_path: Path) -> None:
    (run,) = studio.prepare(start=False)
    file = tmp_path / "b.tar.zst"
    for moment in ("backup: copying the database", "backup: adding files"):
        kill_at(studio, moment, file)
        assert not file.exists()
        assert len(list(studio.data_dir.glob(".backup-*"))) == 1
    assert "left by an interrupted backup" in studio.manage("doctor", check=False).stdout
    studio.manage("backup", str(file))
    assert not list(studio.data_dir.glob(".backup-*"))
    assert not list(tmp_path.glob(".*.tmp"))
    assert studio.status(run) == "pending"


@pytest.mark.long
def test_a_killed_restore_can_be_repeated(studio: Studio, tmp_path: Path) -> None:
    (run,) = studio.prepare(start=False)
    file = tmp_path / "b.tar.zst"
    studio.manage("backup", str(file))
    other = Studio(tmp_path / "other")
    other.migrate()
    moments = ["restore: reading", "restore: before the database", "restore: within the database"]
    for moment in moments:
        kill_at(other, moment, file)
        assert not other.rows("SELECT * FROM auth_user"), moment
    assert "1 runs, 1 datasets" in other.manage("restore", str(file)).stdout
    assert other.status(run) == "pending"
    assert other.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert not list((tmp_path / "other").glob(".restore-*"))
