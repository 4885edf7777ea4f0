"""Every operation of the API for every role and relation, and with a token without the required scope."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction

from tests.api.conftest import Api, api_of, problem
from tests.api.test_training import checkpoint_of
from tests.helpers.machines import machine
from tests.helpers.once import world_fixtures
from tests.helpers.sweeps import make_sweep
from tests.helpers.tiny import board_of, make_dataset, make_run
from trainingapp.accounts.notifications.webhooks import WebhookValues, create_webhook
from trainingapp.api.openapi import schema_of
from trainingapp.api.root import api as studio_api
from trainingapp.models import Dataset, Device, Job, Team, TrainingRun, Weights, WeightsAlias
from trainingapp.runs.verb_registry import RUN_VERBS

pytestmark = pytest.mark.django_db

PEOPLE = ("nobody", "viewer", "other", "viewing mate", "mate", "owner", "administrator")
#: visibility -> verb -> roles that may. An object that a user may not see is not found; others are forbidden.
MAY: dict[str, dict[str, set[str]]] = {
    "everybody": {
        "see": {"viewer", "other", "viewing mate", "mate", "owner", "administrator"},
        "use": {"other", "mate", "owner", "administrator"},
        "control": {"owner", "administrator"},
        "share": {"owner", "administrator"},
        "delete": {"owner", "administrator"},
    },
    "team": {
        "see": {"viewing mate", "mate", "owner", "administrator"},
        "use": {"mate", "owner", "administrator"},
        "control": {"mate", "owner", "administrator"},
        "share": {"owner", "administrator"},
        "delete": {"owner", "administrator"},
    },
    "private": {
        "see": {"owner", "administrator"},
        "use": {"owner", "administrator"},
        "control": {"owner", "administrator"},
        "share": {"owner", "administrator"},
        "delete": {"owner", "administrator"},
    },
}
CREATORS = {"other", "mate", "owner", "administrator"}
SIGNED_IN = {"viewer", "viewing mate", *CREATORS}
ONE_S_OWN = {"owner", "administrator"}
#: A body that is a form with an image.
IMAGES = object()
ABOUT_WEIGHTS = {"name": "x", "task": "classification", "architecture": "resnet18", "classes": ["a", "b"]}


RUN, DATASET, WEIGHTS = "training/{run}", "datasets/{dataset}", "weights/{weights}"
SWEEP = "sweeps/{sweep}"
NEW_SWEEP = {"name": "x", "dataset": "{open_dataset}", "sampler": "repeat"}


def control_calls() -> dict[str, tuple[str, str, Any]]:
    """A line for each action, with the parameters that it requires."""
    calls: dict[str, tuple[str, str, Any]] = {}
    for action, verb in RUN_VERBS.api_actions().items():
        body = {"action": action, **{each.name: each.example for each in verb.parameters if each.is_required}}
        if verb.name == "fork":  # the checkpoint of this world holds no tensors to continue from
            body["mode"] = "weights"
        calls[f"control_run: {action}"] = (f"{RUN}/control", "use" if verb.makes_run else "control", body)
    return calls


#: operation -> (path, verb, body). The verb "list" is open to signed-in users, "create" to roles that may create,
#: "administer" to administrators, "use" to those of them that see the object, "own" to the owner of a job, and "part"
#: to the owner of an upload or a webhook. Where an operation has several actions, each has a line, with a suffix to its
#: name.
CALLS: dict[str, tuple[str, str, Any]] = {
    "list_runs": ("training/", "list", None),
    "create_run": ("training/", "create", {"name": "x", "dataset": "{open_dataset}"}),
    "check_run": ("training/check", "create", {"dataset": "{open_dataset}"}),
    "show_run": (RUN, "see", None),
    "change_run": (RUN, "control", {"priority": 3}),
    "delete_run": (RUN, "delete", None),
    "compare_runs": ("training/compare?runs={run}", "see", None),
    "compare_images": ("training/compare/images?before={run}&after={run}", "see", None),
    "run_status": (f"{RUN}/status", "see", None),
    **control_calls(),
    "share_run": (f"{RUN}/share", "share", {"visibility": "private"}),
    "list_metrics": (f"{RUN}/metrics", "see", None),
    "run_metrics_csv": (f"{RUN}/metrics.csv", "see", None),
    "run_metrics_parquet": (f"{RUN}/metrics.parquet", "see", None),
    "run_metrics_tensorboard": (f"{RUN}/metrics.tfevents", "see", None),
    "list_logs": (f"{RUN}/logs", "see", None),
    "list_checkpoints": (f"{RUN}/checkpoints", "see", None),
    "run_script": (f"{RUN}/script", "see", None),
    "run_report": (f"{RUN}/report", "see", None),
    "run_tensorboard": (f"{RUN}/tensorboard", "see", None),
    "show_checkpoint": (f"{RUN}/checkpoints/epoch_1.pt", "see", None),
    "download_checkpoint": (f"{RUN}/checkpoints/epoch_1.pt/download", "see", None),
    "change_checkpoint": (f"{RUN}/checkpoints/epoch_1.pt", "control", {"is_pinned": True}),
    "remove_checkpoint": (f"{RUN}/checkpoints/epoch_1.pt", "delete", None),
    "save_run": (f"{RUN}/save", "control", {"name": "x"}),
    "list_sweeps": ("sweeps/", "list", None),
    "create_sweep": ("sweeps/", "create", NEW_SWEEP),
    "show_sweep": (SWEEP, "see", None),
    "change_sweep": (SWEEP, "control", {"concurrency": 3}),
    "delete_sweep": (SWEEP, "delete", None),
    "control_sweep": (f"{SWEEP}/control", "control", {"action": "start"}),
    "list_trials": (f"{SWEEP}/trials", "see", None),
    "enqueue_trial": (f"{SWEEP}/trials", "control", {"params": {"learning_rate": 0.02}}),
    "share_sweep": (f"{SWEEP}/share", "share", {"visibility": "private"}),
    "list_datasets": ("datasets/", "list", None),
    "create_dataset": ("datasets/", "create", {"name": "x", "folder": "/nowhere"}),
    "upload_dataset": ("datasets/upload?name=x", "create", b"no zip"),
    "show_dataset": (DATASET, "see", None),
    "dataset_statistics": (f"{DATASET}/statistics", "see", None),
    "confirm_dataset": (f"{DATASET}/confirm", "control", {}),
    "read_dataset_again": (f"{DATASET}/read-again", "control", {}),
    "store_dataset": (f"{DATASET}/store", "control", None),
    "share_dataset": (f"{DATASET}/share", "share", {"visibility": "private"}),
    "delete_dataset": (DATASET, "delete", None),
    "begin_upload": ("uploads/", "create", {"size": 3}),
    "show_upload": ("uploads/{upload}", "part", None),
    "send_part": ("uploads/{upload}", "part", b"abc"),
    "delete_upload": ("uploads/{upload}", "part", None),
    "list_weights": ("weights/", "list", None),
    "list_published": ("weights/published", "list", None),
    "fetch_published": ("weights/published/fetch", "create", {"name": "resnet18-f37072fd.pth"}),
    "import_published": ("weights/published/import", "administer", {"folder": "/srv"}),
    "delete_published": ("weights/published?name=resnet18-f37072fd.pth", "administer", None),
    "show_weights": (WEIGHTS, "see", None),
    "download_weights": (f"{WEIGHTS}/download", "see", None),
    "create_weights": ("weights/", "create", {**ABOUT_WEIGHTS, "upload": "0" * 32}),
    "upload_weights": (
        "weights/upload?name=x&task=classification&architecture=resnet18&classes=a&classes=b",
        "create",
        b"no weights",
    ),
    "change_weights": (WEIGHTS, "control", {"note": "x"}),
    "resolve_weights": ("weights/resolve?name=w&alias=production", "see", None),
    "download_resolved_weights": ("weights/resolve/download?name=w&alias=production", "see", None),
    "predict_resolved": ("weights/resolve/predict?name=w&alias=production", "use", IMAGES),
    "set_weights_alias": (f"{WEIGHTS}/aliases/best", "control", {}),
    "remove_weights_alias": (f"{WEIGHTS}/aliases/production", "control", None),
    "share_weights": (f"{WEIGHTS}/share", "share", {"visibility": "private"}),
    "export": (f"{WEIGHTS}/export", "use", {"formats": ["onnx"]}),
    "predict": (f"{WEIGHTS}/predict", "use", IMAGES),
    "predict_many": (f"{WEIGHTS}/predict-many", "use", {"dataset": "{open_dataset}"}),
    "remove_weights": (WEIGHTS, "delete", None),
    "list_devices": ("devices", "list", None),
    "quarantine_device": ("devices/{device}/quarantine", "administer", {"reason": "x"}),
    "release_device": ("devices/{failing_device}/release", "administer", {}),
    "show_queue": ("queue", "list", None),
    "move_in_queue": ("queue/move", "control", {"run": "{run}", "to": "first"}),
    "list_jobs": ("jobs", "list", None),
    "show_job": ("jobs/{job}", "own", None),
    "download_job_file": ("jobs/{job}/files/export.zip", "own", None),
    "cancel_job": ("jobs/{job}/cancel", "own", None),
    "list_notifications": ("notifications", "list", None),
    "read_notifications": ("notifications/read", "list", {}),
    "list_webhooks": ("webhooks", "list", None),
    "create_webhook": ("webhooks", "create", {"name": "x", "url": "https://hooks.example.org/a"}),
    "create_webhook: installation": (
        "webhooks",
        "administer",
        {"name": "x", "url": "https://hooks.example.org/a", "for_installation": True},
    ),
    "show_webhook": ("webhooks/{webhook}", "part", None),
    "change_webhook": ("webhooks/{webhook}", "part", {"name": "x", "url": "https://hooks.example.org/a"}),
    "test_webhook": ("webhooks/{webhook}/test", "part", None),
    "list_deliveries": ("webhooks/{webhook}/deliveries", "part", None),
    "delete_webhook": ("webhooks/{webhook}", "part", None),
}
#: Tested where its own thread sees what a test has made: in test_stream_roles.py and test_events.py.
ELSEWHERE = {"stream_events"}
SCOPE_OF = {"get": "read", "post": "control", "put": "control", "delete": "delete"}


def methods() -> dict[str, str]:
    """Of each operation in the document, its method."""
    paths = schema_of(studio_api)["paths"]
    return {each["operationId"]: method for operations in paths.values() for method, each in operations.items()}


def test_every_operation_has_a_line() -> None:
    assert set(methods()) == {name.partition(":")[0] for name in CALLS} | ELSEWHERE


def make_people() -> dict[str, User]:
    viewer, mate = User.objects.create_user("viewer"), User.objects.create_user("mate")
    viewing_mate = User.objects.create_user("viewing-mate")
    for each in (viewer, viewing_mate):
        each.groups.add(Group.objects.get_or_create(name="viewer")[0])
    return {
        "viewer": viewer,
        "other": User.objects.create_user("grace"),
        "viewing mate": viewing_mate,
        "mate": mate,
        "owner": User.objects.create_user("ada"),
        "administrator": User.objects.create_superuser("root"),
    }


@dataclass(frozen=True)
class World:
    """A user of each role, and the numbers of one object of each kind, which belong to the owner."""

    people: dict[str, User]
    numbers: dict[str, Any]


def make_world(visibility: str) -> World:
    people = make_people()
    owner = people["owner"]
    team = Team.objects.create(name="team")
    team.members.add(owner, people["mate"], people["viewing mate"])
    dataset, open_dataset = make_dataset(owner), make_dataset(owner, "open")
    run = make_run(owner, dataset)
    weights = Weights.objects.create(name="w", version=1, owner=owner, task="classification", architecture="a")
    WeightsAlias.objects.create(name="w", alias="production", weights=weights)
    sweep = make_sweep(owner, dataset, start=False)
    for thing in (dataset, run, weights, sweep):
        type(thing).objects.filter(pk=thing.pk).update(visibility=visibility, team=team)
    TrainingRun.objects.update(status="queued")
    checkpoint_of(run, 1, is_best=True)
    board_of(run)
    job = Job.objects.create(kind="export", owner=owner, state="done")
    for path in (weights.path, job.folder / "export.zip"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"abc")
    gpus = machine(gpus=2).devices.filter(kind="gpu")
    Device.objects.filter(pk=gpus[1].pk).update(problem="error")
    numbers = {
        "run": run.pk,
        "dataset": dataset.pk,
        "open_dataset": open_dataset.pk,
        "weights": weights.pk,
        "sweep": sweep.pk,
        "job": job.pk,
        "upload": api_of(owner).post("uploads/", {"size": 3}).json()["id"],
        "webhook": create_webhook(owner, WebhookValues(name="chat", url="https://hooks.example.org/a")).pk,
        "device": gpus[0].pk,
        "failing_device": gpus[1].pk,
    }
    return World(people, numbers)


visibility, made, world = world_fixtures(make_world)


def send(api: Api, operation: str, numbers: dict[str, Any]) -> Any:
    path, _verb, body = CALLS[operation]
    method, address = methods()[operation.partition(":")[0]], f"/api/v1/{path.format(**numbers)}"
    call = getattr(api.client, method)
    if body is None:
        return call(address)
    if body is IMAGES:
        return call(address, {"images": SimpleUploadedFile("a.png", b"no image")})
    headers = {"If-Match": "*", "Content-Range": "bytes 0-2/3"}
    if isinstance(body, bytes):
        return call(address, body, content_type="application/zip", headers=headers)
    filled = {
        name: numbers[value[1:-1]] if isinstance(value, str) and value[:1] == "{" else value
        for name, value in body.items()
    }
    return call(address, filled, content_type="application/json", headers=headers)


def expected(verb: str, visibility: str, who: str) -> str:
    """One of: anonymous, allowed, forbidden, hidden."""
    if who == "nobody":
        return "nobody"
    if verb in ("list", "create"):
        return "allowed" if who in {"list": SIGNED_IN, "create": CREATORS}[verb] else "forbidden"
    if verb == "administer":
        return "allowed" if who == "administrator" else "forbidden"
    if verb in ("own", "part"):
        return "allowed" if who in {"own": ONE_S_OWN, "part": {"owner"}}[verb] else "hidden"
    if who in MAY[visibility][verb]:
        return "allowed"
    return "forbidden" if who in MAY[visibility]["see"] else "hidden"


@contextmanager
def undone() -> Iterator[None]:
    """Within: what is stored is forgotten afterwards."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.mark.parametrize(
    "visibility",
    [pytest.param(each, marks=[pytest.mark.long] if each == "everybody" else []) for each in MAY],
    indirect=True,
)
@pytest.mark.parametrize("operation", CALLS)
def test_each_role_may_what_the_table_says(operation: str, visibility: str, world: World) -> None:
    if operation == "confirm_dataset":
        Dataset.objects.filter(pk=world.numbers["dataset"]).update(status="proposed")
    for who in PEOPLE:
        with undone():
            response = send(api_of(world.people[who]) if who in world.people else Api(), operation, world.numbers)
        wanted = expected(CALLS[operation][1], visibility, who)
        refused = {401: "nobody", 403: "forbidden", 404: "hidden"}.get(response.status_code, "allowed")
        assert refused == wanted, f"{who}: {response.status_code} {getattr(response, 'content', '')!r}"
        assert response.status_code < 500


@pytest.mark.parametrize("visibility", ["everybody"], indirect=True)
@pytest.mark.parametrize("operation", CALLS)
def test_a_token_without_the_scope_is_refused(operation: str, world: World) -> None:
    needed = SCOPE_OF[methods()[operation.partition(":")[0]]]
    others = {"read", "control", "delete"} - {needed}
    problem(send(api_of(world.people["administrator"], *others), operation, world.numbers), 403, "scope")
