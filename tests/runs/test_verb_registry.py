"""A run verb is registered in one place and found in pages, API, command line, admin, audit trail and documents."""

import re
import runpy
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import Resolver404, resolve, reverse

from tests.api.conftest import api_of, problem
from tests.api.test_roles import control_calls
from tests.views.test_roles import run_verb_lines
from trainingapp.accounts import audit
from trainingapp.accounts.permissions import Verb
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
    "edit": Verb.CHANGE,
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
    page = html(user_client.get(run.get_absolute_url()))
    assert re.search(r"ada</strong>\s+applauded", page)
    trail = html(staff_client.get(reverse("audit"), {"verb": "applaud"}))
    assert '<option value="applaud" selected>applauded</option>' in trail


def test_the_documents_and_the_role_tests_list_it(registered: RunVerb) -> None:
    script = runpy.run_path(str(REPOSITORY / "docs" / "make_permissions_table.py"))
    row = "| applaud | control | Applaud completed runs. | button | control: applaud | train applaud | applaud |"
    assert row in script["verb_table"]()
    assert "| `applaud` | Applaud completed runs. |" in script["action_table"]()
    assert any(line.args(World()) == [7, "applaud"] and line.verb == "control" for line in run_verb_lines())
    assert control_calls()["control_run: applaud"][1:] == ("control", {"action": "applaud"})


class World:
    """Stands in for the world of the role tests, which a line asks for the number of its run alone."""

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


def test_once_removed_it_is_nowhere(registered: RunVerb, user: User, user_client: Client, make: MAKE) -> None:
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


def test_a_name_is_taken_once(registered: RunVerb) -> None:
    with pytest.raises(ValueError, match="applaud"):
        RUN_VERBS.add(applause())


def test_the_permissions_are_those_that_were_decided() -> None:
    assert {verb.name: verb.permission for verb in RUN_VERBS if verb.name in PERMISSIONS} == PERMISSIONS


@pytest.mark.parametrize("verb", list(RUN_VERBS), ids=lambda verb: verb.name)
def test_every_record_is_complete(verb: RunVerb, make: MAKE) -> None:
    assert verb.help.endswith(".")
    assert verb.audit_verb in audit.VERBS or verb.name == "preview", "a preview is not recorded"
    if verb.placement != "elsewhere":
        assert verb.icon
        assert verb.url(make("completed")).startswith("/")
    if verb.admin_action:
        assert "%(name)s" in str(verb.done)
    if verb.posts:
        assert verb.already or verb.accepted
