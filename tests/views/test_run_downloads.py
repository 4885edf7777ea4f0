"""train.py and the files for TensorBoard, from the run's page."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.urls import reverse

from tests.helpers.world import store_events
from trainingapp.contract.events import EVENTS_FILE, EventLog
from trainingapp.engine.tensorboard_writer import TensorBoardWriter
from trainingapp.models import TrainingRun

MAKE = Callable[..., TrainingRun]


@pytest.mark.django_db
def test_the_tabs_link_to_both(user_client: Client, make: MAKE) -> None:
    run = make("completed", attempt=1)
    for tab, link in (("run_config", "run_script"), ("run_charts", "run_tensorboard")):
        html = user_client.get(reverse(tab, args=[run.pk])).content.decode()
        assert reverse(link, args=[run.pk]) in html


@pytest.mark.django_db
def test_the_script_contains_the_configuration_of_the_run(user_client: Client, make: MAKE) -> None:
    run = make("completed", environment={"cpu_threads": 3, "python": "CPython 3.11.7", "packages": {"torch": "2.9.1"}})
    response = user_client.get(reverse("run_script", args=[run.pk]))
    text = response.content.decode()
    compile(text, "train.py", "exec")
    assert response["Content-Disposition"] == 'attachment; filename="train.py"'
    for part in (f"# The run: {run.name}", run.dataset.fingerprint, '"cpu_threads": 3,', "torch 2.9.1"):
        assert part in text


@pytest.mark.django_db
def test_the_script_notes_what_the_configuration_does_not_determine(user_client: Client, make: MAKE) -> None:
    first = make("completed")
    run = make("completed", forked_from=first, forked_checkpoint="epoch_2.pt")
    order = {"state": "order", "id": 1, "command": "epochs", "epochs": 9, "result": ""}
    store_events(run, {"type": "status", "step": 40, "data": order})
    text = user_client.get(reverse("run_script", args=[run.pk])).content.decode()
    assert "# Its epochs were changed while it ran (9 from step 40)" in text
    assert f"# The run began with the checkpoint epoch_2.pt of run {first.pk}" in text


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["run_script", "run_tensorboard"])
def test_anonymous_users_and_other_methods_are_refused(
    client: Client, user_client: Client, make: MAKE, name: str
) -> None:
    address = reverse(name, args=[make("completed").pk])
    assert client.get(address).status_code == 302
    assert user_client.post(address).status_code == 405
    assert user_client.get(reverse(name, args=[999])).status_code == 404


@pytest.mark.django_db
def test_a_run_without_files_is_not_found(user_client: Client, make: MAKE) -> None:
    assert user_client.get(reverse("run_tensorboard", args=[make("running").pk])).status_code == 404


@pytest.mark.django_db(transaction=True)
async def test_the_zip_can_be_read_by_tensorboard(user: User, make: Any, tmp_path: Any) -> None:
    from asgiref.sync import sync_to_async
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = await sync_to_async(make)("completed", attempt=1)
    run.folder.mkdir(parents=True)
    board = TensorBoardWriter(run.folder, 0, EventLog(run.folder / EVENTS_FILE, 1))
    board.add("train", {"loss": 0.5}, 3)
    board.flush()
    client = AsyncClient()
    await client.aforce_login(user)
    response = await client.get(reverse("run_tensorboard", args=[run.pk]))
    body = b"".join([chunk async for chunk in response.streaming_content])
    assert len(body) == int(response["Content-Length"])
    zipfile.ZipFile(io.BytesIO(body)).extractall(tmp_path / "zip")
    (folder,) = (tmp_path / "zip").iterdir()
    reader = EventAccumulator(str(folder))
    reader.Reload()
    assert [(point.step, point.value) for point in reader.Scalars("loss/train")] == [(3, 0.5)]
