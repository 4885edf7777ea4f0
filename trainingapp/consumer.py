"""The queue of wake-ups and the worker process that serves it."""

from huey import RedisHuey, SqliteHuey


class SqliteStudioHuey(SqliteHuey):  # type: ignore[misc]
    """The queue in a file of its own, where there is no Redis."""


class RedisStudioHuey(RedisHuey):  # type: ignore[misc]
    """The queue in Redis."""
