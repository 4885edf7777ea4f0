"""Rows that the tests of a module share."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction
from pytest_django import DjangoDbBlocker


@contextmanager
def transaction_of_module(blocker: DjangoDbBlocker) -> Iterator[None]:
    """Within: rows stored with the database unblocked remain until the end, and each test uses a savepoint.

    Not for modules with tests that commit (`transaction=True`), since these empty the tables.
    """
    with blocker.unblock():
        around = transaction.atomic()
        around.__enter__()
    try:
        yield
    finally:
        with blocker.unblock():
            transaction.set_rollback(True)
            around.__exit__(None, None, None)
