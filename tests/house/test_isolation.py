"""Requirements for the tests themselves."""

from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_test_process_never_touches_the_checkouts_data() -> None:
    for folder in (settings.DATA_DIR, settings.RUNS_DIR, settings.DATASETS_DIR, settings.UPLOADS_DIR):
        assert not Path(folder).is_relative_to(REPOSITORY)


@pytest.mark.django_db
def test_sqlite_is_tested_with_the_production_options() -> None:
    if connection.vendor != "sqlite":
        return
    with connection.cursor() as cursor:
        assert cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",)
