"""Aliases of models by the API: set, found, moved, and never told of models that the caller may not see."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from tests.api.conftest import api_of
from tests.helpers.library import make_entry

pytestmark = pytest.mark.django_db
PRODUCTION = "name=tints&alias=production"


@pytest.fixture(autouse=True)
def _folders(tmp_path: Any, settings: Any) -> None:
    settings.WEIGHTS_DIR, settings.JOBS_DIR = tmp_path / "weights", tmp_path / "jobs"


def test_it_is_found_by_its_alias(user: User) -> None:
    api, first, second = api_of(user), make_entry(user), make_entry(user)
    assert api.put(f"weights/{first.pk}/aliases/production", None).json()["aliases"] == ["production"]
    assert api.get(f"weights/resolve?{PRODUCTION}").json()["id"] == first.pk
    api.put(f"weights/{second.pk}/aliases/Production", None)
    assert api.get(f"weights/resolve?{PRODUCTION}").json()["version"] == 2
    assert [row["aliases"] for row in api.get("weights/?order=created").json()["items"]] == [[], ["production"]]
    assert [row["id"] for row in api.get("weights/?alias=production").json()["items"]] == [second.pk]
    assert api.delete(f"weights/{second.pk}/aliases/production").json()["aliases"] == []
    assert api.get(f"weights/resolve?{PRODUCTION}").status_code == 404
    assert api.delete(f"weights/{second.pk}/aliases/production").status_code == 404


def test_the_file_is_that_of_the_version(user: User) -> None:
    api, weights = api_of(user), make_entry(user)
    api.put(f"weights/{weights.pk}/aliases/production", None)
    answer = api.get(f"weights/resolve/download?{PRODUCTION}")
    assert answer.headers["X-Checksum-SHA256"] == weights.sha256
    answer.close()


def test_a_wrong_alias_is_named(user: User) -> None:
    answer = api_of(user).put(f"weights/{make_entry(user).pk}/aliases/v2", None)
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "alias")


def test_an_alias_of_others_is_neither_moved_nor_told(user: User, other_user: User) -> None:
    theirs, ours = make_entry(other_user, visibility="private"), make_entry(user)
    api_of(other_user).put(f"weights/{theirs.pk}/aliases/production", None)
    assert api_of(user).get(f"weights/resolve?{PRODUCTION}").status_code == 404
    assert api_of(user).get("weights/?alias=production").json()["total"] == 0
    assert api_of(user).put(f"weights/{ours.pk}/aliases/production", None).status_code == 403
    assert api_of(other_user).get(f"weights/resolve?{PRODUCTION}").json()["id"] == theirs.pk
