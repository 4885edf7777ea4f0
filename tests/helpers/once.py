"""Rows that the tests of a module share."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction
from pytest_django import DjangoDbBlocker


@contextmanager
def transaction_of_module(blocker: DjangoDbBlocker) -> Iterator[None]:
    """Within: what is stored with the database unblocked stays until the end, and each test is a savepoint of it.

    Not in a module with tests that commit (`transaction=True`): they would empty the tables.
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
