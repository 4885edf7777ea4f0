"""The page of one's API tokens: make, show once, revoke."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from trainingapp import lifecycle
from trainingapp.models import ApiToken, AuditEntry

PAGE = "/account/tokens/"
FORM = {"name": "laptop", "scopes": ["read", "delete"], "days": "30"}


def html(response: Any) -> str:
    return str(response.content.decode())


def test_a_page_without_tokens_offers_to_make_one(user_client: Client) -> None:
    text = html(user_client.get(PAGE))
    assert "Make the token" in text
    assert "Revoke" not in text


def test_a_new_token_is_shown_once_and_works(user_client: Client, user: User) -> None:
    response = user_client.post(PAGE, FORM)
    secret = re.search(r'value="(cvs_[^"]+)"', html(response))
    assert secret is not None
    assert "no-store" in response.headers["Cache-Control"]
    token = ApiToken.objects.get()
    assert (token.user, token.scopes) == (user, ["read", "delete"])
    assert token.expires_at is not None
    assert abs(token.expires_at - timezone.now() - timedelta(days=30)) < timedelta(minutes=5)
    assert secret[1] not in html(user_client.get(PAGE))
    answer = Client().get("/api/v1/training/", headers={"Authorization": f"Bearer {secret[1]}"})
    assert answer.status_code == 200


def test_a_token_may_have_no_end(user_client: Client) -> None:
    user_client.post(PAGE, {**FORM, "days": "0"})
    assert ApiToken.objects.get().expires_at is None
    assert "no end" in html(user_client.get(PAGE))


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"scopes": []}, {"scopes": ["fly"]}, {"days": "7"}, {"name": "x" * 121}]
)
def test_what_is_wrong_with_a_token_is_said(user_client: Client, wrong: dict[str, Any]) -> None:
    response = user_client.post(PAGE, {**FORM, **wrong})
    assert response.status_code == 422
    assert "invalid-feedback" in html(response)
    assert not ApiToken.objects.exists()


def test_a_token_is_revoked_by_its_owner_and_stays_so(user_client: Client, user: User) -> None:
    token, _secret = lifecycle.create_token(user, name="laptop", scopes=["read"])
    for _ in range(2):
        response = user_client.post(f"{PAGE}{token.pk}/revoke/")
        assert response.headers["Location"] == PAGE
    assert ApiToken.objects.get().revoked_at is not None
    assert AuditEntry.objects.filter(verb="token_revoke").count() == 1
    assert "revoked" in html(user_client.get(PAGE))


def test_others_neither_see_nor_revoke_it(user_client: Client, other_user: User) -> None:
    token, _secret = lifecycle.create_token(other_user, name="hers", scopes=["read"])
    assert "hers" not in html(user_client.get(PAGE))
    assert user_client.post(f"{PAGE}{token.pk}/revoke/").status_code == 404
    assert ApiToken.objects.get().is_usable


def test_nobody_is_led_to_sign_in_and_a_look_revokes_nothing(user: User, user_client: Client) -> None:
    token, _secret = lifecycle.create_token(user, name="laptop", scopes=["read"])
    assert Client().get(PAGE).headers["Location"].startswith("/login/")
    assert Client().post(f"{PAGE}{token.pk}/revoke/").headers["Location"].startswith("/login/")
    assert user_client.get(f"{PAGE}{token.pk}/revoke/").status_code == 405
    assert ApiToken.objects.get().is_usable
