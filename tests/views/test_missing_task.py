"""Pages of a task that is no longer installed: STUDIO_TASKS lost an entry, and runs, datasets and models must open."""

from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client
from django.urls import reverse

from tests.api.conftest import Api, api_of, problem
from tests.views.test_roles import LINES, MAY, STREAMS, World, client_of, make_world
from trainingapp.models import Dataset, TrainingRun, Weights

pytestmark = pytest.mark.django_db

GONE = "keypoints"
NOT_INSTALLED = f"The task “{GONE}” is not installed"
#: Requests about the objects of the world, and the lists of all of them.
ABOUT_OBJECTS = [line for line in LINES if (line.thing or line.method == "get") and line.route not in STREAMS]


@pytest.fixture(autouse=True)
def studio_folders(tmp_path: Path, settings: Any) -> None:
    settings.DATA_DIR, settings.JOBS_DIR, settings.WEIGHTS_DIR = tmp_path, tmp_path / "jobs", tmp_path / "weights"


@pytest.fixture
def world() -> World:
    """The objects of one owner, all of a task that is not installed."""
    world = make_world("everybody")
    config = {**world.run.config, "task": GONE, "model": "tiny_pose", "joints": 17, "best_metric": "pck"}
    TrainingRun.objects.filter(pk=world.run.pk).update(task=GONE, config=config)
    Dataset.objects.filter(pk=world.dataset.pk).update(tasks=[GONE])
    Weights.objects.filter(pk=world.weights.pk).update(task=GONE, architecture="tiny_pose", config=config)
    for job in (world.job, world.predicted):
        job.params = {"card": {**job.params["card"], "task": GONE}}
        job.save()
    for row in (world.run, world.dataset, world.weights):
        row.refresh_from_db()
    return world


@pytest.fixture
def owner_client(world: World) -> Client:
    client = Client()
    client.force_login(world.people["owner"])
    return client


@pytest.fixture
def api(world: World) -> Api:
    return api_of(world.people["owner"])


def test_every_address_answers(world: World) -> None:
    clients = {verb: client_of(world, "administrator" if verb == "administer" else "owner") for verb in MAY}
    failed = {}
    for line in ABOUT_OBJECTS:
        client = clients.get(line.verb, clients["see"])
        client.raise_request_exception = False
        with transaction.atomic():  # what one request does is taken back before the next one
            line.prepare(world)
            response = getattr(client, line.method)(line.address(world), line.data(world), follow=True)
            if response.status_code >= 500 and line.route != "ready":
                failed[str(line)] = repr(response.exc_info)
            transaction.set_rollback(True)
    assert not failed


@pytest.mark.parametrize(
    "route",
    [
        "run_detail",
        "evaluation",
        "run_fork",
        "run_epochs",
        "run_script",
        "weights_detail",
        "weights_try",
        "weights_export",
    ],
)
def test_a_page_reports_that_the_task_is_not_installed(route: str, world: World, owner_client: Client) -> None:
    item = world.weights if route.startswith("weights") else world.run
    response = owner_client.get(reverse(route, args=[item.pk]), follow=True)
    assert response.status_code == 200
    assert NOT_INSTALLED in response.content.decode()


def test_the_page_of_a_run_shows_what_is_stored(world: World, owner_client: Client) -> None:
    html = owner_client.get(world.run.get_absolute_url()).content.decode()
    assert "joints" in owner_client.get(reverse("run_config", args=[world.run.pk])).content.decode()
    assert 'data-chart="loss"' in html
    assert 'data-chart="quality"' not in html  # the metrics of the task are unknown
    for name in ("start", "epochs", "fork", "clone"):
        assert f'id="verb-{name}"' not in html
        assert f'id="menu-{name}"' not in html
    assert 'id="menu-delete"' in html


@pytest.mark.parametrize("query", [{"clone": "run"}, {"weights": "weights"}])
def test_a_new_run_like_it_is_refused_on_the_next_page(
    query: dict[str, str], world: World, owner_client: Client
) -> None:
    values = {name: getattr(world, kind).pk for name, kind in query.items()}
    response = owner_client.get(reverse("run_new"), values, follow=True)
    assert response.status_code == 200
    assert NOT_INSTALLED in response.content.decode()


def test_the_form_of_a_new_run_offers_an_installed_task_for_its_dataset(world: World, owner_client: Client) -> None:
    response = owner_client.get(reverse("run_new"), {"dataset": world.dataset.pk})
    assert response.status_code == 200
    assert response.context["form"].task_name == "classification"


@pytest.mark.parametrize(
    ("status", "action", "more"),
    [
        ("pending", "start", {}),
        ("paused", "resume", {}),
        ("failed", "retry", {}),
        ("completed", "extend", {"epochs": 90}),
        ("completed", "clone", {}),
        ("completed", "fork", {"mode": "weights"}),
    ],
)
def test_the_api_refuses_to_train_it(status: str, action: str, more: dict[str, Any], world: World, api: Api) -> None:
    TrainingRun.objects.filter(pk=world.run.pk).update(status=status)
    answer = problem(api.post(f"training/{world.run.pk}/control", {"action": action, **more}), 409, "not-possible")
    assert NOT_INSTALLED in answer["detail"]
    world.run.refresh_from_db()
    assert (world.run.status, TrainingRun.objects.count()) == (status, 1)


@pytest.mark.parametrize(
    "path",
    ["training/", "training/{run}", "datasets/", "weights/", "weights/{weights}"],
)
def test_the_api_shows_it(path: str, world: World, api: Api) -> None:
    response = api.get(path.format(run=world.run.pk, weights=world.weights.pk))
    assert response.status_code == 200
    assert GONE in response.content.decode()


def test_the_api_refuses_its_script_and_its_predictions(world: World, api: Api) -> None:
    problem(api.get(f"training/{world.run.pk}/script"), 409, "not-possible")
    answer = api.post(f"weights/{world.weights.pk}/export", {"formats": ["pt"]})
    assert NOT_INSTALLED in problem(answer, 409, "not-possible")["detail"]


@pytest.mark.parametrize("kind", ["trainingrun", "dataset", "weights", "checkpoint"])
def test_the_admin_shows_it(kind: str, world: World, staff_client: Client) -> None:
    row = {"trainingrun": world.run, "dataset": world.dataset, "weights": world.weights}.get(kind)
    row = row or world.run.checkpoints.get()
    assert staff_client.get(reverse(f"admin:trainingapp_{kind}_changelist")).status_code == 200
    assert staff_client.get(reverse(f"admin:trainingapp_{kind}_change", args=[row.pk])).status_code == 200


def test_the_admin_refuses_to_fork_it(world: World, staff_client: Client) -> None:
    values = {"_selected_action": world.run.checkpoints.get().pk, "confirmed": "yes", "mode": "weights"}
    address = reverse("admin:trainingapp_checkpoint_changelist")
    response = staff_client.post(address, {**values, "action": "fork"}, follow=True)
    assert NOT_INSTALLED in response.content.decode()
    assert TrainingRun.objects.count() == 1


def test_a_command_reports_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandError, match=NOT_INSTALLED):
        call_command("train", "script", str(world.run.pk))
    with pytest.raises(CommandError, match=NOT_INSTALLED):
        call_command("train", "start", str(world.run.pk))
    call_command("train", "show", str(world.run.pk))
    assert GONE in capsys.readouterr().out
