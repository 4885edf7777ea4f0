"""Rows and files that the tests of a module share."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings
from pytest_django import DjangoDbBlocker


def folder_settings(path: Path) -> dict[str, Path]:
    """The settings that let everything that the studio stores lie below `path`."""
    below = {f"{name.upper()}_DIR": path / name for name in ("datasets", "jobs", "runs", "uploads", "weights")}
    return {"DATA_DIR": path, **below}


def world_fixtures(make_world: Callable[[str], Any]) -> tuple[Any, Any, Any]:
    """The fixtures `visibility`, `made` and `world` of a module, for tests with the indirect parameter `visibility`.

    `make_world(visibility)` is called once for each visibility; each test runs in a savepoint and has its own files.
    """

    @pytest.fixture(scope="module")
    def visibility(request: pytest.FixtureRequest) -> str:
        """Who sees the objects of the world."""
        return str(request.param)

    @pytest.fixture(scope="module")
    def made(
        visibility: str,
        django_db_setup: None,
        django_db_blocker: DjangoDbBlocker,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Iterator[tuple[Any, Path]]:
        """The world and the folder of its files."""
        folder = tmp_path_factory.mktemp("world")
        (folder / "uploads").mkdir()
        with _transaction_of_module(django_db_blocker):
            with django_db_blocker.unblock(), override_settings(**folder_settings(folder)):
                made = make_world(visibility)
            yield made, folder

    @pytest.fixture
    def world(made: tuple[Any, Path], tmp_path: Path) -> Iterator[Any]:
        """The world with files of its own, for a request may delete some."""
        made_world, folder = made
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        with override_settings(**folder_settings(tmp_path)):
            yield made_world

    return visibility, made, world


@contextmanager
def _transaction_of_module(blocker: DjangoDbBlocker) -> Iterator[None]:
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
