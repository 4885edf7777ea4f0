"""The admin: every model, read-only state, verbs as actions."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.apps import apps
from django.contrib import admin as django_admin
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from tests.helpers.machines import machine
from tests.helpers.sources import two_classes, write_tree
from tests.helpers.stored import stored
from trainingapp.datasets.importing.importer import run_import
from trainingapp.models import (
    ApiToken,
    AuditEntry,
    Checkpoint,
    Dataset,
    Device,
    DeviceHold,
    FailureRule,
    Forecast,
    Job,
    JournalEntry,
    Tag,
    Team,
    TrainingRun,
)
from trainingapp.runs.verb_registry import RUN_VERBS

pytestmark = pytest.mark.database

MODELS = list(apps.get_app_config("trainingapp").get_models())
OTHERS = [User, Group, AccessAttempt]
#: What administrators write by form; everything else is written by the studio and its verbs.
BY_FORM = {Team, FailureRule, Tag}

LONG = pytest.mark.long


def address(model: Any, page: str, *arguments: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=arguments)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_list_that_can_be_searched(staff_client: Client, run: TrainingRun, model: Any) -> None:
    assert staff_client.get(address(model, "changelist"), {"q": "try"}).status_code == 200


@pytest.mark.parametrize("model", [*MODELS, *OTHERS])
def test_every_model_has_search_filters_columns_and_a_page(
    staff_client: Client, rows: dict[Any, Any], model: Any
) -> None:
    model_admin = django_admin.site._registry[model]
    assert model_admin.search_fields
    assert model_admin.list_filter or model is Group
    assert len(model_admin.list_display) > 1
    listed = staff_client.get(address(model, "changelist"))
    assert listed.context["cl"].result_count >= 1
    page = staff_client.get(address(model, "change", rows[model].pk))
    assert page.status_code == 200
    for response in (listed, page):
        html = response.content.decode()
        assert "css/admin.css" in html
        assert "css/tokens.css" in html
        for inline in (" style=", "<style", " onclick=", "javascript:", "<script>"):
            assert inline not in html, inline


def value_for(field: Any) -> str:
    """A value that differs from the stored one, as a forged form would send it."""
    if field.choices:
        return str(field.choices[-1][0])
    kinds = {"BooleanField": "on", "JSONField": "[1]", "DateTimeField": "2001-01-01", "ForeignKey": "1"}
    return kinds.get(field.get_internal_type(), "9")


@pytest.mark.parametrize("model", [model for model in MODELS if model not in BY_FORM])
def test_forms_cannot_change_state(staff_client: Client, rows: dict[Any, Any], model: Any) -> None:
    row = rows[model]
    may_change = set(django_admin.site._registry[model].editable)
    assert may_change <= {"name", "priority", "is_shareable"}
    fields = [field for field in model._meta.concrete_fields if field.name not in may_change]
    stored = model.objects.filter(pk=row.pk).values(*(field.name for field in fields))
    before = stored.get()
    forged = {field.name: value_for(field) for field in fields}
    forged |= {f"{field.name}_{part}": value_for(field) for field in fields for part in ("0", "1")}
    for sent in (forged, forged | {"name": "other", "priority": "3"}):
        assert staff_client.post(address(model, "change", row.pk), sent).status_code in (200, 302, 403)
    counted = ("updated_at", "version")  # a change of the name is a change
    after = stored.get()
    assert {name: after[name] for name in after if name not in counted} == {
        name: before[name] for name in before if name not in counted
    }


@pytest.mark.parametrize("model", [model for model in MODELS if model not in BY_FORM])
def test_forms_cannot_add_or_delete_rows(staff_client: Client, rows: dict[Any, Any], model: Any) -> None:
    assert staff_client.get(address(model, "add")).status_code == 403
    assert staff_client.post(address(model, "add"), {}).status_code == 403
    row = rows[model]
    assert staff_client.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    staff_client.post(address(model, "changelist"), {"action": "delete_selected", "_selected_action": [row.pk]})
    assert model.objects.filter(pk=row.pk).exists()


def admin_routes() -> list[str]:
    """The addresses of the admin that need no argument, and those of row 1."""
    found = []
    for model in django_admin.site._registry:
        found += [address(model, "changelist"), address(model, "add"), address(model, "change", 1)]
    names = ("index", "password_change", "jsi18n", "autocomplete")
    return [*found, *(reverse(f"admin:{name}") for name in names), "/admin/trainingapp/", "/admin/nothing/"]


@pytest.mark.django_db
@pytest.mark.parametrize("group", [pytest.param("", marks=LONG), pytest.param("viewer", marks=LONG), "operator"])
def test_the_admin_is_for_administrators_only(client: Client, group: str) -> None:
    person = User.objects.create_user("p")
    if group:
        person.groups.add(Group.objects.get_or_create(name=group)[0])
    for route in admin_routes():
        assert client.get(route).status_code == 302, route
        assert client.post(route).status_code == 302, route
    client.force_login(person)
    for route in admin_routes():
        assert client.post(route).status_code == 302, route
        response = client.get(route, follow=True)
        assert response.request["PATH_INFO"] == reverse("run_list"), route
        assert "Administrators" not in response.content.decode()


def boss(db: None) -> Client:
    person = User.objects.create_user("boss")
    person.groups.add(Group.objects.get_or_create(name="administrator")[0])
    client = Client()
    client.force_login(person)
    return client


@pytest.mark.django_db
def test_the_group_of_administrators_suffices() -> None:
    client = boss(None)
    assert client.get("/admin/").status_code == 200
    for model in django_admin.site._registry:
        assert client.get(address(model, "changelist")).status_code == 200


def test_an_administrator_can_neither_create_nor_change_superusers(admin: User, user: User) -> None:
    client = boss(None)
    assert client.get(address(User, "change", admin.pk)).context["has_change_permission"] is False
    assert client.post(reverse("admin:auth_user_password_change", args=[admin.pk]), {}).status_code == 403
    data = {"username": "ada", "is_active": "on", "is_superuser": "on", "user_permissions": ["1"]}
    assert client.post(address(User, "change", user.pk), data).status_code == 302
    user.refresh_from_db()
    assert not user.is_superuser
    assert not user.user_permissions.exists()


def test_a_new_role_is_recorded(staff_client: Client, user: User) -> None:
    viewer = Group.objects.get_or_create(name="viewer")[0]
    data = {"username": "ada", "is_active": "on", "groups": [viewer.pk]}
    assert staff_client.post(address(User, "change", user.pk), data).status_code == 302
    entry = AuditEntry.objects.get(verb="role")
    assert (entry.username, entry.kind, entry.object_name) == ("root", "user", "ada")
    assert (entry.source, entry.details) == ("admin", {"from": "operator", "to": "viewer"})


def test_a_password_set_by_an_administrator_is_recorded(staff_client: Client, user: User) -> None:
    data = {"usable_password": "true", "password1": "purple engine 9", "password2": "purple engine 9"}
    staff_client.post(reverse("admin:auth_user_password_change", args=[user.pk]), data)
    user.refresh_from_db()
    assert user.check_password("purple engine 9")
    assert AuditEntry.objects.filter(verb="password", object_name="ada").count() == 1


def test_the_groups_of_roles_cannot_be_changed(staff_client: Client) -> None:
    viewer = Group.objects.get_or_create(name="viewer")[0]
    assert staff_client.post(address(Group, "delete", viewer.pk), {"post": "yes"}).status_code == 403
    assert staff_client.post(address(Group, "change", viewer.pk), {"name": "king"}).status_code == 403
    assert Group.objects.filter(name="viewer").exists()


def test_teams_are_created_and_recorded(staff_client: Client, user: User) -> None:
    staff_client.post(address(Team, "add"), {"name": "birds", "members": [user.pk]})
    team = Team.objects.get()
    assert list(team.members.all()) == [user]
    staff_client.post(address(Team, "delete", team.pk), {"post": "yes"})
    assert list(AuditEntry.objects.filter(kind="team").order_by("pk").values_list("verb", flat=True)) == [
        "create",
        "delete",
    ]


def test_a_rule_with_an_invalid_pattern_is_refused(staff_client: Client) -> None:
    data = {"name": "x", "pattern": "(", "error_class": "x", "action": "fail", "max_retries": 1, "wait_s": 1}
    page = staff_client.post(address(FailureRule, "add"), {**data, "order": 1})
    assert "This is not a regular expression" in page.content.decode()
    staff_client.post(address(FailureRule, "add"), {**data, "order": 1, "pattern": "No space"})
    assert FailureRule.objects.get().pattern == "No space"


def test_a_token_is_revoked_once_and_its_hash_is_never_shown(staff_client: Client, rows: dict[Any, Any]) -> None:
    token = rows[ApiToken]
    for page in (address(ApiToken, "changelist"), address(ApiToken, "change", token.pk)):
        assert token.digest not in staff_client.get(page).content.decode()
    assert "was revoked." in act(staff_client, ApiToken, "revoke", token)
    assert "is already revoked." in act(staff_client, ApiToken, "revoke", token)
    token.refresh_from_db()
    assert not token.is_usable
    assert AuditEntry.objects.filter(verb="token_revoke", kind="token").count() == 1


def test_a_locked_sign_in_is_unlocked(staff_client: Client, client: Client, user: User, settings: Any) -> None:
    for _number in range(settings.AXES_FAILURE_LIMIT):
        client.post("/login/", {"username": "ada", "password": "wrong"})
    right = {"username": "ada", "password": "correct horse"}
    assert client.post("/login/", right).status_code == 429
    act(staff_client, AccessAttempt, "unlock", AccessAttempt._default_manager.get())
    assert client.post("/login/", right).status_code == 302
    assert AuditEntry.objects.get(verb="unlock").details["username"] == "ada"


def test_a_job_is_cancelled(staff_client: Client, rows: dict[Any, Any]) -> None:
    act(staff_client, Job, "cancel", rows[Job])
    assert Job.objects.get().state == "cancelled"


def test_an_action_asks_for_confirmation(staff_client: Client, make: Callable[..., TrainingRun]) -> None:
    run = make(name="first")
    data = {"action": "delete_with_files", "_selected_action": [run.pk]}
    page = staff_client.post(address(TrainingRun, "changelist"), data)
    html = page.content.decode()
    assert "permanently" in html
    assert "first" in html
    assert 'name="confirmed"' in html
    assert TrainingRun.objects.exists()


def ask(client: Client, model: Any, action: str, *rows: Any) -> str:
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    page = str(client.post(address(model, "changelist"), data).content.decode())
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page)).replace("\xa0", " ")


def test_deletion_distinguishes_runs_of_one_name_and_shows_their_sizes(
    staff_client: Client, make: Callable[..., TrainingRun]
) -> None:
    small, large = make(name="twin"), make(name="twin", status="completed")
    for run, count in ((small, 1), (large, 3)):
        run.folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (run.folder / f"{number}.bin").write_bytes(bytes(1500))
    text = ask(staff_client, TrainingRun, "delete_with_files", small, large)
    assert f"twin #{small.pk} · ada · Not started · 1 file, 1.5 KB (1,500 bytes)" in text
    assert f"twin #{large.pk} · ada · Completed · 3 files, 4.4 KB (4,500 bytes)" in text
    assert f"twin #{small.pk} · ada · Not started" in ask(staff_client, TrainingRun, "start", small)


def test_deletion_shows_the_sizes_of_datasets_and_checkpoints(
    staff_client: Client, tints: Dataset, rows: dict[Any, Any]
) -> None:
    text = ask(staff_client, Dataset, "delete_with_files", tints)
    assert re.search(r"tints \d+ files, [\d.]+ .B \([\d,]+ bytes\)", text)
    checkpoint = rows[Checkpoint]
    text = ask(staff_client, Checkpoint, "remove", checkpoint)
    assert f"{checkpoint} {checkpoint.run.name} · frees " in text


def test_a_dataset_shows_how_its_source_was_read(staff_client: Client, tints: Dataset, tmp_path: Path) -> None:
    tree = {**two_classes(prefix="train/"), **two_classes(prefix="val/")}
    dataset = Dataset.objects.create(name="read", owner=tints.owner, source=str(write_tree(tmp_path / "read", tree)))
    run_import(dataset)
    page = staff_client.get(address(Dataset, "change", dataset.pk)).content.decode()
    assert "<p>The splits come from the names of the folders: train, val.</p>" in page
    assert re.search(r"<p>Splits: [^<]+</p>", page)


def test_a_dataset_shows_its_images(staff_client: Client, tints: Dataset) -> None:
    page = staff_client.get(address(Dataset, "change", tints.pk)).content.decode()
    assert page.count('class="thumbnail"') == 12
    listed = staff_client.get(address(Dataset, "changelist")).content.decode()
    assert listed.count('class="thumbnail"') == 1
    source = re.findall(r'class="thumbnail" src="([^"]+)"', listed)[0]
    assert staff_client.get(source).status_code == 200


def test_rows_link_to_each_other_and_to_the_pages(staff_client: Client, rows: dict[Any, Any]) -> None:
    run = rows[TrainingRun]
    page = staff_client.get(address(TrainingRun, "change", run.pk)).content.decode()
    for target in (run.get_absolute_url(), address(Dataset, "change", run.dataset_id), f"?run__id__exact={run.pk}"):
        assert target in page
    for model in (Checkpoint, JournalEntry, Forecast, DeviceHold):
        assert address(TrainingRun, "change", run.pk) in staff_client.get(address(model, "changelist")).content.decode()


def test_a_form_changes_only_name_and_priority(staff_client: Client, run: TrainingRun) -> None:
    page = address(TrainingRun, "change", run.pk)
    assert staff_client.get(page).status_code == 200
    staff_client.post(page, {"name": "renamed", "priority": "7", "status": "completed", "attempt": "9", "config": "{}"})
    before = dict(run.config)
    run.refresh_from_db()
    assert (run.name, run.priority, run.status, run.attempt, run.config) == ("renamed", 7, "pending", 0, before)


def act(client: Client, model: Any, action: str, *rows: Any, **said: Any) -> str:
    data = {"action": action, "_selected_action": [row.pk for row in rows], "confirmed": "yes", **said}
    return str(client.post(address(model, "changelist"), data, follow=True).content.decode())


def test_verbs_are_actions_with_a_message_for_each_run(staff_client: Client, make: Callable[..., TrainingRun]) -> None:
    possible, impossible = make(name="first"), make(status="completed", name="second")
    page = act(staff_client, TrainingRun, "start", possible, impossible)
    possible.refresh_from_db()
    assert possible.status == "queued"
    assert "“first” was queued." in page
    assert "“second” is completed and cannot be started" in page


def test_every_verb_with_an_action_is_offered_to_administrators_only(
    staff_client: Client, user_client: Client, run: TrainingRun
) -> None:
    list_page = address(TrainingRun, "changelist")
    offered = re.findall(r'<option value="(\w+)">', staff_client.get(list_page).content.decode())
    assert set(RUN_VERBS.admin_actions()) <= set(offered)
    assert user_client.get(list_page).status_code == 302


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("pause", "queued", "paused"),
        ("resume", "paused", "queued"),
        ("stop", "paused", "stopped"),
        ("force_stop", "queued", "stopped"),
    ],
)
def test_each_verb(
    staff_client: Client, make: Callable[..., TrainingRun], action: str, before: str, after: str
) -> None:
    run = make(status=before)
    act(staff_client, TrainingRun, action, run)
    run.refresh_from_db()
    assert run.status == after


def test_the_action_asks_for_the_epochs(staff_client: Client, make: Callable[..., TrainingRun]) -> None:
    run = make(status="stopped")
    asked = act(staff_client, TrainingRun, "extend", run)
    assert 'name="epochs"' in asked
    assert "This field is required." in asked
    assert "The total epochs of" in act(staff_client, TrainingRun, "extend", run, epochs=77)
    run.refresh_from_db()
    assert (run.total_epochs, run.config["epochs"]) == (77, 77)


def test_a_clone_belongs_to_the_user_who_cloned(staff_client: Client, admin: User, run: TrainingRun) -> None:
    act(staff_client, TrainingRun, "clone", run)
    copy = TrainingRun.objects.get(forked_from=run)
    assert (copy.owner, copy.status, copy.config) == (admin, "pending", run.config)


def test_checkpoints_are_pinned_verified_forked_and_deleted(
    staff_client: Client, admin: User, run: TrainingRun
) -> None:
    stored(run)
    TrainingRun.objects.filter(pk=run.pk).update(status="stopped")
    first, second = run.checkpoints.order_by("step")[:2]
    act(staff_client, Checkpoint, "keep", first)
    assert run.checkpoints.get(file=first.file).is_pinned
    act(staff_client, Checkpoint, "release", first)
    assert not run.checkpoints.get(file=first.file).is_pinned
    assert "is valid" in act(staff_client, Checkpoint, "verify", first)
    act(staff_client, Checkpoint, "fork", first, mode="weights")
    branch = TrainingRun.objects.get(forked_from=run)
    assert (branch.owner, branch.config["start_from"]) == (admin, f"run/{run.pk}/{first.file}")
    act(staff_client, Checkpoint, "remove", second)
    assert not second.path.exists()
    first.path.write_bytes(b"rotten")
    assert "is valid" not in act(staff_client, Checkpoint, "verify", first)
    assert run.checkpoints.get(file=first.file).damage


def test_deletion_includes_the_files(staff_client: Client, run: TrainingRun) -> None:
    run.folder.mkdir(parents=True)
    act(staff_client, TrainingRun, "delete_with_files", run)
    assert not TrainingRun.objects.exists()
    assert not run.folder.exists()


def test_of_a_gpu_only_its_sharing_can_be_changed(staff_client: Client) -> None:
    device = machine(gpus=1).devices.get(kind="gpu")
    page = address(Device, "change", device.pk)
    assert staff_client.get(page).status_code == 200
    staff_client.post(page, {"is_present": "", "memory_bytes": "1"})
    before = device.memory_bytes
    device.refresh_from_db()
    assert (device.is_shareable, device.is_present, device.memory_bytes) == (False, True, before)
    entry = AuditEntry.objects.get(kind="device")
    assert (entry.username, entry.verb, entry.source, entry.details) == (
        "root",
        "change",
        "admin",
        {"fields": ["is_shareable"]},
    )


def test_the_admin_refuses_other_users(user_client: Client) -> None:
    assert user_client.get(address(TrainingRun, "changelist")).status_code == 302


RULE = {"name": "fan", "pattern": "fan .* stopped", "error_class": "fan", "action": "retry", "max_retries": "2"}
RULE |= {"wait_s": "60", "advice": "Clean the fan.", "order": "1", "is_enabled": "on"}


def test_an_administrator_adds_a_rule_for_failures(staff_client: Client) -> None:
    staff_client.post(address(FailureRule, "add"), RULE)
    assert FailureRule.objects.get().advice == "Clean the fan."
    page = staff_client.get(address(FailureRule, "changelist")).content.decode()
    assert "fan .* stopped" in page
    assert "out_of_memory" in page, "the built-in rules are shown beside"
    assert "CUDA(?: driver)? error" in page


@pytest.mark.parametrize(("pattern", "words"), [("fan (", "not a regular expression"), ("x*", "every failure")])
def test_a_pattern_that_cannot_be_used_is_refused_at_its_field(staff_client: Client, pattern: str, words: str) -> None:
    response = staff_client.post(address(FailureRule, "add"), {**RULE, "pattern": pattern})
    assert words in str(response.context["adminform"].form.errors["pattern"])
    assert not FailureRule.objects.exists()


def test_rules_are_for_administrators(user_client: Client) -> None:
    assert user_client.post(address(FailureRule, "add"), RULE).status_code == 302
    assert not FailureRule.objects.exists()
