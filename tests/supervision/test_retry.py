"""A database that is temporarily unavailable."""

import time

import pytest
from django.db import OperationalError

from trainingapp.supervision import shutting_down
from trainingapp.supervision.supervision import retried

pytestmark = pytest.mark.django_db


def test_a_write_is_repeated_until_it_succeeds() -> None:
    answers = [OperationalError("away"), OperationalError("away"), "stored"]

    def write() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retried(write) == "stored"


def test_other_errors_are_not_hidden() -> None:
    def write() -> None:
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        retried(write)


def test_a_worker_that_ends_stops_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainingapp.supervision.supervision.DATABASE_RETRY_S", 0.3)

    def write() -> None:
        raise OperationalError("away")

    shutting_down.set()
    try:
        began = time.monotonic()
        with pytest.raises(OperationalError):
            retried(write)
        assert time.monotonic() - began < 5
    finally:
        shutting_down.clear()
