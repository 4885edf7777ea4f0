"""Rows and files that the tests of a module share."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from django.db import transaction
from django.test import override_settings
from pytest_django import DjangoDbBlocker

T = TypeVar("T")


def folder_settings(path: Path) -> dict[str, Path]:
    """The settings that let everything that the studio stores lie below `path`."""
    below = {f"{name.upper()}_DIR": path / name for name in ("datasets", "jobs", "runs", "uploads", "weights")}
    return {"DATA_DIR": path, **below}


@contextmanager
def made_once(blocker: DjangoDbBlocker, folder: Path, make: Callable[[], T]) -> Iterator[T]:
    """Within: what `make` stored, with its files in `folder`, is there for each test. See `with_own_files`."""
    (folder / "uploads").mkdir()
    with transaction_of_module(blocker):
        with blocker.unblock(), override_settings(**folder_settings(folder)):
            made = make()
        yield made


@contextmanager
def with_own_files(folder: Path, tmp_path: Path) -> Iterator[None]:
    """Within: the studio's files are a copy of `folder`, since a request may delete some."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with override_settings(**folder_settings(tmp_path)):
        yield


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
