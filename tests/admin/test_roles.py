"""Pages and actions of the admin for every role. The actions are derived from the run verbs and the registered models.

Administrators alone may use the admin, whether by their group or as superusers. Others are redirected, and nothing is
changed or recorded. What a run verb requires besides is the permission of its record.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib import admin as django_admin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from tests.views.test_roles import MAY, PEOPLE, SEES, make_people
from trainingapp.models import AuditEntry, FailureRule, Tag, Team, TrainingRun
from trainingapp.models.run import Status
from trainingapp.runs.verb_record import RunVerb
from trainingapp.runs.verb_registry import RUN_VERBS

pytestmark = pytest.mark.django_db

SUPERUSER = "superuser"
ROLES = (*PEOPLE, SUPERUSER)
ADMINISTRATORS = {"administrator", SUPERUSER}
#: Models that administrators add and delete by form; accounts, teams, rules and tags, not what the studio writes.
BY_FORM = {User, Team, FailureRule, Tag}
PAGES = ("changelist", "add", "change", "history", "delete")


@pytest.fixture
def people(rows: dict[Any, Any]) -> dict[str, User]:
    """The users of all roles, by role."""
    return {**make_people(rows[Team]), SUPERUSER: User.objects.create_superuser(SUPERUSER)}


def client_of(people: dict[str, User], who: str) -> Client:
    client = Client()
    if who in people:
        client.force_login(people[who])
    return client


def address(model: Any, page: str, *arguments: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=arguments)


@contextmanager
def undone() -> Iterator[None]:
    """Changes to the database within it are rolled back, so that each role finds the same rows."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def is_redirected(response: Any) -> bool:
    """Whether the user was sent to sign in or, once signed in, to the pages of the studio."""
    return response.status_code == 302 and not response.headers["Location"].startswith("/admin/trainingapp/")


def page_status(who: str, model: Any, page: str) -> int:
    """The status that an administrator gets."""
    if page in ("add", "delete"):
        if model is Group:
            return 200 if who == SUPERUSER else 403
        return 200 if model in BY_FORM else 403
    return 200


@pytest.mark.parametrize("who", ROLES)
def test_the_pages_of_every_model(who: str, rows: dict[Any, Any], people: dict[str, User]) -> None:
    client = client_of(people, who)
    assert set(rows) == set(django_admin.site._registry)
    for model in django_admin.site._registry:
        for page in PAGES:
            url = address(model, page, *([] if page in ("changelist", "add") else [rows[model].pk]))
            response = client.get(url)
            if who in ADMINISTRATORS:
                assert response.status_code == page_status(who, model, page), url
            else:
                assert is_redirected(response), url
                assert is_redirected(client.post(url)), url


def model_actions() -> list[tuple[Any, str]]:
    """Every action of every model, as a superuser finds them; those of runs include the run verbs."""
    request = RequestFactory().get("/admin/")
    request.user = User(is_superuser=True, is_staff=True, is_active=True)
    registered = django_admin.site._registry.items()
    return [(model, name) for model, model_admin in registered for name in model_admin.get_actions(request)]


@pytest.mark.parametrize("who", ROLES)
def test_every_action_asks_an_administrator_and_refuses_others(
    who: str, rows: dict[Any, Any], people: dict[str, User]
) -> None:
    actions = model_actions()
    assert {name for model, name in actions if model is TrainingRun} == set(RUN_VERBS.admin_actions())
    client, recorded = client_of(people, who), AuditEntry.objects.filter(source="admin")
    for model, name in actions:
        data = {"action": name, "_selected_action": [rows[model].pk]}
        response = client.post(address(model, "changelist"), data)
        if who in ADMINISTRATORS - {SUPERUSER} and model is Group:
            assert response.status_code in (200, 302), "administrators do not delete groups"
        elif who in ADMINISTRATORS:
            assert response.status_code == 200, (model, name)
        else:
            assert is_redirected(response), (model, name)
            assert is_redirected(client.post(address(model, "changelist"), data | {"confirmed": "yes"})), (model, name)
        assert model._default_manager.filter(pk=rows[model].pk).exists(), (model, name)
    assert not recorded.exists()


def make_possible(run: TrainingRun, verb: RunVerb) -> None:
    """Give the run the first status in which the verb is possible, and archive it for a verb that requires this."""
    for run.archived_at in (None, timezone.now()):
        for run.status in Status:
            if verb.is_possible(run):
                TrainingRun.objects.filter(pk=run.pk).update(status=run.status, archived_at=run.archived_at)
                return
    raise AssertionError(f"{verb.name} is possible in no status")


def performers(verb: RunVerb, run: TrainingRun, people: dict[str, User], visibility: str) -> set[str]:
    """The roles whose confirmed action performs the verb on a run of "owner", with an entry in the audit trail."""
    team = Team.objects.get() if visibility == "team" else None
    TrainingRun.objects.filter(pk=run.pk).update(owner=people["owner"], visibility=visibility, team=team)
    run.refresh_from_db()
    make_possible(run, verb)
    # A verb whose parameters are all optional changes something only if it gets one of them.
    sent = [each for each in verb.parameters if each.is_required] or verb.parameters[:1]
    values = {each.name: each.example for each in sent}
    data = {"action": verb.admin_action, "_selected_action": [run.pk], "confirmed": "yes", **values}
    done = set()
    for who in ROLES:
        with undone():
            response = client_of(people, who).post(address(TrainingRun, "changelist"), data)
            assert is_redirected(response) is (who not in ADMINISTRATORS), who
            entries = AuditEntry.objects.filter(verb=verb.audit_verb, kind="run", object_id=str(run.pk), source="admin")
            if entry := entries.first():
                assert entry.user == people[who]
                done.add(who)
    return done


def permitted(verb: RunVerb, visibility: str) -> set[str]:
    """Of the administrators, those whom the table of the pages permits the verb."""
    return ADMINISTRATORS & {SUPERUSER, *(SEES[visibility] & MAY[verb.permission](visibility))}


@pytest.mark.parametrize("visibility", SEES)
@pytest.mark.parametrize("action", list(RUN_VERBS.admin_actions()))
def test_the_actions_of_the_run_verbs(
    action: str, visibility: str, rows: dict[Any, Any], people: dict[str, User]
) -> None:
    verb = RUN_VERBS.admin_actions()[action]
    assert performers(verb, rows[TrainingRun], people, visibility) == permitted(verb, visibility)


def test_an_action_requires_the_permission_of_its_verb(
    make: Callable[..., TrainingRun], rows: dict[Any, Any], people: dict[str, User], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A permission that administrators lack does not exist today, so the table of permissions is changed here."""
    from trainingapp.accounts import permissions

    above_all_roles: Any = dict.fromkeys(permissions.Relation, permissions.Role.ADMINISTRATOR + 1)
    monkeypatch.setitem(permissions.TABLE, permissions.Verb.CONTROL, above_all_roles)
    run = make("pending")
    data = {"action": "start", "_selected_action": [run.pk], "confirmed": "yes"}
    response = client_of(people, "administrator").post(address(TrainingRun, "changelist"), data, follow=True)
    assert "Only the owner, team members and administrators can control this." in response.content.decode()
    run.refresh_from_db()
    assert run.status == "pending"


def test_a_locked_sign_in_is_shown_to_administrators_only(rows: dict[Any, Any], people: dict[str, User]) -> None:
    url = address(AccessAttempt, "changelist")
    assert "192.0.2.1" in client_of(people, "administrator").get(url).content.decode()
    assert "192.0.2.1" not in client_of(people, "operator").get(url, follow=True).content.decode()
