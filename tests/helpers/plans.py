"""Query plans of a request: the indexes used, and the sorting done by the database."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.test.utils import CaptureQueriesContext


@contextmanager
def explained(table: str) -> Iterator[list[str]]:
    """Within: record queries. Afterwards the list contains the plan of each query that selects from `table`."""
    plans: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        yield plans
    with connection.cursor() as cursor:
        for query in captured.captured_queries:
            if query["sql"].startswith("SELECT") and query["sql"].partition(" FROM ")[2].startswith(f'"{table}"'):
                is_sqlite = connection.vendor == "sqlite"
                cursor.execute(f"EXPLAIN {'QUERY PLAN' if is_sqlite else ''} {query['sql']}")
                plans.append("\n".join(str(row[3 if is_sqlite else 0]) for row in cursor.fetchall()))
