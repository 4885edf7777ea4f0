"""What users and API clients get when the database refuses, and after an internal error."""

from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from django.urls import reverse

from trainingapp.api import problems
from trainingapp.views import run_list

pytestmark = pytest.mark.django_db


@pytest.fixture
def failing(user_client: Client, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client whose list of runs raises the given error."""
    user_client.raise_request_exception = False

    def fail_with(error: Exception) -> Client:
        def fail(*args: Any) -> None:
            raise error

        monkeypatch.setattr(run_list, "render", fail)
        return user_client

    return fail_with


def test_a_refusing_database_is_reported_as_temporary(failing: Any) -> None:
    response = failing(OperationalError("database is locked")).get(reverse("run_list"))
    assert (response.status_code, response.headers["Retry-After"]) == (503, "10")
    assert "does not answer now" in response.content.decode()


def test_an_internal_error_is_reported_as_one(failing: Any) -> None:
    response = failing(ZeroDivisionError()).get(reverse("run_list"))
    assert response.status_code == 500
    assert "Something went wrong" in response.content.decode()


def test_the_api_reports_both() -> None:
    response = problems.failure(OperationalError("attempt to write a readonly database"))
    assert (response.status_code, response.headers["Retry-After"]) == (503, "10")
    assert b"urn:cvstudio:problem:service-unavailable" in response.content
