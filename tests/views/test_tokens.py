"""The page of a user's API tokens: create, show once, revoke."""

import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from tests.helpers.threads import in_threads
from trainingapp.accounts import tokens as token_verbs
from trainingapp.models import ApiToken, AuditEntry, IdempotencyKey
from trainingapp.views.form_keys import FORMS_LAST

PAGE = "/account/tokens/"
FORM = {"name": "laptop", "scopes": ["read", "delete"], "days": "30"}


def html(response: Any) -> str:
    return str(response.content.decode())


def form_on(response: Any, **changes: Any) -> dict[str, Any]:
    """The form of a page as a browser sends it, filled in."""
    key = re.search(r'name="form_key" value="([^"]+)"', html(response))
    assert key is not None
    return {**FORM, "form_key": key[1], **changes}


def post(client: Client, **changes: Any) -> Any:
    """Open the page and send its form."""
    return client.post(PAGE, form_on(client.get(PAGE), **changes))


def secret_in(response: Any) -> str | None:
    found = re.search(r'value="(cvs_[^"]+)"', html(response))
    return found[1] if found else None


def test_a_page_without_tokens_offers_to_create_one(user_client: Client) -> None:
    text = html(user_client.get(PAGE))
    assert "Create token" in text
    assert "Revoke" not in text


def test_a_new_token_is_shown_once_and_works(user_client: Client, user: User) -> None:
    response = post(user_client)
    secret = secret_in(response)
    assert secret is not None
    assert "no-store" in response.headers["Cache-Control"]
    token = ApiToken.objects.get()
    assert (token.user, token.scopes) == (user, ["read", "delete"])
    assert token.expires_at is not None
    assert abs(token.expires_at - timezone.now() - timedelta(days=30)) < timedelta(minutes=5)
    assert secret not in html(user_client.get(PAGE))
    answer = Client().get("/api/v1/training/", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 200


def test_a_token_may_have_no_expiry(user_client: Client) -> None:
    post(user_client, days="0")
    assert ApiToken.objects.get().expires_at is None
    assert "no expiry" in html(user_client.get(PAGE))


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"scopes": []}, {"scopes": ["fly"]}, {"days": "7"}, {"name": "x" * 121}]
)
def test_form_errors_are_shown(user_client: Client, wrong: dict[str, Any]) -> None:
    response = post(user_client, **wrong)
    assert response.status_code == 422
    assert "invalid-feedback" in html(response)
    assert not ApiToken.objects.exists()


def test_a_reload_creates_no_second_token(user_client: Client) -> None:
    sent = form_on(user_client.get(PAGE))
    secret = secret_in(user_client.post(PAGE, sent))
    for _ in range(2):
        again = user_client.post(PAGE, sent)
        assert again.status_code == 409
        assert "“laptop” has already been created" in html(again)
        assert secret_in(again) is None
    assert ApiToken.objects.count() == 1
    assert AuditEntry.objects.filter(verb="token_create").count() == 1
    assert secret not in str(list(IdempotencyKey.objects.values()))


def test_a_used_form_keeps_its_values_and_can_be_submitted_again(user_client: Client) -> None:
    """A user returned to an old page and entered another name: it is kept, and submitting again creates the token."""
    sent = form_on(user_client.get(PAGE))
    user_client.post(PAGE, sent)
    again = user_client.post(PAGE, {**sent, "name": "server"})
    assert 'value="server"' in html(again)
    assert secret_in(user_client.post(PAGE, form_on(again, name="server"))) is not None
    assert set(ApiToken.objects.values_list("name", flat=True)) == {"laptop", "server"}


def test_the_page_that_shows_a_token_can_create_another(user_client: Client) -> None:
    first = post(user_client)
    assert secret_in(user_client.post(PAGE, form_on(first))) not in (None, secret_in(first))


def test_two_tabs_create_two_tokens(user_client: Client) -> None:
    tabs = [form_on(user_client.get(PAGE), name=name) for name in ("laptop", "server")]
    assert None not in [secret_in(user_client.post(PAGE, tab)) for tab in tabs]
    assert ApiToken.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_concurrent_submissions_create_one_token(user_client: Client) -> None:
    sent = form_on(user_client.get(PAGE))

    def click() -> str:
        client = Client()
        client.cookies = user_client.cookies
        return str(client.post(PAGE, sent).status_code)

    assert sorted(map(str, in_threads([click] * 4))) == ["200", "409", "409", "409"]
    assert ApiToken.objects.count() == 1


def test_an_invalid_form_can_be_corrected(user_client: Client) -> None:
    refused = post(user_client, name="")
    assert secret_in(user_client.post(PAGE, form_on(refused))) is not None


def test_a_form_of_another_user_or_an_expired_form_creates_nothing(
    user_client: Client, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Client()
    other.force_login(other_user)
    mine = form_on(user_client.get(PAGE))
    for client, key in ((other, mine["form_key"]), (user_client, "made-up"), (user_client, "")):
        assert client.post(PAGE, {**FORM, "form_key": key}).status_code == 422
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + FORMS_LAST.total_seconds() + 1)
    late = user_client.post(PAGE, mine)
    assert late.status_code == 422
    assert "open for too long" in html(late)
    assert 'value="laptop"' in html(late)
    assert not ApiToken.objects.exists()
    monkeypatch.undo()
    assert FORMS_LAST < IdempotencyKey.KEPT  # or a form would outlive the note that it was used


def test_a_token_is_revoked_permanently_by_its_owner(user_client: Client, user: User) -> None:
    token, _secret = token_verbs.create_token(user, name="laptop", scopes=["read"])
    for _ in range(2):
        response = user_client.post(f"{PAGE}{token.pk}/revoke/")
        assert response.headers["Location"] == PAGE
    assert ApiToken.objects.get().revoked_at is not None
    assert AuditEntry.objects.filter(verb="token_revoke").count() == 1
    assert "revoked" in html(user_client.get(PAGE))


def test_other_users_neither_see_nor_revoke_it(user_client: Client, other_user: User) -> None:
    token, _secret = token_verbs.create_token(other_user, name="hers", scopes=["read"])
    assert "hers" not in html(user_client.get(PAGE))
    assert user_client.post(f"{PAGE}{token.pk}/revoke/").status_code == 404
    assert ApiToken.objects.get().is_usable


def test_anonymous_users_are_redirected_and_get_revokes_nothing(user: User, user_client: Client) -> None:
    token, _secret = token_verbs.create_token(user, name="laptop", scopes=["read"])
    assert Client().get(PAGE).headers["Location"].startswith("/login/")
    assert Client().post(f"{PAGE}{token.pk}/revoke/").headers["Location"].startswith("/login/")
    assert user_client.get(f"{PAGE}{token.pk}/revoke/").status_code == 405
    assert ApiToken.objects.get().is_usable
