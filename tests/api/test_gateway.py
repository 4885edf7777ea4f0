"""Authentication of the API: tokens and their scopes, sessions, rate limits; and idempotency keys."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from tests.api.conftest import Api, api_of, problem, token_of
from tests.helpers.threads import in_threads
from trainingapp.accounts import tokens as token_verbs
from trainingapp.api import idempotency, limits
from trainingapp.models import ApiToken, AuditEntry, Dataset, IdempotencyKey, TrainingRun
from trainingapp.runs import verbs as run_verbs
from trainingapp.worker import tasks

pytestmark = [pytest.mark.django_db, pytest.mark.database]
MAKE = Callable[..., TrainingRun]

# Tokens


def test_anonymous_requests_are_refused_without_a_redirect(db: None) -> None:
    for path in ("training/", "training/1", "datasets/", "weights/", "devices", "queue", "jobs"):
        response = Api().get(path)
        problem(response, 401)
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    problem(Api().post("training/", {}), 401)
    problem(Api().delete("training/1"), 401)


@pytest.mark.parametrize("header", ["Bearer cvs_wrong", "Bearer", "Bearer ", "Basic YWRhOng=", "cvs_x", "Bearer cvs_ä"])
def test_an_invalid_token_is_refused(user_client: Client, header: str) -> None:
    response = user_client.get("/api/v1/training/", headers={"Authorization": header.encode().decode("latin-1")})
    problem(response, 401)


def test_a_token_is_valid_until_it_is_revoked(user: User) -> None:
    token, secret = token_verbs.create_token(user, name="laptop", scopes=["read"])
    api = Api(Authorization=f"bearer {secret}")
    assert api.get("training/").status_code == 200
    token_verbs.revoke_token(token)
    problem(api.get("training/"), 401)


def test_an_expired_token_or_one_of_an_inactive_user_is_refused(user: User) -> None:
    api = api_of(user)
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    problem(api.get("training/"), 401)
    ApiToken.objects.update(expires_at=timezone.now() + timedelta(hours=1))
    assert api.get("training/").status_code == 200
    User.objects.update(is_active=False)
    problem(api.get("training/"), 401)


def test_only_a_hash_of_the_token_is_stored(user: User) -> None:
    token, secret = token_verbs.create_token(user, name="laptop", scopes=["read"])
    assert len(secret) >= 43
    stored = " ".join(map(str, ApiToken.objects.values_list().get()))
    assert secret not in stored
    assert token.prefix == secret[:12]


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("read", {"get"}), ("control", {"post", "put"}), ("delete", {"delete"})],
)
def test_a_token_is_limited_to_its_scopes(user: User, make: MAKE, scope: str, allowed: set[str]) -> None:
    run = make("stopped")
    api = api_of(user, scope)
    calls = {
        "get": lambda: api.get(f"training/{run.pk}"),
        "post": lambda: api.post(f"training/{run.pk}/control", {"action": "stop"}),
        "put": lambda: api.put(f"training/{run.pk}", {"priority": 1}, If_Match="*"),
        "delete": lambda: api.delete(f"training/{run.pk}"),
    }
    for name, call in calls.items():
        response = call()
        if name in allowed:
            assert response.status_code == 200, name
        else:
            problem(response, 403, "scope")


def test_the_last_use_is_stored_at_most_once_a_minute(user: User) -> None:
    api = api_of(user)
    api.get("training/")
    first = ApiToken.objects.get()
    assert first.last_used_at is not None
    assert first.last_used_from == "127.0.0.1"
    api.get("training/")
    assert ApiToken.objects.get().last_used_at == first.last_used_at
    ApiToken.objects.update(last_used_at=timezone.now() - timedelta(minutes=2))
    api.get("training/")
    assert ApiToken.objects.get().last_used_at > first.last_used_at


def test_the_audit_trail_names_the_user_of_the_token_and_the_source(api: Api, make: MAKE) -> None:
    api.post(f"training/{make('queued').pk}/control", {"action": "stop"})
    entry = AuditEntry.objects.get(verb="stop")
    assert (entry.username, entry.source, entry.address) == ("ada", "api", "127.0.0.1")


# The browser's login


def test_a_session_needs_the_csrf_token_for_changes(user: User, make: MAKE) -> None:
    run = make("queued")
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    assert client.get(f"/api/v1/training/{run.pk}").status_code == 200
    path, body = f"/api/v1/training/{run.pk}/control", '{"action": "stop"}'
    problem(client.post(path, body, content_type="application/json"), 403, "csrf")
    client.get("/account/tokens/")
    headers = {"X-CSRFToken": client.cookies["csrftoken"].value}
    assert client.post(path, body, content_type="application/json", headers=headers).status_code == 200


def test_a_token_needs_no_csrf_token(user: User, make: MAKE) -> None:
    client = Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {token_of(user)}"})
    path = f"/api/v1/training/{make('queued').pk}/control"
    assert client.post(path, '{"action": "stop"}', content_type="application/json").status_code == 200


# Limits


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that requests are counted by, to be set."""
    now = [1_800_000_010.0]
    monkeypatch.setattr(limits, "time", lambda: now[0])
    return now


def test_requests_above_the_limit_are_refused_with_retry_after(
    user: User, other_user: User, settings: Any, clock: list[float]
) -> None:
    settings.API_RATE_PER_MINUTE = 3
    api, other = api_of(user), api_of(other_user)
    assert [api.get("training/").status_code for _ in range(4)] == [200, 200, 200, 429]
    response = api.get("training/")
    problem(response, 429)
    assert response.headers["Retry-After"] == "50"
    assert other.get("training/").status_code == 200
    clock[0] += 50
    assert api.get("training/").status_code == 200


def test_anonymous_requests_are_counted_by_address_and_sessions_by_user(
    user_client: Client, settings: Any, clock: list[float]
) -> None:
    settings.API_RATE_PER_MINUTE = 2
    assert [Api().get("training/").status_code for _ in range(3)] == [401, 401, 429]
    assert [user_client.get("/api/v1/training/").status_code for _ in range(3)] == [200, 200, 429]


def test_without_a_limit_no_request_is_refused(api: Api, settings: Any) -> None:
    settings.API_RATE_PER_MINUTE = 0
    assert {api.get("training/").status_code for _ in range(10)} == {200}


@pytest.mark.redis
def test_limits_are_shared_on_redis_and_pass_when_it_fails(
    api: Api, settings: Any, redis_url: str, clock: list[float]
) -> None:
    backend = "django.core.cache.backends.redis.RedisCache"
    settings.API_RATE_PER_MINUTE = 2
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": redis_url}}
    assert [api.get("training/").status_code for _ in range(3)] == [200, 200, 429]
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1/0"}}
    assert {api.get("training/").status_code for _ in range(4)} == {200}


# Requests that are sent twice


def create(api: Api, dataset: Dataset, key: str = "one", **fields: Any) -> Any:
    body = {"name": "try", "dataset": dataset.pk, **fields}
    return api.client.post("/api/v1/training/", body, content_type="application/json", headers={"Idempotency-Key": key})


def test_a_repeated_request_gets_the_same_response_and_acts_once(api: Api, dataset: Dataset) -> None:
    first, again = create(api, dataset), create(api, dataset)
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert first.headers["Location"] == again.headers["Location"]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert create(api, dataset, key="two").json()["id"] != first.json()["id"]
    assert TrainingRun.objects.count() == 2


def test_a_refusal_is_repeated(api: Api, dataset: Dataset) -> None:
    problem(create(api, dataset, name=""), 422)
    again = create(api, dataset, name="")
    problem(again, 422)
    assert again.headers["Idempotent-Replayed"] == "true"


def test_the_key_of_another_request_is_refused(api: Api, dataset: Dataset) -> None:
    create(api, dataset)
    problem(create(api, dataset, name="other"), 422, "key-of-another-request")
    response = api.post("training/1/control", {"action": "start"}, **{"Idempotency-Key": "one"})
    problem(response, 422, "key-of-another-request")


def test_a_key_belongs_to_one_user(api: Api, other_api: Api, dataset: Dataset) -> None:
    create(api, dataset)
    assert create(other_api, dataset).json()["owner"] == "grace"


@pytest.mark.parametrize("key", ["", " ", "ä", "x" * 201])
def test_an_invalid_key_is_refused(api: Api, dataset: Dataset, key: str) -> None:
    problem(create(api, dataset, key=key.encode().decode("latin-1")), 422)


def test_a_key_of_a_request_in_progress_is_refused_until_it_was_interrupted(api: Api, dataset: Dataset) -> None:
    create(api, dataset)
    IdempotencyKey.objects.update(status_code=None)
    problem(create(api, dataset), 409, "key-at-work")
    IdempotencyKey.objects.update(created_at=timezone.now() - idempotency.ABANDONED - timedelta(seconds=1))
    assert create(api, dataset).status_code == 201


def test_the_response_of_an_internal_error_is_not_stored(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**fields: Any) -> None:
        raise RuntimeError("of the kitchen")

    with monkeypatch.context() as patched:
        patched.setattr(run_verbs, "create_run", fail)
        body = problem(create(api, dataset), 500)
        assert "kitchen" not in body["detail"]
    assert create(api, dataset).status_code == 201


def test_keys_expire_after_a_day(api: Api, dataset: Dataset) -> None:
    first = create(api, dataset)
    IdempotencyKey.objects.update(created_at=timezone.now() - IdempotencyKey.KEPT - timedelta(seconds=1))
    assert create(api, dataset).json()["id"] != first.json()["id"]
    IdempotencyKey.objects.update(created_at=timezone.now() - IdempotencyKey.KEPT - timedelta(seconds=1))
    tasks.remove_old_keys()
    assert not IdempotencyKey.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_concurrent_repetitions_act_once(user: User, dataset: Dataset) -> None:
    callers = [api_of(user) for _ in range(4)]
    results = in_threads([lambda caller=caller: create(caller, dataset) for caller in callers])
    statuses = [response.status_code for response in results]  # type: ignore[attr-defined]
    assert set(statuses) <= {201, 409}
    assert 201 in statuses
    assert TrainingRun.objects.count() == 1
