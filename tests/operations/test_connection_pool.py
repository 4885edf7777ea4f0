"""The threads of a process share the connections of a pool to PostgreSQL."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from tests.helpers.studio import REPOSITORY
from trainingapp.operations import checks

#: Twelve threads use the database twice each; prints the processes of the server that they met, and the open ones.
USES = """
import json, threading
import django
django.setup()
from django.db import connection, close_old_connections
met, start = set(), threading.Barrier(12)
def use():
    start.wait()
    for _ in range(2):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid(), pg_sleep(0.02)")
            met.add(cursor.fetchone()[0])
        close_old_connections()
threads = [threading.Thread(target=use) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([len(met), connection.pool.get_stats()["pool_size"]]))
"""


def met_by_threads(postgres_url: str, folder: Path, size: int) -> list[int]:
    variables = {"DATABASE_URL": postgres_url, "DATABASE_POOL": str(size), "DATA_DIR": str(folder)}
    environment = os.environ | variables | {"DJANGO_SETTINGS_MODULE": "cvstudio.settings"}
    command = [sys.executable, "-c", USES]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout)
    return found


@pytest.mark.postgres
def test_threads_share_the_connections(postgres_url: str, tmp_path: Path) -> None:
    pytest.importorskip("psycopg_pool")
    assert met_by_threads(postgres_url, tmp_path, 3) == [3, 3]


def test_without_the_package_the_studio_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "OPTIONS", {"pool": {"max_size": 3}})
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    assert [error.id for error in checks.check_pool()] == ["cvstudio.E008"]


def test_without_a_pool_the_package_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    assert checks.check_pool() == []
