from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.small_world import *  # noqa: F403
from tests.helpers.studio import studio  # noqa: F401


@pytest.fixture
def own_database(transactional_db: None, tmp_path: Path) -> Iterator[None]:
    """With SQLite, a file that nothing else has open: threads of earlier tests keep the file of all tests open, and a
    restore refuses that."""
    from django.db import connection

    from trainingapp.operations.backup import sqlite

    if connection.vendor != "sqlite":
        yield
        return
    file = tmp_path / "database.sqlite3"
    sqlite.copy_live(file, lambda *_progress: None)
    with sqlite.connected_to(file):
        yield
