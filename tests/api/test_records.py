"""Metrics, logs, checkpoints and models: what a run has recorded."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.api.conftest import Api, problem
from tests.api.test_training import CONTENT, checkpoint_of
from tests.helpers.plans import explained
from tests.helpers.tiny import board_of
from tests.helpers.world import line, point, store_events
from trainingapp.api.thinning import thinned
from trainingapp.contract.series import Point, frame_of
from trainingapp.models import SeriesChunk, TrainingRun, Weights
from trainingapp.runs import log_search
from trainingapp.runs.series import Series
from trainingapp.supervision.series_store import supersede

pytestmark = [pytest.mark.django_db, pytest.mark.database]
MAKE = Callable[..., TrainingRun]


def validated(step: int, **values: float) -> dict[str, Any]:
    return {"type": "metrics", "step": step, "data": {"split": "val", "values": values}}


# Metrics


def test_metrics_are_listed_in_order_without_superseded_ones(api: Api, run: TrainingRun) -> None:
    store_events(run, point(1, 3.0), point(2, 2.0), line("between"))
    supersede(run.pk, 2, 1, validation_due=False)
    store_events(run, {**validated(2, top1=0.5), "attempt": 2})
    body = api.get(f"training/{run.pk}/metrics").json()
    assert [(item["seq"], item["split"], item["values"]) for item in body["items"]] == [
        (1, "train", {"loss": 3.0}),
        (4, "val", {"top1": 0.5}),
    ]
    assert (body["seq"], body["thinned"]) == (4, False)


def test_metrics_since_a_number_are_those_above_it(api: Api, run: TrainingRun) -> None:
    store_events(run, point(1), point(2))
    seq = api.get(f"training/{run.pk}/metrics").json()["seq"]
    assert api.get(f"training/{run.pk}/metrics?since={seq}").json() == {"items": [], "seq": 2, "thinned": False}
    run.refresh_from_db()
    store_events(run, point(3))
    assert [item["step"] for item in api.get(f"training/{run.pk}/metrics?since={seq}").json()["items"]] == [3]


def test_metrics_are_filtered_by_name_and_split(api: Api, run: TrainingRun) -> None:
    store_events(run, point(1, 3.0), validated(1, loss=2.0, top1=0.5))

    def values(names: str) -> list[Any]:
        return [item["values"] for item in api.get(f"training/{run.pk}/metrics?names={names}").json()["items"]]

    assert values("loss") == [{"loss": 3.0}, {"loss": 2.0}]
    assert values("val/loss, train/top1") == [{"loss": 2.0}]
    assert values("nothing") == []


def test_thinned_metrics_keep_their_peaks(api: Api, run: TrainingRun) -> None:
    losses = [1.0] * 500
    losses[123], losses[321] = 99.0, -99.0
    store_events(run, *[point(step, loss) for step, loss in enumerate(losses)])
    body = api.get(f"training/{run.pk}/metrics?max_points=20").json()
    steps = [item["step"] for item in body["items"]]
    assert body["thinned"]
    assert len(steps) <= 20
    assert {0, 123, 321, 499} <= set(steps)
    assert steps == sorted(steps)


def test_thinning_keeps_points_of_every_split_and_accepts_gaps() -> None:
    losses = [None if index == 5 else float(index) for index in range(100)]
    points = [Point(index + 1, 1, 0, 1, index, "train", {"loss": loss}) for index, loss in enumerate(losses)]
    both = [Series(split, frame_of(points), 100) for split in ("train", "val")]
    kept = thinned(both, 10)
    assert [sum(entry["split"] == split for entry in kept) for split in ("train", "val")] == [8, 8]
    whole = thinned(both, 100)
    assert [entry["values"]["loss"] for entry in whole if entry["split"] == "val"] == losses


# Log


def test_the_log_is_paginated_by_a_cursor(api: Api, run: TrainingRun) -> None:
    store_events(run, *[line(f"line {number}") for number in range(1, 6)])
    path = f"training/{run.pk}/logs?limit=2"
    first = api.get(path).json()
    assert [item["message"] for item in first["items"]] == ["line 1", "line 2"]
    second = api.get(f"{path}&after={first['next']}").json()
    assert [item["message"] for item in second["items"]] == ["line 3", "line 4"]
    last = api.get(f"{path}&after={second['next']}").json()
    assert ([item["message"] for item in last["items"]], last["next"]) == (["line 5"], None)


def test_the_log_is_filtered_by_level_and_text(api: Api, run: TrainingRun) -> None:
    store_events(
        run, line("all is well"), line("nearly full", level="warning"), line("Disk FULL", level="error"), point(1)
    )

    def messages(query: str) -> list[str]:
        return [item["message"] for item in api.get(f"training/{run.pk}/logs?{query}").json()["items"]]

    assert messages("level=warning") == ["nearly full", "Disk FULL"]
    assert messages("q=full") == ["nearly full", "Disk FULL"]
    assert messages("q=full&level=error") == ["Disk FULL"]
    assert problem(api.get(f"training/{run.pk}/logs?level=loud"), 422)["errors"][0]["parameter"] == "level"
    assert problem(api.get(f"training/{run.pk}/logs?q=%00"), 422)["errors"][0]["parameter"] == "q"


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_lines_of_a_level_come_in_order_and_page_by_page(api: Api, run: TrainingRun, level: str) -> None:
    levels = ("debug", "info", "warning", "error")
    store_events(run, *(line(f"line {number}", level=levels[number % 4]) for number in range(40)), point(1))
    store_events(run, {"type": "status", "level": "warning", "data": {"to": "paused", "message": "held"}})
    expected = [seq for seq in range(1, 41) if (seq - 1) % 4 >= levels.index(level)] + [42] * (level != "error")
    found: list[int] = []
    after: int | None = 0
    while after is not None:
        page = api.get(f"training/{run.pk}/logs?level={level}&limit=7&after={after}").json()
        found += [item["seq"] for item in page["items"]]
        after = page["next"]
    assert found == expected


def test_a_rare_text_is_searched_in_parts_until_the_end_of_the_log(
    api: Api, run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_search, "SEARCHED_LINES", 10)
    store_events(run, *(line("needle" if number in (3, 34) else "hay") for number in range(1, 36)))
    answers = []
    after: int | None = 0
    while after is not None:
        page = api.get(f"training/{run.pk}/logs?q=needle&after={after}").json()
        answers.append(([item["seq"] for item in page["items"]], page["next"]))
        after = page["next"]
    assert answers == [([3], 10), ([], 20), ([], 30), ([34], None)]


def test_points_between_the_lines_do_not_divide_a_search(
    api: Api, run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_search, "SEARCHED_LINES", 10)
    store_events(run, *(point(step) for step in range(1, 40)), line("needle"))
    page = api.get(f"training/{run.pk}/logs?q=needle").json()
    assert ([item["message"] for item in page["items"]], page["next"]) == (["needle"], None)


def test_metrics_of_many_steps_take_as_many_queries_as_those_of_one(api: Api, run: TrainingRun) -> None:
    store_events(run, point(1))
    with explained(SeriesChunk._meta.db_table) as plans:
        assert len(api.get(f"training/{run.pk}/metrics").json()["items"]) == 1
    assert len(plans) == 1
    store_events(run, *(point(step) for step in range(2, 42)))
    with explained(SeriesChunk._meta.db_table) as plans:
        assert len(api.get(f"training/{run.pk}/metrics").json()["items"]) == 41
    assert len(plans) == 1


# Checkpoints


def test_checkpoints_are_listed_shown_and_downloaded(api: Api, make: MAKE) -> None:
    run = make("completed")
    checkpoint_of(run, 1)
    checkpoint_of(run, 2, is_best=True, metrics={"top1": 0.5})
    path = f"training/{run.pk}/checkpoints"
    assert [item["file"] for item in api.get(path).json()["items"]] == ["epoch_2.pt", "epoch_1.pt"]
    shown = api.get(f"{path}/epoch_2.pt").json()
    assert (shown["is_best"], shown["metrics"], shown["size_bytes"]) == (True, {"top1": 0.5}, len(CONTENT))
    assert api.get(f"{path}/best").json() == shown
    problem(api.get(f"{path}/last"), 404)
    problem(api.get(f"{path}/..%2F..%2Fconfig.json"), 404)


async def test_a_checkpoint_is_downloaded_as_stored(user: Any, make: MAKE, transactional_db: None) -> None:
    from asgiref.sync import sync_to_async
    from django.test import AsyncClient

    from tests.api.conftest import token_of

    run = await sync_to_async(make)("completed")
    await sync_to_async(checkpoint_of)(run, 1)
    secret = await sync_to_async(token_of)(user)
    response = await AsyncClient().get(
        f"/api/v1/training/{run.pk}/checkpoints/epoch_1.pt/download", headers={"Authorization": f"Bearer {secret}"}
    )
    assert b"".join([chunk async for chunk in response.streaming_content]) == CONTENT  # type: ignore[attr-defined]
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert response.headers["Content-Disposition"] == f'attachment; filename="try-{run.pk}-epoch_1.pt"'


def test_a_missing_or_corrupted_checkpoint_is_not_found(api: Api, make: MAKE) -> None:
    run = make("completed")
    path = checkpoint_of(run, 1).path
    download = f"training/{run.pk}/checkpoints/epoch_1.pt/download"
    problem(api.get(f"{download}?format=safetensors"), 404)
    assert problem(api.get(f"{download}?format=onnx"), 422)["errors"][0]["parameter"] == "format"
    path.unlink()
    problem(api.get(download), 404)


# Script and TensorBoard


def test_the_script_equals_that_of_the_page(api: Api, user_client: Client, make: MAKE) -> None:
    run = make("completed", environment={"cpu_threads": 3})
    response = api.get(f"training/{run.pk}/script")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/x-python; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="train.py"'
    assert response.content == user_client.get(reverse("run_script", args=[run.pk])).content
    compile(response.content, "train.py", "exec")


async def test_the_files_for_tensorboard_are_a_zip(user: Any, make: MAKE, transactional_db: None) -> None:
    from asgiref.sync import sync_to_async
    from django.test import AsyncClient

    from tests.api.conftest import token_of

    run = await sync_to_async(make)("completed")
    board_of(run, b"curves")
    headers = {"Authorization": f"Bearer {await sync_to_async(token_of)(user)}"}
    response = await AsyncClient().get(f"/api/v1/training/{run.pk}/tensorboard", headers=headers)
    body = b"".join([chunk async for chunk in response.streaming_content])  # type: ignore[attr-defined]
    assert response.headers["Content-Type"] == "application/zip"
    assert response.headers["Content-Length"] == str(len(body))
    assert response.headers["Content-Disposition"] == f'attachment; filename="try-{run.pk}-tensorboard.zip"'
    with zipfile.ZipFile(io.BytesIO(body)) as packed:
        assert packed.read(f"try-{run.pk}/events.out.tfevents.1") == b"curves"


def test_a_run_without_files_for_tensorboard_is_reported(api: Api, run: TrainingRun) -> None:
    assert problem(api.get(f"training/{run.pk}/tensorboard"), 404)["detail"].startswith("The run has no files")
    problem(api.get("training/999/tensorboard"), 404)
    problem(api.get("training/999/script"), 404)
    assert problem(api.post(f"training/{run.pk}/script"), 405)


# Saving


def test_saving_needs_an_existing_checkpoint(api: Api, make: MAKE) -> None:
    run = make("completed")
    problem(api.post(f"training/{run.pk}/save", {"name": "birds"}), 409, "not-possible")
    checkpoint_of(run, 1, is_best=True)
    body = problem(api.post(f"training/{run.pk}/save", {"name": "birds", "checkpoint": "no.pt"}), 422)
    assert body["errors"][0]["pointer"] == "#/checkpoint"


def test_a_checkpoint_is_saved_as_a_model_by_a_worker(api: Api, make: MAKE) -> None:
    run = make("completed")
    checkpoint_of(run, 1)
    checkpoint_of(run, 2, is_best=True)
    order = {"name": "birds", "note": "the first", "licence": "CC0"}
    response = api.post(f"training/{run.pk}/save", order)
    weights = Weights.objects.get()
    assert response.status_code == 201
    assert response.json() == {
        "id": weights.pk,
        "name": "birds",
        "version": 1,
        "state": "pending",
        "run": run.pk,
        "checkpoint": "epoch_2.pt",
    }
    assert (weights.note, weights.licence, weights.owner) == ("the first", "CC0", run.owner)
    assert api.post(f"training/{run.pk}/save", order).json() == response.json()  # the same again is done already
    named = api.post(f"training/{run.pk}/save", {**order, "checkpoint": "epoch_1.pt"}).json()
    assert (named["version"], named["checkpoint"]) == (2, "epoch_1.pt")


# Deletion


def test_a_checkpoint_is_deleted_unless_it_is_required(api: Api, other_api: Api, make: MAKE) -> None:
    run = make("completed")
    for number in (1, 2, 3):
        checkpoint_of(run, number, is_pinned=number == 2)
    path = f"training/{run.pk}/checkpoints"
    problem(other_api.delete(f"{path}/epoch_1.pt"), 403)
    assert api.delete(f"{path}/epoch_1.pt").json() == {"bytes": len(CONTENT), "files": 1}
    problem(api.delete(f"{path}/epoch_1.pt"), 404)
    assert "pinned" in problem(api.delete(f"{path}/epoch_2.pt"), 409, "not-possible")["detail"]
    assert [item["file"] for item in api.get(path).json()["items"]] == ["epoch_3.pt", "epoch_2.pt"]
