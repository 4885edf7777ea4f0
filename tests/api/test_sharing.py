"""Sharing by the API: runs, datasets and models, with every user, a team of the owner, or no other user."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from tests.api.conftest import Api, problem
from trainingapp.models import AuditEntry, Team, TrainingRun, Weights

pytestmark = pytest.mark.django_db


@pytest.fixture(params=["training", "datasets", "weights"])
def path(request: Any, user: User, run: TrainingRun) -> str:
    weights = Weights.objects.create(name="w", version=1, owner=user, task="classification", architecture="a")
    number = {"training": run.pk, "datasets": run.dataset_id, "weights": weights.pk}[request.param]
    return f"{request.param}/{number}"


def test_an_object_is_private_until_it_is_shared_again(api: Api, other_api: Api, path: str) -> None:
    assert api.post(f"{path}/share", {"visibility": "private"}).json() == {"visibility": "private", "team": None}
    problem(other_api.get(path), 404)
    assert api.get(path).json()["visibility"] == "private"
    assert api.post(f"{path}/share", {"visibility": "everybody"}).status_code == 200
    assert other_api.get(path).json()["visibility"] == "everybody"
    assert [entry.source for entry in AuditEntry.objects.filter(verb="share")] == ["api", "api"]


def test_a_team_of_the_owner_sees_it(api: Api, other_api: Api, user: User, other_user: User, path: str) -> None:
    team = Team.objects.create(name="birds")
    team.members.add(user, other_user)
    for _time in range(2):
        shared = api.post(f"{path}/share", {"visibility": "team", "team": "birds"})
        assert shared.json() == {"visibility": "team", "team": "birds"}
    assert other_api.get(path).json()["team"] == "birds"
    team.members.remove(other_user)
    problem(other_api.get(path), 404)
    assert AuditEntry.objects.filter(verb="share").count() == 1


def test_a_team_of_other_users_is_answered_as_unknown(api: Api, other_user: User, path: str) -> None:
    Team.objects.create(name="strangers").members.add(other_user)
    answers = [api.post(f"{path}/share", {"visibility": "team", "team": name}) for name in ("strangers", "nobody")]
    first, second = (problem(answer, 422) for answer in answers)
    assert first == second
    assert first["errors"][0]["pointer"] == "#/team"


@pytest.mark.parametrize(
    "body",
    [{}, {"visibility": "open"}, {"visibility": "team"}, {"visibility": "private", "team": "birds"}, {"who": "team"}],
)
def test_invalid_requests_are_refused(api: Api, path: str, body: dict[str, Any]) -> None:
    problem(api.post(f"{path}/share", body), 422)


def test_users_who_only_see_it_may_not_share_it(other_api: Api, path: str) -> None:
    problem(other_api.post(f"{path}/share", {"visibility": "private"}), 403)
