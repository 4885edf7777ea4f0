"""What the tests of the API share: callers with tokens, and a small world."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.small_world import *  # noqa: F403

if TYPE_CHECKING:
    from django.contrib.auth.models import User

ALL_SCOPES = ("read", "control", "delete")


class Api:
    """A caller of the API: paths are given below /api/v1/, bodies as what JSON is made of."""

    def __init__(self, **headers: str) -> None:
        from django.test import Client

        self.client = Client(headers=headers)

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(f"/api/v1/{path}", headers=headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self.client.delete(f"/api/v1/{path}", headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.client.post(f"/api/v1/{path}", json.dumps(body), content_type="application/json", headers=headers)

    def put(self, path: str, body: Any, **headers: str) -> Any:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.put(f"/api/v1/{path}", json.dumps(body), content_type="application/json", headers=headers)


def token_of(user: User, *scopes: str) -> str:
    """The secret of a new token of this user."""
    from trainingapp.accounts import tokens as token_verbs

    return token_verbs.create_token(user, name="test", scopes=scopes or ALL_SCOPES)[1]


def api_of(user: User, *scopes: str) -> Api:
    return Api(Authorization=f"Bearer {token_of(user, *scopes)}")


def problem(response: Any, status: int, kind: str = "") -> dict[str, Any]:
    """The problem of the response, which must have this status (and kind)."""
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body.keys() == {"type", "title", "status", "detail", "errors"}
    assert body["detail"]
    assert not kind or body["type"] == f"urn:cvstudio:problem:{kind}"
    return body


@pytest.fixture(autouse=True)
def _fresh_counts(tmp_path: Any, settings: Any) -> None:
    """Rate counts are reset; uploads are stored in a folder of the test."""
    from django.core.cache import cache

    cache.clear()
    settings.UPLOADS_DIR = tmp_path / "uploads"
    settings.UPLOADS_DIR.mkdir()


@pytest.fixture
def api(user: User) -> Api:
    """The owner of the small world, with a token that may everything."""
    return api_of(user)


@pytest.fixture
def other_api(other_user: User) -> Api:
    """Another user, with a token of all scopes."""
    return api_of(other_user)


@pytest.fixture
def make_api() -> Callable[..., Api]:
    return api_of
