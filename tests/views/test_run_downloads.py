"""train.py and the files for TensorBoard, from the run's page."""

import csv
import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.urls import reverse

from tests.helpers.world import line, point, store_events
from trainingapp.contract.events import EVENTS_FILE, EventLog
from trainingapp.engine.tensorboard_writer import TensorBoardWriter
from trainingapp.models import TrainingRun

MAKE = Callable[..., TrainingRun]


@pytest.mark.django_db
def test_the_tabs_link_to_them(user_client: Client, make: MAKE) -> None:
    run = make("completed", attempt=1)
    links = (("run_config", "run_script"), ("run_charts", "run_tensorboard"), ("run_charts", "run_metrics_csv"))
    links += (("run_charts", "run_metrics_tensorboard"),)
    for tab, link in links:
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
@pytest.mark.parametrize(
    "name", ["run_script", "run_tensorboard", "run_metrics_csv", "run_metrics_parquet", "run_metrics_tensorboard"]
)
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


@pytest.mark.django_db(transaction=True)
async def test_all_metrics_are_downloaded_as_a_table(user: User, make: MAKE) -> None:
    run = await sync_to_async(make)("completed")
    loss = 0.1 + 0.2  # not 0.3
    points = [point(step, loss) for step in range(2500)]
    validated = {"type": "metrics", "epoch": 2, "step": 2500, "data": {"split": "val", "values": {"top1": 0.5}}}
    await sync_to_async(store_events)(run, point(7, superseded=True), line("between"), *points, validated)
    client = AsyncClient()
    await client.aforce_login(user)
    response = await client.get(reverse("run_metrics_csv", args=[run.pk]))
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"] == f'attachment; filename="try-{run.pk}-metrics.csv"'
    text = b"".join([piece async for piece in response.streaming_content]).decode()  # type: ignore[attr-defined]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [*rows[0]] == ["seq", "time", "attempt", "epoch", "step", "split", "loss", "top1"]
    assert [row["step"] for row in rows] == [str(step) for step in range(2501)], "each step once, in order"
    assert float(rows[0]["loss"]) == loss, "every digit"
    assert (rows[0]["top1"], rows[-1]["top1"], rows[-1]["split"]) == ("", "0.5", "val")
