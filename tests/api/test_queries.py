"""Query parameters: an unknown one is refused by its name, since a mistyped filter would filter nothing."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient

from tests.api.conftest import Api, problem, token_of
from trainingapp.api.openapi import schema_of
from trainingapp.api.root import api as studio_api
from trainingapp.models import TrainingRun

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def operations() -> list[tuple[str, str]]:
    paths = schema_of(studio_api)["paths"]
    found = [(method, path) for path, methods in paths.items() for method in methods]
    return [each for each in found if not each[1].endswith("/events")]  # which has a thread and a test of its own


@pytest.mark.parametrize(("method", "path"), operations())
def test_an_unknown_parameter_is_refused_everywhere(api: Api, method: str, path: str) -> None:
    for name in ("pk", "job_id"):
        path = path.replace(f"{{{name}}}", "1")
    address = path.replace("{file}", "best").replace("{name}", "export.zip").replace("{upload_id}", "0" * 32)
    body: dict[str, Any] = problem(getattr(api.client, method)(f"{address}?statsu=x"), 422)
    (error,) = [each for each in body["errors"] if each["parameter"] == "statsu"]
    assert error["detail"].startswith(("Unknown parameter.", "This address takes no parameters."))


def test_unknown_parameters_are_named_with_the_known_ones(api: Api, run: TrainingRun) -> None:
    body = problem(api.get(f"training/{run.pk}/logs?lvl=info&level=info&page=2"), 422)
    assert [error["parameter"] for error in body["errors"]] == ["lvl", "page"]
    assert "after, level, limit, q" in body["detail"]
    assert "This address takes no parameters." in problem(api.get(f"training/{run.pk}?x=1"), 422)["detail"]


def test_known_parameters_are_accepted_by_get_and_head(api: Api, run: TrainingRun) -> None:
    path = "training/?status=pending&task=classification&q=t&owner=ada&order=name&skip=0&limit=1"
    assert api.get(path).json()["total"] == 1
    assert api.client.head(f"/api/v1/{path}").status_code == 200
    assert api.client.head("/api/v1/training/?x=1").status_code == 422


def test_an_order_by_an_unknown_column_is_refused(api: Api) -> None:
    found: dict[str, Any] = problem(api.get("training/?order=00"), 422)
    assert found["errors"][0]["detail"] == "Choose a column of the list of runs, such as -best."


def test_unauthorized_requests_learn_nothing_about_parameters(db: None) -> None:
    problem(Api().get("training/?statsu=x"), 401)


def test_a_wrong_method_is_reported_before_parameters(api: Api) -> None:
    assert api.client.patch("/api/v1/training/?x=1").status_code == 405


@pytest.mark.django_db(transaction=True)
async def test_the_event_stream_refuses_it_too(user: User, run: TrainingRun) -> None:
    from asgiref.sync import sync_to_async

    headers = {"Authorization": f"Bearer {await sync_to_async(token_of)(user)}"}
    response = await AsyncClient().get(f"/api/v1/training/{run.pk}/events?from=3", headers=headers)
    assert problem(response, 422)["errors"][0]["parameter"] == "from"
