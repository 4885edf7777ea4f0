"""manage.py token: create, list, revoke."""

import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from trainingapp.accounts import tokens as token_verbs
from trainingapp.models import ApiToken


def call(*arguments: str) -> str:
    output = StringIO()
    call_command("token", *arguments, stdout=output, stderr=StringIO())
    return output.getvalue()


def test_only_the_secret_is_printed(admin: User) -> None:
    secret = call("create", "laptop").strip()
    token = token_verbs.find_token(secret)
    assert token is not None
    assert (token.user, token.scopes) == (admin, ["read", "control", "delete"])
    assert token.expires_at is not None


def test_a_token_is_created_for_the_given_user_and_scopes(user: User) -> None:
    call("create", "laptop", "--user", "ada", "--scope", "read", "--days", "0")
    token = ApiToken.objects.get()
    assert (token.user, token.scopes, token.expires_at) == (user, ["read"], None)


def test_tokens_are_listed_without_their_secrets(user: User) -> None:
    _token, secret = token_verbs.create_token(user, name="laptop", scopes=["read"])
    (record,) = json.loads(call("list", "--json"))
    assert (record["user"], record["name"], record["is_usable"], record["last_used_at"]) == (
        "ada",
        "laptop",
        True,
        None,
    )
    assert "laptop" in call("list", "--user", "ada")
    assert secret not in call("list") + json.dumps(record)


def test_tokens_are_revoked(user: User) -> None:
    token, secret = token_verbs.create_token(user, name="laptop", scopes=["read"])
    for _ in range(2):
        assert "was revoked" in call("revoke", str(token.pk))
    assert token_verbs.find_token(secret) is None
    assert "not usable" in call("list")


@pytest.mark.parametrize(
    "arguments",
    [["create", "x", "--user", "nobody"], ["create", " "], ["create", "x", "--days", "-1"], ["revoke", "4711"]],
)
def test_errors_are_reported(admin: Any, arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        call(*arguments)
    assert not ApiToken.objects.exists()
