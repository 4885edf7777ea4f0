"""Models, devices, the queue and jobs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.api.conftest import Api, api_of, problem, token_of
from tests.helpers.machines import machine
from trainingapp.contract.messages.devices import GPU_LOST
from trainingapp.models import Device, DeviceHold, Host, Job, Tag, TrainingRun, Weights

pytestmark = pytest.mark.django_db
MAKE = Callable[..., TrainingRun]


@pytest.fixture
def weights(user: User, tmp_path: Path, settings: Any) -> Weights:
    settings.WEIGHTS_DIR = tmp_path / "weights"
    found = Weights.objects.create(
        name="Birds!", version=2, owner=user, task="classification", architecture="resnet18", note="finches"
    )
    found.folder.mkdir(parents=True)
    found.path.write_bytes(b"abc")
    return found


def test_weights_are_listed_and_shown(api: Api, weights: Weights, user: User) -> None:
    Weights.objects.create(name="cats", version=1, owner=user, task="detection", architecture="ssdlite320")

    def listed(query: str) -> list[str]:
        return [item["name"] for item in api.get(f"weights/?order=name&{query}").json()["items"]]

    assert listed("") == ["Birds!", "cats"]
    assert listed("task=detection") == ["cats"]
    assert listed("q=finch") == ["Birds!"]
    assert listed("name=cats") == ["cats"]
    shown = api.get(f"weights/{weights.pk}").json()
    assert (shown["version"], shown["architecture"], shown["run"]) == (2, "resnet18", None)
    problem(api.get("weights/4711"), 404)


def test_private_models_are_not_found_by_other_users(other_api: Api, weights: Weights) -> None:
    problem(other_api.delete(f"weights/{weights.pk}"), 403)
    Weights.objects.update(visibility="private")
    for path in (f"weights/{weights.pk}", f"weights/{weights.pk}/download"):
        problem(other_api.get(path), 404)


def test_weights_are_exported_by_a_job_of_the_caller(other_api: Api, weights: Weights) -> None:
    path = f"weights/{weights.pk}/export"
    problem(other_api.post(path, {"formats": ["onnx"]}), 409, "not-possible")  # its file is being made
    Weights.objects.update(state="ready", report={"is_whole": True})
    response = other_api.post(path, {"formats": ["onnx", "pt"]})
    job = response.json()
    assert (response.status_code, job["kind"], job["state"]) == (202, "export", "waiting")
    problem(other_api.get(f"jobs/{job['id']}/files/export.zip"), 404)
    for wrong in ([], ["tflite"], ["pt"] * 9):
        problem(other_api.post(path, {"formats": wrong}), 422)
    options = {"batch": "dynamic", "size": "dynamic", "opset": 18, "half": True}
    asked = other_api.post(path, {"formats": ["openvino"], **options})
    assert Job.objects.get(pk=asked.json()["id"]).params["options"] == {**options, "nms": False}
    for wrong_option in ({"batch": "8"}, {"opset": 3}, {"opset": "newest"}):
        problem(other_api.post(path, {"formats": ["onnx"], **wrong_option}), 422)
    problem(other_api.post(path, {"formats": ["onnx"], "nms": True}), 409, "not-possible")  # no detector


def test_weights_are_deleted_by_their_owner(api: Api, other_api: Api, weights: Weights) -> None:
    problem(other_api.delete(f"weights/{weights.pk}"), 403)
    assert api.delete(f"weights/{weights.pk}").json() == {"bytes": 3, "files": 1}
    problem(api.delete(f"weights/{weights.pk}"), 404)


@pytest.mark.django_db(transaction=True)
async def test_weights_are_downloaded_as_stored(user: User, weights: Weights) -> None:
    secret = await sync_to_async(token_of)(user)
    path = f"/api/v1/weights/{weights.pk}/download"
    response = await AsyncClient().get(path, headers={"Authorization": f"Bearer {secret}"})
    assert b"".join([chunk async for chunk in response.streaming_content]) == b"abc"  # type: ignore[attr-defined]
    assert response.headers["Content-Disposition"] == 'attachment; filename="birds-v2.safetensors"'


def test_devices_name_the_runs_that_occupy_them(api: Api, make: MAKE) -> None:
    run, host = make("running"), Host.objects.create(name="studio", slots=2, seen_at=timezone.now())
    cpu = Device.objects.create(host=host, kind="cpu")
    Device.objects.create(host=host, kind="gpu", index=1)
    DeviceHold.objects.create(device=cpu, run=run, taken_at=timezone.now())
    DeviceHold.objects.create(device=cpu, run=make(), taken_at=timezone.now(), released_at=timezone.now())
    (told,) = api.get("devices").json()["items"]
    assert (told["name"], told["slots"], told["is_away"]) == ("studio", 2, False)
    assert [(each["torch_name"], each["runs"]) for each in told["devices"]] == [("cpu", [run.pk]), ("cuda:1", [])]


def test_hosts_tell_whether_their_worker_is_leaving(api: Api) -> None:
    for state in ("working", "leaving", "left"):
        machine(f"host {state}", state=state)
    told = {each["name"]: (each["state"], each["is_away"]) for each in api.get("devices").json()["items"]}
    assert told == {
        "host working": ("working", False),
        "host leaving": ("leaving", False),
        "host left": ("left", True),
    }


def test_a_device_that_cannot_be_used_says_why(api: Api) -> None:
    host = Host.objects.create(name="studio", seen_at=timezone.now())
    Device.objects.create(host=host, kind="gpu", problem="lost", problem_data=GPU_LOST(error="GPU is lost").as_data())
    (told,) = api.get("devices").json()["items"]
    assert (told["gpu_problem"], told["devices"][0]["problem"]) == ("", "lost")
    assert told["devices"][0]["explanation"].startswith("The driver has lost it (GPU is lost).")


def test_a_gpu_is_put_in_quarantine_and_released(admin: User) -> None:
    api = api_of(admin)
    host = Host.objects.create(name="studio", seen_at=timezone.now())
    gpu, cpu = Device.objects.create(host=host, kind="gpu", uuid="GPU-1"), Device.objects.create(host=host, kind="cpu")
    told = api.post(f"devices/{gpu.pk}/quarantine", {"reason": "fan broken"}).json()
    assert (told["id"], told["uuid"], told["explanation"].endswith("fan broken")) == (gpu.pk, "GPU-1", True)
    assert told["quarantined_at"]
    problem(api.post(f"devices/{gpu.pk}/quarantine", {}), 409, "not-possible")
    problem(api.post(f"devices/{cpu.pk}/quarantine", {}), 409, "not-possible")
    problem(api.post(f"devices/{gpu.pk}/quarantine", {"reason": "x" * 201}), 422)
    told = api.post(f"devices/{gpu.pk}/release", {}).json()
    assert (told["quarantined_at"], told["problem"]) == (None, "unchecked")
    problem(api.post("devices/4711/release", {}), 404)


def test_the_queue_takes_no_query_for_each_run(api: Api, make: MAKE) -> None:
    queries: list[int] = []
    tag = Tag.objects.create(name="night")
    for rank in (1, 2, 3, 4):
        make("queued", queue_rank=float(rank)).tags.add(tag)
        with CaptureQueriesContext(connection) as captured:
            items = api.get("queue").json()["items"]
        queries.append(len(captured))
    assert queries[1] == queries[2] == queries[3]
    assert [item["tags"] for item in items] == [["night"]] * 4


def test_the_queue_is_listed_in_order_and_can_be_reordered(api: Api, make: MAKE) -> None:
    first, second, third = (make("queued", queue_rank=rank, queued_at=timezone.now()) for rank in (1, 2, 3))

    def order() -> list[int]:
        items = api.get("queue").json()["items"]
        assert [item["place"] for item in items] == list(range(1, len(items) + 1))
        return [item["id"] for item in items]

    assert order() == [first.pk, second.pk, third.pk]
    body = api.post("queue/move", {"run": third.pk, "before": second.pk}).json()
    assert [item["id"] for item in body["items"]] == order() == [first.pk, third.pk, second.pk]
    api.post("queue/move", {"run": third.pk, "to": "last"})
    api.post("queue/move", {"run": first.pk, "after": second.pk})
    assert order() == [second.pk, first.pk, third.pk]


def test_an_invalid_move_is_refused(api: Api, other_api: Api, make: MAKE) -> None:
    queued, paused = make("queued"), make("paused")
    problem(api.post("queue/move", {"run": queued.pk}), 422)
    problem(api.post("queue/move", {"run": queued.pk, "to": "first", "before": 1}), 422)
    problem(api.post("queue/move", {"run": paused.pk, "to": "first"}), 409, "not-possible")
    problem(api.post("queue/move", {"run": queued.pk, "before": paused.pk}), 409, "not-possible")
    problem(api.post("queue/move", {"run": 4711, "to": "first"}), 404)
    problem(other_api.post("queue/move", {"run": queued.pk, "to": "last"}), 403)


def test_hidden_runs_keep_their_positions(other_api: Api, make: MAKE) -> None:
    make("queued", queue_rank=1, visibility="private")
    seen = make("queued", queue_rank=2)
    assert [(item["id"], item["place"]) for item in other_api.get("queue").json()["items"]] == [(seen.pk, 2)]


def test_users_see_only_their_own_jobs(api: Api, other_api: Api, user: User) -> None:
    job = Job.objects.create(kind="preflight", owner=user, total=9)
    assert [item["id"] for item in api.get("jobs?state=waiting").json()["items"]] == [str(job.pk)]
    assert api.get("jobs?state=done").json()["items"] == []
    assert api.get(f"jobs/{job.pk}").json()["total"] == 9
    assert other_api.get("jobs").json()["items"] == []
    problem(other_api.get(f"jobs/{job.pk}"), 404)
    problem(other_api.post(f"jobs/{job.pk}/cancel"), 404)
    problem(api.get("jobs/not-an-id"), 422)


def test_a_job_is_cancelled_permanently(api: Api, user: User) -> None:
    job = Job.objects.create(kind="preflight", owner=user)
    for _ in range(2):
        assert api.client.post(f"/api/v1/jobs/{job.pk}/cancel").json()["state"] == "cancelled"
