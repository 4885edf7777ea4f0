"""Fixtures for tests that store runs: separate folders, a dataset without files, runs on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # this module is imported before Django is set up
    from django.contrib.auth.models import User

    from trainingapp.models import Dataset, TrainingRun

__all__ = ["dataset", "folders", "make", "run", "tints"]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any) -> None:
    """Use separate folders and heartbeats for each test, since row numbers repeat between tests."""
    from trainingapp.supervision.heartbeats import heartbeats

    heartbeats.forget_all_but(set())
    settings.RUNS_DIR = tmp_path / "runs"
    settings.DATASETS_DIR = tmp_path / "datasets"
    settings.WEIGHTS_CACHE_DIR = tmp_path / "torch"
    settings.SPARE_TRAINER = False


@pytest.fixture
def dataset(user: User) -> Dataset:
    """A ready dataset as a row without files."""
    from trainingapp.models import Dataset

    return Dataset.objects.create(
        name="pets",
        owner=user,
        source="/nowhere",
        status=Dataset.Status.READY,
        classes=["blue", "red"],
        tasks=["classification"],
        counts={"train": {"blue": 4, "red": 4}, "val": {"blue": 2, "red": 2}},
        images={"train": 8, "val": 4},
    )


@pytest.fixture
def tints(user: User) -> Dataset:
    """A ready dataset with its images."""
    from tests.helpers.tiny import make_dataset

    return make_dataset(user)


@pytest.fixture
def make(user: User, dataset: Dataset) -> Callable[..., TrainingRun]:
    """`make(status="running", ...)` stores a run with this status and these fields, without history."""
    from tests.helpers.tiny import make_run
    from trainingapp.models import TrainingRun

    def make_stored(status: str = "pending", **fields: Any) -> TrainingRun:
        run = make_run(user, dataset)
        TrainingRun.objects.filter(pk=run.pk).update(status=status, **fields)
        run.refresh_from_db()
        run.save(update_fields=["config", "metrics"])  # with the columns that are copied from them
        return run

    return make_stored


@pytest.fixture
def run(make: Callable[..., TrainingRun]) -> TrainingRun:
    """A pending run."""
    return make()
