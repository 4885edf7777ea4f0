"""Sessions of PostgreSQL that end with the network to their host."""

import pytest
from django.db import connection

from trainingapp.models.sessions import KEEPALIVE

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def test_the_server_watches_its_clients() -> None:
    if connection.vendor != "postgresql":
        assert connection.vendor == "sqlite"  # a file has no clients
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [list(KEEPALIVE)])
        assert dict(cursor.fetchall()) == KEEPALIVE
