"""The status of every address: one line for each route and method, for every role, with objects of other users.

`LINES` is the table. A route of trainingapp/views/urls/ without a line fails `test_every_route_has_a_line`. To add one,
name the route, the method, the verb of permissions.py that it requires, the kind of object, and the status that an
allowed user gets; `args`, `data` and `prepare` make it a request that can succeed. Lines of run verbs are derived. What
each user may is written out here by hand, so that a change of permissions.py alone is noticed.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet
from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone
from PIL import Image

from tests.helpers.evaluations import annotated, evaluated
from tests.helpers.jobs import working_on
from tests.helpers.library import make_entry
from tests.helpers.once import world_fixtures
from tests.helpers.sweeps import make_sweep
from tests.helpers.tiny import board_of, make_dataset, make_run
from tests.helpers.world import store_events
from trainingapp.accounts import tokens as token_verbs
from trainingapp.accounts.notifications.webhooks import WebhookValues, create_webhook
from trainingapp.contract.config import config_fields
from trainingapp.contract.messages.jobs_and_models import IMPORTING_IMAGES
from trainingapp.models import (
    ApiToken,
    Checkpoint,
    Dataset,
    Device,
    Host,
    Job,
    Notification,
    Occurrence,
    SavedView,
    Sweep,
    Team,
    TrainingRun,
    Webhook,
    Weights,
)
from trainingapp.runs.organizing import save_view
from trainingapp.runs.series_files import has_parquet
from trainingapp.runs.sweeps.verb_registry import SWEEP_VERBS
from trainingapp.runs.verb_registry import RUN_VERBS

LOGIN, FORBIDDEN, NOT_FOUND = "login", 403, 404

#: The users. Those of the team are members of the team that objects are shared with.
PEOPLE: dict[str, dict[str, Any]] = {
    "anonymous": {},
    "viewer": {"group": "viewer"},
    "operator": {},
    "viewer of the team": {"group": "viewer", "team": True},
    "team mate": {"group": "operator", "team": True},
    "owner": {"team": True},
    "administrator": {"group": "administrator"},
}
EVERYBODY = set(PEOPLE) - {"anonymous"}
SEES = {
    "everybody": EVERYBODY,
    "team": {"viewer of the team", "team mate", "owner", "administrator"},
    "private": {"owner", "administrator"},
}
OWN = {"owner", "administrator"}
#: verb -> roles that may, of those that see the object; the team counts only where it is shared with the team.
MAY: dict[str, Callable[[str], set[str]]] = {
    "see": lambda visibility: EVERYBODY,
    "download": lambda visibility: EVERYBODY,
    "control": lambda visibility: OWN | ({"team mate"} if visibility == "team" else set()),
    "change": lambda visibility: OWN | ({"team mate"} if visibility == "team" else set()),
    "share": lambda visibility: OWN,
    "delete": lambda visibility: OWN,
    "use": lambda visibility: {"operator", "team mate", "owner", "administrator"},
    "create": lambda visibility: {"operator", "team mate", "owner", "administrator"},
    "administer": lambda visibility: {"administrator"},
}


@dataclass
class World:
    """The objects of one owner, and the users who request them."""

    people: dict[str, User]
    team: Team
    dataset: Dataset
    run: TrainingRun
    job: Job
    weights: Weights
    predicted: Job
    sweep: Sweep


@dataclass(frozen=True)
class Line:
    """A request: its route and method, its data, and the status for an allowed user."""

    route: str
    method: str = "get"
    #: A verb of permissions.py; "" for every signed-in user, "open" for every visitor.
    verb: str = "see"
    #: run or dataset (shared), job (its owner's and administrators'), token (its owner's), "" for none.
    thing: str = ""
    ok: int = 200
    args: Callable[[World], list[Any]] = lambda world: []
    data: Callable[[World], dict[str, Any]] = lambda world: {}
    prepare: Callable[[World], Any] = lambda world: None

    def __str__(self) -> str:
        return f"{self.method} {self.route}"

    def address(self, world: World) -> str:
        return reverse(self.route, args=self.args(world))

    def expected(self, who: str, visibility: str) -> int | str:
        """The status that `who` gets, or LOGIN."""
        if self.verb == "open":
            return self.ok
        if who == "anonymous":
            return LOGIN
        if self.thing == "token":
            return self.ok if who == "owner" else NOT_FOUND
        if self.thing == "job":
            return self.ok if who in OWN else NOT_FOUND
        if self.thing and who not in SEES[visibility]:
            return NOT_FOUND
        return self.ok if not self.verb or who in MAY[self.verb](visibility) else FORBIDDEN


def run_line(route: str, *more: Any, **fields: Any) -> Line:
    return Line(route, thing="run", args=lambda world: [world.run.pk, *more], **fields)


def dataset_line(route: str, *more: Any, **fields: Any) -> Line:
    return Line(route, thing="dataset", args=lambda world: [world.dataset.pk, *more], **fields)


def weights_line(route: str, **fields: Any) -> Line:
    return Line(route, thing="weights", args=lambda world: [world.weights.pk], **fields)


def sweep_line(route: str, *more: Any, **fields: Any) -> Line:
    return Line(route, thing="sweep", args=lambda world: [world.sweep.pk, *more], **fields)


def webhook_line(route: str, **fields: Any) -> Line:
    return Line(route, thing="token", args=lambda world: [webhook_of_owner(world).pk], **fields)


def token_of_owner(world: World) -> ApiToken:
    return token_verbs.create_token(world.people["owner"], name="laptop", scopes=["read"])[0]


def view_of_owner(world: World) -> SavedView:
    return save_view(world.people["owner"], "mine", "sort=name")


WEBHOOK = {"name": "chat", "url": "https://hooks.example.org/a", "format": "json", "language": "en", "is_enabled": "on"}


def webhook_of_owner(world: World) -> Webhook:
    return create_webhook(world.people["owner"], WebhookValues(name="chat", url=WEBHOOK["url"]))


def notification_of_owner(world: World) -> Notification:
    occurrence = Occurrence.objects.create(
        event="run_failed", message_data={"code": "verbatim", "params": {"text": "x"}}
    )
    return Notification.objects.create(occurrence=occurrence, user=world.people["owner"])


def gpu_of_a_host() -> int:
    host, _new = Host.objects.get_or_create(name="gpu-box")
    return Device.objects.get_or_create(host=host, kind="gpu")[0].pk


def status(value: str) -> Callable[[World], Any]:
    return lambda world: TrainingRun.objects.filter(pk=world.run.pk).update(status=value)


def new_run(world: World) -> dict[str, Any]:
    fields = config_fields("classification")
    values = {name: field.default for name, field in fields.items() if field.kind != "switch"}
    own = Dataset.objects.get_or_create(
        name="for all",
        defaults={
            "owner": world.people["owner"],
            "source": "/nowhere",
            "status": "ready",
            "classes": ["a", "b"],
            "tasks": ["classification"],
            "images": {"train": 4, "val": 2},
        },
    )[0]
    return {**values, "name": "mine", "dataset": own.pk, "priority": 0}


def new_sweep(world: World) -> dict[str, Any]:
    """A sweep over the learning rate on a dataset that all can see."""
    method = {"sampler": "random", "pruner": "none", "control_every": 0, "sweep_seed": 0}
    budgets = {"max_trials": 5, "concurrency": 1}
    searched = {"search-learning_rate": "on", "low-learning_rate": "0.001", "high-learning_rate": "0.1"}
    return {**new_run(world), **method, **budgets, **searched, "task": "classification"}


BUDGETS = {"name": "search", "max_trials": 9, "concurrency": 2}


def edited(world: World) -> dict[str, Any]:
    return {"name": "better", "priority": 1, "version": world.run.version}


def forked(world: World) -> dict[str, Any]:
    """The dataset is the run's own, so it must be one that whoever forks can see."""
    Dataset.objects.filter(pk=world.dataset.pk).update(visibility="everybody")
    facts = {"checkpoint": "epoch_1.pt", "mode": "continue"}
    kept = {name: value for name, value in world.run.config.items() if value is not False and value is not None}
    return {**new_run(world), **kept, **facts}


def proposed(world: World) -> None:
    proposal = {"has_splits": True, "classes": [{"name": "a", "images": 2}, {"name": "b", "images": 2}]}
    Dataset.objects.filter(pk=world.dataset.pk).update(status="proposed", proposal=proposal)


def no_runs(world: World) -> None:
    TrainingRun.objects.filter(dataset=world.dataset).delete()


def job_done(world: World) -> None:
    Job.objects.filter(pk=world.job.pk).update(state="done", result={"sha256": "0" * 64})


def run_verb_lines() -> list[Line]:
    """A line for each run verb that a POST performs."""
    posted = RUN_VERBS.posted().values()
    return [run_line("run_control", each.name, method="post", verb=each.permission, ok=302) for each in posted]


LINES = [
    Line("home", verb=""),
    Line("run_list", verb=""),
    Line("event_stream", verb="", data=lambda world: {"topics": "runs"}),
    Line("run_list_csv", verb=""),
    Line("runs_selected", "post", verb="", ok=302),
    Line("runs_delete", verb=""),
    Line("runs_delete", "post", verb="", ok=302),
    Line("view_save", "post", verb="", data=lambda world: {"name": "mine", "query": "sort=name"}, ok=302),
    Line("view_delete", "post", thing="token", args=lambda world: [view_of_owner(world).pk], ok=302),
    Line("search", verb=""),
    Line("notification_list", verb=""),
    Line("notifications_read", "post", verb="", ok=302),
    Line("notification_open", thing="token", args=lambda world: [notification_of_owner(world).pk], ok=302),
    Line("notification_settings", verb=""),
    Line("notification_settings", "post", verb="", data=lambda world: {"language": "en"}, ok=302),
    Line("webhook_new", verb="create"),
    Line("webhook_new", "post", verb="create", data=lambda world: WEBHOOK, ok=302),
    Line("webhook", thing="token", args=lambda world: [webhook_of_owner(world).pk]),
    Line(
        "webhook",
        "post",
        thing="token",
        args=lambda world: [webhook_of_owner(world).pk],
        data=lambda world: WEBHOOK,
        ok=302,
    ),
    Line("webhook_test", "post", thing="token", args=lambda world: [webhook_of_owner(world).pk], ok=302),
    Line("webhook_delete", thing="token", args=lambda world: [webhook_of_owner(world).pk]),
    Line("webhook_delete", "post", thing="token", args=lambda world: [webhook_of_owner(world).pk], ok=302),
    run_line("run_star", method="post", data=lambda world: {"on": "1"}, ok=302),
    run_line("run_labels", verb="change"),
    run_line("run_labels", method="post", verb="change", data=lambda world: {"tags": "a", "note": ""}, ok=302),
    Line("run_new", verb="create"),
    Line("run_new", "post", verb="create", data=new_run, ok=302),
    Line("batch_preview_start", "post", verb="create", data=new_run, ok=302),
    run_line("run_detail"),
    run_line("run_charts"),
    run_line("run_config"),
    run_line("run_system"),
    run_line("run_activity"),
    run_line("run_name", verb="change", ok=302),
    run_line("run_name", method="post", verb="change", data=lambda world: {"name": "renamed"}, ok=302),
    run_line("run_log"),
    run_line("run_metrics"),
    Line("compare", verb=""),
    Line("compare_curves", verb=""),
    Line("compare_intervals", "post", verb="create", ok=302),
    Line("compare_markdown", verb=""),
    run_line("evaluation"),
    run_line("evaluation_data", 1),
    run_line("evaluation_csv", 1, "classes"),
    run_line("evaluation_csv", 1, "curve-reliability"),
    run_line("evaluation_curve", 1, "reliability"),
    run_line("evaluation_images", 1),
    run_line("evaluation_mask", 1, 0),
    run_line("batch_image", "step_0.webp"),
    run_line("checkpoint_download", "epoch_1.pt", verb="download"),
    run_line("run_script", verb="download"),
    run_line("run_tensorboard", verb="download"),
    run_line("run_report", verb="download"),
    run_line("run_report_markdown", verb="download"),
    run_line("run_metrics_csv", verb="download"),
    run_line("run_metrics_parquet", verb="download", ok=200 if has_parquet() else 302),
    run_line("run_metrics_tensorboard", verb="download"),
    run_line("run_checkpoints"),
    run_line("run_checkpoints", method="post", verb="delete", data=lambda world: {"file": "epoch_1.pt"}),
    run_line(
        "run_checkpoints",
        method="post",
        verb="delete",
        data=lambda world: {"files": "epoch_1.pt", "confirmed": "1"},
        ok=302,
    ),
    run_line("checkpoint_control", "epoch_1.pt", "pin", method="post", verb="control", ok=302),
    run_line("checkpoint_control", "epoch_1.pt", "unpin", method="post", verb="control", ok=302),
    run_line("checkpoint_control", "epoch_1.pt", "verify", method="post", verb="control", ok=302),
    Line("sweep_list", verb=""),
    Line("sweep_new", verb="create"),
    Line("sweep_new", "post", verb="create", data=new_sweep, ok=302),
    sweep_line("sweep_detail"),
    *(sweep_line("sweep_control", name, method="post", verb="control", ok=302) for name in SWEEP_VERBS),
    sweep_line("sweep_edit", verb="change"),
    sweep_line("sweep_edit", method="post", verb="change", data=lambda world: BUDGETS, ok=302),
    sweep_line("sweep_enqueue", verb="control"),
    sweep_line("sweep_enqueue", method="post", verb="control", data=lambda world: {"learning_rate": 0.02}, ok=302),
    sweep_line("sweep_share", method="post", verb="share", data=lambda world: {"who": "private"}, ok=302),
    sweep_line("sweep_delete", verb="delete"),
    sweep_line("sweep_delete", method="post", verb="delete", ok=302),
    Line("queue", verb=""),
    run_line(
        "queue_move",
        method="post",
        verb="control",
        prepare=status("queued"),
        data=lambda world: {"to": "first"},
        ok=302,
    ),
    run_line("queue_priority", method="post", verb="control", data=lambda world: {"priority": "3"}, ok=302),
    Line("device_list", verb=""),
    Line("device_quarantine", "post", verb="administer", args=lambda world: [gpu_of_a_host()], ok=302),
    Line("device_release", "post", verb="administer", args=lambda world: [gpu_of_a_host()], ok=302),
    Line("journal", verb=""),
    Line("journal_seen", "post", verb="", ok=302),
    run_line("run_delete", verb="delete"),
    run_line("run_delete", method="post", verb="delete", ok=302),
    run_line("run_share", method="post", verb="share", data=lambda world: {"who": "private"}, ok=302),
    *run_verb_lines(),
    run_line("run_force_stop", verb="control"),
    run_line("run_epochs", verb="control"),
    run_line("run_epochs", method="post", verb="control", data=lambda world: {"epochs": "30"}, ok=302),
    run_line("run_edit", verb="change"),
    run_line("run_edit", method="post", verb="change", data=edited, ok=302),
    run_line("run_fork", verb="create"),
    run_line("run_fork", method="post", verb="create", data=forked, ok=302),
    Line("preflight_start", "post", verb="create", data=new_run, ok=302),
    Line("run_outlook", "post", verb="create", data=new_run),
    Line("job", thing="job", args=lambda world: [world.job.pk]),
    Line("job_cancel", "post", thing="job", args=lambda world: [world.job.pk], ok=302),
    run_line("weights_save", verb="control"),
    run_line(
        "weights_save",
        method="post",
        verb="control",
        data=lambda world: {"file": "epoch_1.pt", "name": "kept"},
        ok=302,
    ),
    Line("weights_list", verb=""),
    Line("weights_upload", verb="create"),
    Line("weights_upload", "post", verb="create", ok=422),
    Line("published_list", verb=""),
    Line("published_fetch", "post", verb="create", data=lambda world: {"name": "nothing"}, ok=302),
    Line("published_import", verb="administer"),
    Line("published_import", "post", verb="administer", ok=422),
    Line("published_delete", verb="administer", ok=404),
    Line("published_delete", "post", verb="administer", data=lambda world: {"name": "nothing"}, ok=302),
    weights_line("weights_detail"),
    weights_line("weights_download", verb="download"),
    weights_line("weights_edit", verb="change"),
    weights_line(
        "weights_edit",
        method="post",
        verb="change",
        data=lambda world: {"name": "other", "note": "", "licence": ""},
        ok=302,
    ),
    weights_line("weights_alias", method="post", verb="change", data=lambda world: {"alias": "best"}, ok=302),
    weights_line("weights_share", method="post", verb="share", data=lambda world: {"who": "private"}, ok=302),
    weights_line("weights_delete", verb="delete"),
    weights_line("weights_delete", method="post", verb="delete", ok=302),
    # Starting jobs requires the permission to create, of users who see the model.
    weights_line("weights_export", verb="use"),
    weights_line("weights_export", method="post", verb="use", data=lambda world: {"formats": ["pt"]}, ok=302),
    weights_line("weights_try", verb="use"),
    weights_line("weights_try", method="post", verb="use", ok=422),
    weights_line("weights_predict_many", method="post", verb="use", ok=422),
    Line("job_file", thing="job", args=lambda world: [world.job.pk, "export.zip"], prepare=job_done),
    Line("job_boxes", thing="job", args=lambda world: [world.predicted.pk]),
    Line("job_image", thing="job", args=lambda world: [world.predicted.pk, "shown/0.webp"]),
    Line("dataset_list", verb=""),
    Line("dataset_import", verb="create"),
    Line(
        "dataset_import",
        "post",
        verb="create",
        data=lambda world: {"name": "new", "archive": SimpleUploadedFile("a.zip", b"no zip")},
        ok=422,
    ),
    dataset_line("dataset_detail"),
    dataset_line("dataset_confirm", verb="control", ok=302),
    dataset_line(
        "dataset_confirm",
        method="post",
        verb="control",
        prepare=proposed,
        data=lambda world: {"split": "given", "on_error": "stop", "class-0-name": "a", "class-0-keep": "on"},
        ok=422,
    ),
    dataset_line(
        "dataset_cancel",
        method="post",
        verb="control",
        prepare=lambda world: working_on(world.dataset, "importing", IMPORTING_IMAGES()),
        ok=302,
    ),
    dataset_line("dataset_read_again", verb="control", ok=302),
    dataset_line("dataset_read_again", method="post", verb="control", prepare=proposed, ok=302),
    dataset_line("dataset_store", method="post", verb="control", ok=302),
    dataset_line("dataset_view", 1),
    dataset_line("dataset_image", "images/train/blue/0000.png"),
    dataset_line("dataset_share", method="post", verb="share", data=lambda world: {"who": "private"}, ok=302),
    dataset_line("dataset_delete", verb="delete"),
    dataset_line("dataset_delete", method="post", verb="delete", prepare=no_runs, ok=302),
    Line("login", verb="open"),
    Line("logout", "post", verb="", ok=302),
    Line("set_language", "post", verb="open", ok=302),
    Line("health", verb="open"),
    Line("ready", verb="open", ok=503),  # for no worker is alive here
    Line("account", verb=""),
    Line("password_change", "post", verb="", data=lambda world: {"old_password": "wrong"}, ok=302),
    Line("sign_out_everywhere", "post", verb="", ok=302),
    Line("token_list", verb=""),
    Line("token_list", "post", verb="", data=lambda world: {"name": ""}, ok=422),
    Line("token_revoke", "post", thing="token", args=lambda world: [token_of_owner(world).pk], ok=302),
    Line("api_docs", verb=""),
    Line("disk", verb="administer"),
    Line("disk", "post", verb="administer", ok=302),
    Line("audit", verb="administer"),
    Line("audit_csv", verb="administer"),
]
#: Read in separate threads, so they are tested on a committed database, in test_stream_roles.py.
STREAMS = {"event_stream"}
#: Namespaces with their own tables: the admin in tests/admin/test_roles.py. So has the API, in tests/api.
ELSEWHERE = {"admin"}


def routes(resolver: URLResolver | None = None, prefix: str = "") -> Iterator[str]:
    """The name of every route, with its namespace; a route without a name under its pattern."""
    for entry in (resolver or get_resolver()).url_patterns:
        if isinstance(entry, URLPattern):
            yield f"{prefix}{entry.name or entry.pattern}"
        elif entry.namespace not in ELSEWHERE and str(entry.pattern) != "api/":
            yield from routes(entry, f"{prefix}{entry.namespace}:" if entry.namespace else prefix)


def test_every_route_has_a_line() -> None:
    assert set(routes()) == {line.route for line in LINES}


def make_people(team: Team) -> dict[str, User]:
    people = {}
    for name, about in PEOPLE.items():
        if name == "anonymous":
            continue
        people[name] = who = User.objects.create_user(name.replace(" ", "-"))
        if group := about.get("group"):
            who.groups.add(Group.objects.get_or_create(name=group)[0])
        if about.get("team"):
            team.members.add(who)
    return people


def make_world(visibility: str) -> World:
    team = Team.objects.create(name="team")
    people = make_people(team)
    owner = people["owner"]
    dataset = make_dataset(owner)
    annotated(dataset)
    run = make_run(owner, dataset)
    shared = {"visibility": visibility, "team": team if visibility == "team" else None}
    weights, sweep = make_entry(owner), make_sweep(owner, dataset, start=False)
    for thing in (dataset, run, weights, sweep):
        type(thing).objects.filter(pk=thing.pk).update(**shared)
    fill(run)
    card = {**weights.card(), "created": ""}
    job, predicted = (
        Job.objects.create(kind=kind, owner=owner, id=uuid.uuid4(), params={"card": card})
        for kind in (Job.Kind.EXPORT, Job.Kind.PREDICT)
    )
    (predicted.folder / "shown").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(predicted.folder / "shown" / "0.webp")
    job.folder.mkdir(parents=True)
    (job.folder / "export.zip").write_bytes(b"zip")
    return World(people, team, dataset, run, job, weights, predicted, sweep)


def fill(run: TrainingRun) -> None:
    """What a run has after its first epoch: an evaluation with a mask, a checkpoint, the image of a batch."""
    path = run.folder / "evaluations" / "epoch_1" / "0.png"
    path.parent.mkdir(parents=True)
    Image.new("L", (8, 8), 1).save(path)
    evaluated(run, 1, task="segmentation", predictions={0: {"mask": "epoch_1/0.png"}})
    (run.folder / "checkpoints").mkdir(parents=True)
    (run.folder / "checkpoints" / "epoch_1.pt").write_bytes(b"PK\x03\x04weights")
    facts = {"attempt": 1, "epoch": 1, "step": 6, "reason": "epoch", "size_bytes": 7, "created_at": timezone.now()}
    Checkpoint.objects.create(run=run, file="epoch_1.pt", **facts)
    board_of(run)
    (run.folder / "batches").mkdir()
    Image.new("RGB", (4, 4)).save(run.folder / "batches" / "step_0.webp")
    store_events(run, {"type": "sample", "data": {"file": "batches/step_0.webp"}})


visibility, made, world = world_fixtures(make_world)


def client_of(world: World, who: str) -> Client:
    client = Client()
    if who != "anonymous":
        client.force_login(world.people[who])
    return client


def outcome(response: Any) -> int | str:
    """The status; LOGIN for a redirect to the login."""
    if response.status_code == 302 and response.headers["Location"].startswith(reverse("login") + "?next="):
        return LOGIN
    return int(response.status_code)


def cases(lines: list[Line], streams: bool = False) -> list[ParameterSet]:
    """Each line with each visibility of the object; once where it has none. What everybody sees is a long test."""
    wanted = [line for line in lines if (line.route in STREAMS) is streams]
    return [
        pytest.param(line, shared, marks=[pytest.mark.long] if shared == "everybody" else [])
        for line in wanted
        for shared in (SEES if line.thing else ("private",))
    ]


@pytest.mark.django_db
@pytest.mark.parametrize(("line", "visibility"), cases(LINES), ids=str, indirect=["visibility"])
def test_each_role_gets_the_status_of_the_table(line: Line, visibility: str, world: World) -> None:
    line.prepare(world)
    assert outcomes(line, world, visibility) == {who: line.expected(who, visibility) for who in PEOPLE}


def outcomes(line: Line, world: World, visibility: str) -> dict[str, int | str]:
    """What each role gets. The changes of one request are rolled back before the next one."""
    got = {}
    for who in PEOPLE:
        with transaction.atomic():
            response = getattr(client_of(world, who), line.method)(line.address(world), line.data(world))
            got[who] = outcome(response)
            if got[who] == FORBIDDEN and line.expected(who, visibility) == FORBIDDEN:
                assert "You do not have permission to do this" in response.content.decode()
            transaction.set_rollback(True)
    return got


@pytest.mark.django_db
@pytest.mark.parametrize("visibility", ["everybody"], indirect=True)
@pytest.mark.parametrize("route", sorted({line.route for line in LINES}))
def test_other_methods_are_refused(route: str, world: World) -> None:
    known = [line for line in LINES if line.route == route]
    methods = {"get", "post", "put", "patch", "delete"} - {line.method for line in known}
    if route == "login":
        methods -= {"post", "put"}  # the form of Django takes both for signing in
    if route in {"set_language", "password_change"}:
        methods -= {"get"}  # they lead back to where one came from
    for method in methods - ({"get"} if route in STREAMS else set()):
        response = getattr(client_of(world, "administrator"), method)(known[0].address(world))
        assert response.status_code == 405 or (route == "set_language" and response.status_code == 302), method
