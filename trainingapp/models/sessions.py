"""What the studio asks of a session of PostgreSQL."""

from typing import Any
from weakref import WeakSet

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

KEEPALIVE: dict[str, str] = {
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": "8000",
}
"""Seconds, a count, and milliseconds: the server notices after eight seconds that a host is gone. Otherwise the
transaction that the host was in keeps its locks for two hours, among them that of the run which others take over."""


_watched: WeakSet[Any] = WeakSet()
"""The connections that were asked: one of a pool is announced anew for each request that takes it."""


def watch_client(sender: object, connection: BaseDatabaseWrapper, **_kwargs: Any) -> None:
    """Have the server end the session when the network to this host is cut. Ignored on a Unix socket."""
    if connection.vendor != "postgresql" or connection.connection in _watched:
        return
    with connection.cursor() as cursor:
        values = ", ".join("set_config(%s, %s, false)" for _name in KEEPALIVE)
        cursor.execute(f"SELECT {values}", [part for item in KEEPALIVE.items() for part in item])
    _watched.add(connection.connection)


def connect() -> None:
    """To be called once, when the application is ready."""
    connection_created.connect(watch_client, dispatch_uid="watch_client")
