"""Signing in: limits for guessing, audit entries, headers and cookies."""

from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from trainingapp.models import AuditEntry, TrainingRun

LOGIN = "/login/"


def attempt(client: Client, password: str, name: str = "ada", address: str = "192.0.2.1", **headers: str) -> Any:
    data = {"username": name, "password": password}
    return client.post(LOGIN, data, REMOTE_ADDR=address, **headers)  # type: ignore[arg-type]


def recorded() -> list[tuple[str, str, str | None]]:
    return list(AuditEntry.objects.order_by("pk").values_list("verb", "username", "address"))


@pytest.fixture
def locked(client: Client, user: User) -> Client:
    """A user after too many wrong passwords."""
    for _number in range(settings.AXES_FAILURE_LIMIT):
        attempt(client, "wrong")
    return client


def test_a_wrong_password_is_reported_and_recorded(client: Client, user: User) -> None:
    response = attempt(client, "wrong")
    assert response.status_code == 200
    assert "The user name or password is incorrect." in response.content.decode()
    assert recorded() == [("sign_in_failed", "ada", "192.0.2.1")]


def test_after_too_many_attempts_the_correct_password_is_refused(locked: Client) -> None:
    response = attempt(locked, "correct horse")
    assert response.status_code == 429
    page = response.content.decode()
    assert "Too many failed attempts" in page
    assert "blocked for 15 minutes" in page
    assert "_auth_user_id" not in locked.session


def test_the_remaining_time_is_shown(locked: Client) -> None:
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=13, seconds=30))  # type: ignore[attr-defined]
    assert "for 2 minutes" in attempt(locked, "correct horse").content.decode()


def test_further_attempts_do_not_extend_the_lock(locked: Client) -> None:
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=13, seconds=30))  # type: ignore[attr-defined]
    for _number in range(3):
        assert "for 2 minutes" in attempt(locked, "wrong").content.decode()


def test_the_lock_expires(locked: Client) -> None:
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))  # type: ignore[attr-defined]
    assert attempt(locked, "correct horse").status_code == 302


def test_the_lock_applies_to_user_and_address_together(locked: Client, admin: User) -> None:
    assert attempt(Client(), "correct horse", address="192.0.2.77").status_code == 302
    admin.set_password("battery staple")
    admin.save()
    assert attempt(Client(), "battery staple", name="root").status_code == 302


def test_a_forged_address_does_not_bypass_the_lock(locked: Client) -> None:
    assert attempt(locked, "correct horse", HTTP_X_FORWARDED_FOR="203.0.113.5").status_code == 429


def test_success_resets_the_failures(client: Client, user: User) -> None:
    for _number in range(settings.AXES_FAILURE_LIMIT - 1):
        attempt(client, "wrong")
    assert attempt(client, "correct horse").status_code == 302
    assert not AccessAttempt.objects.exists()  # type: ignore[attr-defined]


def test_the_lock_is_recorded_once(locked: Client) -> None:
    for _number in range(3):
        attempt(locked, "wrong")
    verbs = [verb for verb, _name, _address in recorded()]
    assert verbs.count("locked_out") == 1
    assert verbs.count("sign_in_failed") <= settings.AXES_FAILURE_LIMIT
    assert ("locked_out", "ada", "192.0.2.1") in recorded()


@pytest.mark.parametrize("name", ["x" * 200, "a\0b", "’; DROP TABLE", ""])
def test_unusual_user_names_are_refused_normally(client: Client, db: None, name: str) -> None:
    assert attempt(client, "wrong", name=name).status_code == 200


def test_signing_in_and_out_is_recorded_and_rotates_the_session(client: Client, user: User) -> None:
    client.get(LOGIN)
    attempt(client, "correct horse")
    first = client.session.session_key
    client.post("/logout/", REMOTE_ADDR="192.0.2.1")
    attempt(client, "correct horse")
    assert client.session.session_key != first
    assert [verb for verb, _name, _address in recorded()] == ["sign_in", "sign_out", "sign_in"]


def test_cookies_are_http_only_and_same_site(client: Client, user: User) -> None:
    response = attempt(client, "correct horse")
    for name in ("sessionid", "csrftoken"):
        assert response.cookies[name]["httponly"], name
        assert response.cookies[name]["samesite"] == "Lax", name


def check_headers(response: Any) -> None:
    headers = response.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_every_response_has_the_security_headers_and_is_not_cached(
    client: Client, user_client: Client, staff_client: Client, run: TrainingRun
) -> None:
    pages = [LOGIN, "/", "/nothing/", run.get_absolute_url(), "/account/", "/datasets/", f"/runs/{run.pk}/metrics/"]
    answers = [user_client.get(page) for page in pages]
    answers += [staff_client.get("/admin/"), staff_client.get("/audit/"), client.get("/"), client.get("/healthz")]
    for response in answers:
        check_headers(response)
        assert "no-store" in response.headers["Cache-Control"], response.request["PATH_INFO"]


@pytest.mark.django_db(transaction=True)
async def test_a_stream_has_the_security_headers(user: User, run: TrainingRun) -> None:
    client = AsyncClient()
    await client.aforce_login(user)
    response = await client.get(f"/events/?topics=run.{run.pk}")
    check_headers(response)
    response.close()


def test_static_files_may_be_cached(client: Client) -> None:
    assert "no-store" not in client.get("/static/css/layout.css").headers.get("Cache-Control", "")


# The account


def test_the_account_page_shows_role_teams_and_sessions(user_client: Client, user: User) -> None:
    page = user_client.get(reverse("account")).content.decode()
    assert "Operator" in page
    assert "no team" in page
    assert "1 active session: this browser" in page


def test_a_changed_password_ends_other_sessions_only(user_client: Client, user: User) -> None:
    other = Client()
    other.force_login(user)
    data = {"old_password": "correct horse", "new_password1": "purple engine 9", "new_password2": "purple engine 9"}
    assert user_client.post(reverse("password_change"), data).status_code == 302
    assert user_client.get(reverse("account")).status_code == 200
    assert other.get(reverse("account")).status_code == 302
    user.refresh_from_db()
    assert user.check_password("purple engine 9")
    assert "password" in [verb for verb, _name, _address in recorded()]


def test_a_wrong_old_password_changes_nothing(user_client: Client, user: User) -> None:
    data = {"old_password": "guess", "new_password1": "purple engine 9", "new_password2": "purple engine 9"}
    response = user_client.post(reverse("password_change"), data)
    assert response.status_code == 422
    user.refresh_from_db()
    assert user.check_password("correct horse")


def test_signing_out_everywhere_ends_only_own_sessions(user_client: Client, user: User, staff_client: Client) -> None:
    other = Client()
    other.force_login(user)
    assert user_client.post(reverse("sign_out_everywhere")).headers["Location"] == LOGIN
    for client in (user_client, other):
        assert client.get("/").status_code == 302
    assert staff_client.get("/").status_code == 200
    assert Session.objects.count() == 1
    assert AuditEntry.objects.get(verb="sign_out_everywhere").details == {"sessions": 2}


def test_users_without_a_local_password_cannot_change_one(db: None) -> None:
    person = User.objects.create_user("sso")
    client = Client()
    client.force_login(person)
    assert "old_password" not in client.get(reverse("account")).content.decode()
    assert client.post(reverse("password_change"), {}).headers["Location"] == reverse("account")
