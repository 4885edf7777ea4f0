"""A run verb is registered in one place and found in pages, API, commands, admin, audit trail, documents and tests."""

import re
import runpy
from argparse import _SubParsersAction
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command, load_command_class
from django.test import Client
from django.urls import Resolver404, resolve, reverse

from tests.admin.test_roles import performers, permitted
from tests.api.conftest import Api, api_of, problem
from tests.api.test_roles import control_calls
from tests.views.test_roles import FORBIDDEN, LOGIN, NOT_FOUND, PEOPLE, make_world, outcomes, run_verb_lines
from trainingapp.accounts import audit
from trainingapp.accounts.permissions import TABLE, Relation, Role, Verb
from trainingapp.api.openapi import query_names, schema_of
from trainingapp.api.root import api as studio_api
from trainingapp.models import AuditEntry, TrainingRun
from trainingapp.models.run import Status
from trainingapp.models.verbs import VerbError, locked
from trainingapp.runs.verb_record import Parameter, RunVerb
from trainingapp.runs.verb_registry import RUN_VERBS

MAKE = Callable[..., TrainingRun]
REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.django_db

#: The permission of each verb of the studio, once more by hand: a change of a record alone is noticed.
PERMISSIONS = {
    **dict.fromkeys(("start", "pause", "resume", "stop", "force_stop", "retry", "epochs"), Verb.CONTROL),
    **dict.fromkeys(("checkpoint", "evaluate", "move", "priority"), Verb.CONTROL),
    **dict.fromkeys(("fork", "clone", "create", "check", "preview"), Verb.CREATE),
    **dict.fromkeys(("edit", "tag", "note", "archive", "restore"), Verb.CHANGE),
    "share": Verb.SHARE,
    "delete": Verb.DELETE,
}


def applaud(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """A verb that needs a completed run and leaves its trace in the audit trail."""
    with locked(run):
        if run.status != Status.COMPLETED:
            raise VerbError("Only completed runs are applauded.")
        audit.record("applaud", run, by=by)
    return run


def applause(**changes: Any) -> RunVerb:
    values: dict[str, Any] = {
        "name": "applaud",
        "function": applaud,
        "label": "Applaud",
        "help": "Applaud completed runs.",
        "is_possible": lambda run: run.status == Status.COMPLETED,
        "placement": "button",
        "icon": "bi-emoji-smile",
        "already": "It was applauded.",
        "api_action": "applaud",
        "admin_action": "applaud",
        "done": "“%(name)s” was applauded.",
        "command": "applaud",
        "audit_verb": "applaud",
        "audit_label": "applauded",
    }
    return RunVerb(**values | changes)


@pytest.fixture(autouse=True)
def no_cached_document() -> Iterator[None]:
    """The API makes its document once for each process, and would keep the verb of a test in it."""
    yield
    schema_of.cache_clear()
    query_names.cache_clear()


@pytest.fixture
def registered() -> Iterator[RunVerb]:
    verb = applause()
    RUN_VERBS.add(verb)
    try:
        yield verb
    finally:
        RUN_VERBS.remove(verb.name)


def html(response: Any) -> str:
    return str(response.content.decode())


def actions_of_the_document() -> dict[str, Any]:
    schema_of.cache_clear()
    document = schema_of(studio_api)
    properties: dict[str, Any] = document["components"]["schemas"]["TrainingControlRequest"]["properties"]["action"]
    return properties


def test_it_is_a_button_of_the_run_page(registered: RunVerb, user_client: Client, make: MAKE) -> None:
    run = make("completed")
    address = reverse("run_control", args=[run.pk, "applaud"])
    page = html(user_client.get(run.get_absolute_url()))
    assert re.search(rf'id="verb-applaud"\s+form="controls" formaction="{address}"', page)
    assert 'id="verb-applaud"' not in html(user_client.get(make("queued").get_absolute_url())), "it is not possible"
    response = user_client.post(address, headers={"HX-Request": "true"})
    assert "It was applauded." in response.headers["HX-Trigger"]
    assert 'id="verb-applaud"' in html(response)
    assert AuditEntry.objects.get(verb="applaud").object_id == str(run.pk)


def test_it_is_an_entry_of_the_menu_and_may_have_a_page(user_client: Client, make: MAKE) -> None:
    run = make("completed")
    for page, element in ((None, "button"), (lambda run: "/applause/", "a")):
        RUN_VERBS.add(applause(placement="menu", page=page))
        try:
            shown = html(user_client.get(run.get_absolute_url()))
        finally:
            RUN_VERBS.remove("applaud")
        menu = shown[shown.index('id="run-menu"') :]
        assert re.search(rf'<{element} class="menu-item" id="menu-applaud"', menu)


def test_it_is_not_offered_or_done_without_its_permission(
    registered: RunVerb, client: Client, other_user: User, make: MAKE
) -> None:
    run = make("completed")
    client.force_login(other_user)
    assert "applaud" not in html(client.get(run.get_absolute_url()))
    assert client.post(reverse("run_control", args=[run.pk, "applaud"])).status_code == 403
    problem(api_of(other_user).post(f"training/{run.pk}/control", {"action": "applaud"}), 403)
    assert not AuditEntry.objects.filter(verb="applaud").exists()


def test_it_is_an_action_of_the_api_and_its_document(registered: RunVerb, user: User, make: MAKE) -> None:
    run = make("completed")
    body = api_of(user).post(f"training/{run.pk}/control", {"action": "applaud"}).json()
    assert (body["action"], body["run"]["id"]) == ("applaud", run.pk)
    entry = AuditEntry.objects.get(verb="applaud")
    assert (entry.username, entry.source) == ("ada", "api")
    problem(api_of(user).post(f"training/{make('queued').pk}/control", {"action": "applaud"}), 409, "not-possible")
    described = actions_of_the_document()
    assert "applaud" in described["enum"]
    assert "Applaud completed runs." in described["description"]


def test_it_is_a_subcommand(registered: RunVerb, make: MAKE) -> None:
    output, run = StringIO(), make("completed")
    call_command("train", "applaud", str(run.pk), stdout=output)
    assert "is completed" in output.getvalue()
    assert AuditEntry.objects.get(verb="applaud").source == "command"
    with pytest.raises(CommandError, match="Only completed runs"):
        call_command("train", "applaud", str(make("queued").pk), stdout=output)


def test_it_is_an_action_of_the_admin(registered: RunVerb, staff_client: Client, make: MAKE) -> None:
    run = make("completed", name="first")
    address = reverse("admin:trainingapp_trainingrun_changelist")
    assert '<option value="applaud">Applaud</option>' in html(staff_client.get(address))
    data = {"action": "applaud", "_selected_action": [run.pk]}
    assert "Applaud" in html(staff_client.post(address, data))
    assert "“first” was applauded." in html(staff_client.post(address, {**data, "confirmed": "yes"}, follow=True))
    assert AuditEntry.objects.get(verb="applaud").source == "admin"


def test_the_audit_trail_shows_its_label(
    registered: RunVerb, user_client: Client, staff_client: Client, make: MAKE
) -> None:
    run = make("completed")
    user_client.post(reverse("run_control", args=[run.pk, "applaud"]))
    page = html(user_client.get(reverse("run_activity", args=[run.pk])))
    assert re.search(r"ada</strong>\s+applauded", page)
    trail = html(staff_client.get(reverse("audit"), {"verb": "applaud"}))
    assert '<option value="applaud" selected>applauded</option>' in trail


def test_the_documents_and_the_role_tests_list_it(registered: RunVerb) -> None:
    script = runpy.run_path(str(REPOSITORY / "docs" / "make_permissions_table.py"))
    row = "| applaud | control | Applaud completed runs. | button | control: applaud | train applaud | applaud |"
    document = (REPOSITORY / "docs" / "permissions.md").read_text()
    assert f"{row}\n" in script["with_tables"]("permissions.md", document)
    assert "| `applaud` | Applaud completed runs. |" in script["action_table"]()
    assert any(line.args(World()) == [7, "applaud"] and line.verb == "control" for line in run_verb_lines())
    assert control_calls()["control_run: applaud"][1:] == ("control", {"action": "applaud"})


class World:
    """Replaces the world of the role tests, of which a line needs only the number of the run."""

    class Run:
        pk = 7

    run = Run()


def test_a_parameter_is_an_option_and_a_field(user: User, staff_client: Client, make: MAKE) -> None:
    def rate(run: TrainingRun, *, by: str = "", stars: int) -> TrainingRun:
        audit.record("applaud", run, by=by, details={"stars": stars})
        return run

    stars = Parameter(name="stars", kind="number", label="Stars", help="stars.", is_required=True, most=5, example=3)
    RUN_VERBS.add(applause(function=rate, parameters=(stars,), page=lambda run: "/applause/"))
    try:
        run = make("completed")
        call_command("train", "applaud", str(run.pk), "4", stdout=StringIO())
        data = {"action": "applaud", "_selected_action": [run.pk], "confirmed": "yes"}
        address = reverse("admin:trainingapp_trainingrun_changelist")
        assert "less than or equal to 5" in html(staff_client.post(address, {**data, "stars": "6"}))
        staff_client.post(address, {**data, "stars": "5"})
        missing = problem(api_of(user).post(f"training/{run.pk}/control", {"action": "applaud"}), 422)
        assert missing["errors"][0]["pointer"] == "#/stars"
    finally:
        RUN_VERBS.remove("applaud")
    assert [entry.details["stars"] for entry in AuditEntry.objects.filter(verb="applaud").order_by("pk")] == [4, 5]


def test_after_removal_it_is_offered_nowhere(registered: RunVerb, user: User, user_client: Client, make: MAKE) -> None:
    run = make("completed")
    address = reverse("run_control", args=[run.pk, "applaud"])
    RUN_VERBS.remove("applaud")
    try:
        assert "applaud" not in html(user_client.get(run.get_absolute_url()))
        with pytest.raises(Resolver404):
            resolve(address)
        problem(api_of(user).post(f"training/{run.pk}/control", {"action": "applaud"}), 422)
        with pytest.raises(CommandError, match="invalid choice"):
            call_command("train", "applaud", str(run.pk))
        assert "applaud" not in audit.VERBS
        assert "applaud" not in actions_of_the_document()["enum"]
    finally:
        RUN_VERBS.add(registered)


def test_names_are_unique(registered: RunVerb) -> None:
    with pytest.raises(ValueError, match="applaud"):
        RUN_VERBS.add(applause())


def test_the_permissions_are_those_that_were_decided() -> None:
    assert {verb.name: verb.permission for verb in RUN_VERBS if verb.name in PERMISSIONS} == PERMISSIONS


@pytest.mark.parametrize("verb", list(RUN_VERBS), ids=lambda verb: verb.name)
def test_every_record_is_complete(verb: RunVerb, make: MAKE) -> None:
    assert verb.help.endswith(".")
    assert verb.audit_verb in audit.VERBS or (verb.name, verb.audit_verb) == ("preview", ""), "it is not recorded"
    if verb.placement != "elsewhere":
        assert verb.icon
        assert verb.url(make("completed")).startswith("/")
    if verb.admin_action:
        assert "%(name)s" in str(verb.done)
    if verb.posts:
        assert verb.already or verb.accepted


@pytest.mark.parametrize("visibility", ["everybody", "team", "private"])
def test_the_role_matrices_of_pages_api_and_admin_enforce_its_permission(
    registered: RunVerb, visibility: str, tmp_path: Path, settings: Any
) -> None:
    settings.JOBS_DIR = tmp_path / "jobs"
    world = make_world(visibility)
    TrainingRun.objects.filter(pk=world.run.pk).update(status="completed")
    line = next(each for each in run_verb_lines() if each.args(world)[1] == "applaud")
    expected = {who: line.expected(who, visibility) for who in PEOPLE}
    assert outcomes(line, world, visibility) == expected
    path, _verb, body = control_calls()["control_run: applaud"]
    statuses = {LOGIN: 401, FORBIDDEN: 403, NOT_FOUND: 404, line.ok: 200}
    for who in PEOPLE:
        api = api_of(world.people[who]) if who in world.people else Api()
        assert api.post(path.format(run=world.run.pk), body).status_code == statuses[expected[who]], who
    people = {**world.people, "superuser": User.objects.create_superuser("superuser")}
    assert performers(registered, world.run, people, visibility) == permitted(registered, visibility)


#: Verbs with forms and operations of their own -> the route of the form, and its method.
OWN_ROUTES = {
    "edit": ("run_edit", "get"),
    "share": ("run_share", "post"),
    "delete": ("run_delete", "get"),
    "force_stop": ("run_force_stop", "get"),
    "epochs": ("run_epochs", "get"),
    "move": ("queue_move", "post"),
    "priority": ("queue_priority", "post"),
    "fork": ("run_fork", "get"),
    "create": ("run_new", "get"),
    "check": ("preflight_start", "post"),
    "preview": ("batch_preview_start", "post"),
}
#: The same verbs -> their operation in the API: method, path below the run, body.
OWN_OPERATIONS: dict[str, tuple[str, str, Any]] = {
    "edit": ("put", "training/{run}", {"priority": 3}),
    "share": ("post", "training/{run}/share", {"visibility": "everybody"}),
    "delete": ("delete", "training/{run}", None),
    "move": ("post", "queue/move", {"run": "{run}", "to": "first"}),
    "create": ("post", "training/", {"name": "x", "dataset": 1}),
    "check": ("post", "training/check", {"dataset": 1}),
}


def replaced(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    """For the rest of the test, a record with these changes replaces that of the verb."""
    monkeypatch.setitem(RUN_VERBS._verbs, name, replace(RUN_VERBS[name], **changes))


@pytest.mark.parametrize("name", OWN_ROUTES)
def test_a_form_of_its_own_requires_the_permission_of_the_record(
    name: str, user_client: Client, make: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make("queued")
    route, method = OWN_ROUTES[name]
    address = reverse(route, args=[run.pk] if RUN_VERBS[name].permission != Verb.CREATE or name == "fork" else [])
    assert getattr(user_client, method)(address).status_code != 403
    replaced(monkeypatch, name, permission=Verb.ADMINISTER)
    monkeypatch.setitem(TABLE, Verb.ADMINISTER, dict.fromkeys(Relation, Role.ADMINISTRATOR))
    assert getattr(user_client, method)(address).status_code == 403


@pytest.mark.parametrize("name", OWN_OPERATIONS)
def test_an_operation_of_its_own_requires_the_permission_of_the_record(
    name: str, user: User, make: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make("queued")
    method, path, body = OWN_OPERATIONS[name]
    arguments = [path.format(run=run.pk)]
    if body is not None:
        arguments.append({key: run.pk if value == "{run}" else value for key, value in body.items()})
    headers = {"If-Match": "*"} if method == "put" else {}
    api = api_of(user)
    assert getattr(api, method)(*arguments, **headers).status_code != 403
    replaced(monkeypatch, name, permission=Verb.ADMINISTER)
    monkeypatch.setitem(TABLE, Verb.ADMINISTER, dict.fromkeys(Relation, Role.ADMINISTRATOR))
    problem(getattr(api, method)(*arguments, **headers), 403)


@pytest.mark.parametrize("name", ["edit", "epochs", "fork", "create", "check", "preview", "priority"])
def test_a_form_of_its_own_shows_the_label_of_the_record(
    name: str, user_client: Client, make: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make("queued")
    pages = {"edit": "run_edit", "epochs": "run_epochs", "fork": "run_fork", "priority": "queue"}
    route = pages.get(name, "run_new")
    address = reverse(route, args=[run.pk] if name in ("edit", "epochs", "fork") else [])
    assert "Applaud the run" not in html(user_client.get(address))
    replaced(monkeypatch, name, label="Applaud the run")
    assert "Applaud the run" in html(user_client.get(address))


@pytest.mark.parametrize("verb", [verb for verb in RUN_VERBS if verb.own_command], ids=lambda verb: verb.name)
def test_a_command_of_its_own_has_the_help_of_the_record(verb: RunVerb) -> None:
    name, subcommand = verb.own_command.split()
    parser = load_command_class("trainingapp", name).create_parser("manage.py", name)
    subparsers = next(each for each in parser._actions if isinstance(each, _SubParsersAction))
    assert {each.dest: each.help for each in subparsers._choices_actions}[subcommand] == verb.help


@pytest.mark.parametrize("verb", [verb for verb in RUN_VERBS if verb.api_operation], ids=lambda verb: verb.name)
def test_an_operation_of_its_own_is_in_the_document(verb: RunVerb) -> None:
    operations = schema_of(studio_api)["paths"].values()
    assert verb.api_operation in {each["operationId"] for methods in operations for each in methods.values()}
