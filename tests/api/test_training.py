"""The ten endpoints of runs: each works, and each refuses in the same format."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from tests.api.conftest import Api, api_of, problem
from tests.helpers.threads import in_threads
from trainingapp.models import Checkpoint, Dataset, TrainingRun

pytestmark = [pytest.mark.django_db, pytest.mark.database]
MAKE = Callable[..., TrainingRun]


def new_run(on: Dataset, **fields: Any) -> dict[str, Any]:
    return {"name": "try", "dataset": on.pk, "config": {"epochs": 3}, **fields}


# List


def test_the_list_is_paged_and_newest_first(api: Api, make: MAKE) -> None:
    numbers = [make().pk for _ in range(5)]
    body = api.get("training/?skip=1&limit=2").json()
    assert [item["id"] for item in body["items"]] == [numbers[3], numbers[2]]
    assert (body["total"], body["skip"], body["limit"]) == (5, 1, 2)


def test_the_list_is_filtered_and_ordered(api: Api, make: MAKE, other_user: User) -> None:
    paused, stopped = make("paused", name="a bird"), make("stopped", name="b bird")
    other = make("paused", name="cat", owner=other_user)

    def listed(query: str) -> list[int]:
        return [item["id"] for item in api.get(f"training/?order=name&{query}").json()["items"]]

    assert listed("status=paused") == [paused.pk, other.pk]
    assert listed("q=BIRD") == [paused.pk, stopped.pk]
    assert listed("owner=grace") == [other.pk]
    assert listed(f"dataset={paused.dataset_id}&task=classification") == [paused.pk, stopped.pk, other.pk]
    assert listed("task=detection") == []
    assert [item["id"] for item in api.get("training/?order=-name").json()["items"]] == [
        other.pk,
        stopped.pk,
        paused.pk,
    ]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("skip=-1", "skip"),
        ("status=lost", "status"),
    ],
)
def test_a_wrong_parameter_is_named(api: Api, query: str, parameter: str) -> None:
    body = problem(api.get(f"training/?{query}"), 422)
    assert [error["parameter"] for error in body["errors"]] == [parameter]


# Create


def test_a_run_is_created_and_corrections_are_listed(api: Api, dataset: Dataset, user: User) -> None:
    response = api.post("training/", new_run(dataset, config={"epochs": 3, "image_size": 60}, priority=4))
    body = response.json()
    run = TrainingRun.objects.get()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/api/v1/training/{run.pk}"
    assert (run.owner, run.status, run.priority, run.config["image_size"]) == (user, "pending", 4, 64)
    assert body["corrections"] == ["image_size was changed from 60 to 64, a multiple of 32."]
    assert (body["owner"], body["dataset_name"], body["verbs"]) == ("ada", "pets", ["start", "delete"])


def test_the_dataset_decides_how_many_labels_an_image_has(api: Api, dataset: Dataset) -> None:
    Dataset.objects.filter(pk=dataset.pk).update(label_mode="multi")
    assert api.get(f"datasets/{dataset.pk}").json()["label_mode"] == "multi"
    config = api.post("training/", new_run(dataset)).json()["config"]
    assert (config["label_mode"], config["best_metric"]) == ("multi", "map")
    body = problem(api.post("training/", new_run(dataset, config={"label_mode": "single"})), 409)
    assert "label_mode" in body["detail"]
    wrong = api.post("training/", new_run(dataset, config={"class_balance": "sampler"}))
    assert problem(wrong, 422)["errors"][0]["pointer"] == "#/config/class_balance"


def test_a_run_can_be_queued_on_creation(api: Api, dataset: Dataset) -> None:
    assert api.post("training/", new_run(dataset, start=True)).json()["status"] == "queued"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"name": ""}, "#/name"),
        ({"dataset": 4711}, "#/dataset"),
        ({"config": {"epochs": 0}}, "#/config/epochs"),
        ({"config": {"colour": "red"}}, "#/config/colour"),
        ({"config": {"task": "painting"}}, "#/config/task"),
        ({"priority": "3"}, "#/priority"),
        ({"speed": 1}, "#/speed"),
    ],
)
def test_errors_of_a_new_run_are_named(api: Api, dataset: Dataset, fields: Any, pointer: str) -> None:
    body = problem(api.post("training/", new_run(dataset, **fields)), 422)
    assert [error["pointer"] for error in body["errors"]] == [pointer]
    assert not TrainingRun.objects.exists()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": ""}, "name: Enter at least 1 characters."),
        ({"name": "x" * 121}, "name: Enter at most 120 characters."),
        ({"name": 3}, "name: Enter text."),
        ({"config": []}, "config: Send an object with fields."),
        ({"config": {"optimizer": "adagrad"}}, "config.optimizer: Choose one of 'SGD', "),
    ],
)
def test_errors_are_explained(api: Api, dataset: Dataset, fields: Any, words: str) -> None:
    refused = problem(api.post("training/", {"name": "a", "dataset": dataset.pk, **fields}), 422)
    assert refused["detail"].startswith(words)


def test_all_wrong_fields_are_named_together(api: Api, dataset: Dataset) -> None:
    body = problem(api.post("training/", new_run(dataset, config={"epochs": 0, "batch_size": 0})), 422)
    assert {error["pointer"] for error in body["errors"]} == {"#/config/epochs", "#/config/batch_size"}
    assert "and 1 more" in body["detail"]


def test_a_dataset_that_is_not_ready_is_a_conflict(api: Api, dataset: Dataset) -> None:
    Dataset.objects.update(status="importing")
    problem(api.post("training/", new_run(dataset)), 409, "not-possible")


def test_a_run_can_be_checked_before_it_is_created(api: Api, dataset: Dataset) -> None:
    response = api.post("training/check", {"dataset": dataset.pk, "config": {"batch_size": 8}})
    assert (response.status_code, response.json()["kind"], response.json()["state"]) == (202, "preflight", "waiting")
    assert problem(api.post("training/check", {"dataset": 4711}), 422)["errors"][0]["pointer"] == "#/dataset"
    assert not TrainingRun.objects.exists()


@pytest.mark.parametrize(("number", "status"), [("4711", 409), ("9" * 40, 422)])
def test_a_missing_checkpoint_is_refused_as_start(api: Api, dataset: Dataset, number: str, status: int) -> None:
    config = {"start_from": f"run/{number}/epoch_1.pt"}
    problem(api.post("training/", new_run(dataset, config=config)), status)


def test_a_viewer_cannot_create_runs(dataset: Dataset, other_user: User) -> None:
    from django.contrib.auth.models import Group

    other_user.groups.add(Group.objects.get(name="viewer"))
    problem(api_of(other_user).post("training/", new_run(dataset)), 403)


# Bodies


@pytest.mark.parametrize(
    "body", ["{", "[1]", '"run"', '{"name": NaN}', '{"name": "\\ud800"}', '{"name": "\\u0000"}', "[" * 9999]
)
def test_a_body_that_is_not_a_json_object_is_refused(api: Api, body: str) -> None:
    response = api.client.post("/api/v1/training/", body, content_type="application/json")
    problem(response, response.status_code)
    assert response.status_code in (400, 422)


def test_a_body_of_another_type_is_refused(api: Api) -> None:
    problem(api.client.post("/api/v1/training/", {"name": "form"}), 415)


def test_a_body_that_is_too_large_is_refused(api: Api, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    problem(api.post("training/", {"name": "x" * 200}), 413)


# Show, status


def test_a_run_is_shown_with_its_etag(api: Api, make: MAKE) -> None:
    run = make("running", step=5, total_steps=20)
    response = api.get(f"training/{run.pk}")
    assert response.headers["ETag"] == '"1"'
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json()["config"]["task"] == "classification"
    assert api.get(f"training/{run.pk}/status").json()["progress"] == 0.25


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", str(2**63), "1e9", "99999999999999999999999"])
def test_an_invalid_run_number_is_refused(api: Api, number: str) -> None:
    assert problem(api.get(f"training/{number}"), 422)["errors"][0]["parameter"] == "pk"


def test_a_missing_run_is_not_found(api: Api) -> None:
    for path in ("", "/status", "/metrics", "/logs", "/checkpoints", "/checkpoints/x.pt"):
        problem(api.get(f"training/4711{path}"), 404)


def test_a_private_run_of_another_user_is_not_found(other_api: Api, make: MAKE) -> None:
    run = make(visibility="private")
    problem(other_api.get(f"training/{run.pk}"), 404)
    problem(other_api.delete(f"training/{run.pk}"), 404)
    assert other_api.get("training/").json()["items"] == []


# Change


def test_a_change_needs_the_version_that_was_read(api: Api, run: TrainingRun) -> None:
    path = f"training/{run.pk}"
    problem(api.put(path, {"name": "b"}), 428)
    response = api.put(path, {"name": "b", "priority": 7}, If_Match='"1"')
    assert (response.json()["name"], response.json()["priority"], response.headers["ETag"]) == ("b", 7, '"2"')
    assert problem(api.put(path, {"name": "c"}, If_Match='"1"'), 412)["errors"] == []
    assert api.put(path, {"name": "d"}, If_Match='W/"2"').json()["version"] == 3
    assert api.put(path, {"name": "e"}, If_Match="*").json()["version"] == 4
    for tag in ("4", '"x"', '""', '"4', "W/4", '"²"'):
        assert api.put(path, {"name": "f"}, If_Match=tag).status_code == 412, tag
    assert TrainingRun.objects.get().name == "e"


def test_an_unchanged_update_keeps_the_version(api: Api, run: TrainingRun) -> None:
    assert api.put(f"training/{run.pk}", {"name": run.name}, If_Match='"1"').json()["version"] == 1
    assert api.put(f"training/{run.pk}", {}, If_Match='"1"').json()["version"] == 1


def test_limits_are_set_changed_and_reset(api: Api, dataset: Dataset) -> None:
    body = api.post("training/", new_run(dataset, soft_limit_h=1.5, hard_limit_h=2, max_recoveries=1)).json()
    names = ("soft_limit_h", "hard_limit_h", "max_recoveries")
    assert [body[name] for name in names] == [1.5, 2, 1]
    path = f"training/{body['id']}"
    body = api.put(path, {"hard_limit_h": "studio", "max_recoveries": "studio"}, If_Match="*").json()
    assert [body[name] for name in names] == [1.5, None, None]
    assert problem(api.put(path, {"hard_limit_h": -1}, If_Match="*"), 422)["errors"][0]["pointer"].startswith(
        "#/hard_limit_h"
    )
    assert api.put(path, {"name": "studio"}, If_Match="*").json()["name"] == "studio"


@pytest.mark.django_db(transaction=True)
def test_of_two_concurrent_changes_one_is_refused(user: User, run: TrainingRun) -> None:
    callers = [api_of(user) for _ in range(4)]
    path = f"training/{run.pk}"
    calls = [
        lambda caller=caller, number=number: caller.put(path, {"name": f"name {number}"}, If_Match='"1"').status_code
        for number, caller in enumerate(callers)
    ]
    assert sorted(map(str, in_threads(calls))) == ["200", "412", "412", "412"]
    assert TrainingRun.objects.get().version == 2


# Control


@pytest.mark.parametrize(
    ("before", "action", "after"),
    [
        ("pending", "start", "queued"),
        ("queued", "pause", "paused"),
        ("paused", "resume", "queued"),
        ("queued", "stop", "stopped"),
        ("failed", "retry", "queued"),
    ],
)
def test_each_action_is_idempotent(api: Api, make: MAKE, before: str, action: str, after: str) -> None:
    run = make(before)
    for _ in range(2):
        body = api.post(f"training/{run.pk}/control", {"action": action}).json()
        assert (body["action"], body["run"]["status"]) == (action, after)


def test_the_requested_action_of_a_running_run_is_shown(api: Api, make: MAKE) -> None:
    run = make("running")
    assert api.post(f"training/{run.pk}/control", {"action": "pause"}).json()["run"]["wanted"] == "pause"


def test_requests_are_stored_for_a_running_run(api: Api, make: MAKE) -> None:
    run = make("running")
    for action in ("checkpoint", "evaluate"):
        assert api.post(f"training/{run.pk}/control", {"action": action}).status_code == 200
    assert [order["command"] for order in TrainingRun.objects.get().requests] == ["checkpoint", "evaluate"]


def test_a_run_is_force_stopped(api: Api, make: MAKE) -> None:
    run = make("running")
    assert api.post(f"training/{run.pk}/control", {"action": "force_stop"}).json()["run"]["wanted"] == "kill"


def test_a_run_is_extended(api: Api, make: MAKE) -> None:
    run = make("paused", epoch=1)
    path = f"training/{run.pk}/control"
    assert api.post(path, {"action": "extend", "epochs": 9}).json()["run"]["total_epochs"] == 9
    assert problem(api.post(path, {"action": "extend"}), 422)["errors"][0]["pointer"] == "#/epochs"


def test_a_run_is_cloned_by_a_user_who_sees_it(other_api: Api, make: MAKE) -> None:
    run = make("completed")
    body = other_api.post(f"training/{run.pk}/control", {"action": "clone", "name": "mine"}).json()["run"]
    assert (body["name"], body["owner"], body["status"], body["forked_from"]) == ("mine", "grace", "pending", run.pk)


#: Starts like a file of torch.save.
CONTENT = b"PK\x03\x04 and so on"


def checkpoint_of(run: TrainingRun, number: int, **fields: Any) -> Checkpoint:
    about = {"attempt": 1, "epoch": number, "step": number, "reason": "epoch", "size_bytes": len(CONTENT)}
    found = Checkpoint(run=run, file=f"epoch_{number}.pt", created_at=run.created_at, **{**about, **fields})
    found.save()
    found.path.parent.mkdir(parents=True, exist_ok=True)
    found.path.write_bytes(CONTENT)
    return found


def test_a_run_is_forked_from_its_best_or_a_named_checkpoint(api: Api, make: MAKE) -> None:
    run = make("completed")
    path = f"training/{run.pk}/control"
    problem(api.post(path, {"action": "fork"}), 409, "not-possible")
    checkpoint_of(run, 1, is_best=True)
    checkpoint_of(run, 2, is_last=True)
    body = api.post(path, {"action": "fork", "config": {"epochs": 30}}).json()["run"]
    assert (body["config"]["epochs"], TrainingRun.objects.get(pk=body["id"]).forked_checkpoint) == (30, "epoch_1.pt")
    named = {"action": "fork", "checkpoint": "epoch_2.pt", "mode": "weights"}
    assert api.post(path, named).json()["run"]["config"]["start_from"] == f"run/{run.pk}/epoch_2.pt"
    assert problem(api.post(path, {**named, "checkpoint": "no.pt"}), 422)["errors"][0]["pointer"] == "#/checkpoint"
    assert (
        problem(api.post(path, {"action": "fork", "config": {"epochs": 0}}), 422)["errors"][0]["pointer"]
        == "#/config/epochs"
    )


def test_an_impossible_action_is_a_conflict_and_an_unknown_one_invalid(api: Api, make: MAKE) -> None:
    run = make("completed")
    problem(api.post(f"training/{run.pk}/control", {"action": "pause"}), 409, "not-possible")
    body = problem(api.post(f"training/{run.pk}/control", {"action": "fly"}), 422)
    assert "start" in body["detail"]


# Delete


def test_a_run_is_deleted_with_its_files(api: Api, make: MAKE) -> None:
    run = make("stopped")
    checkpoint_of(run, 1)
    assert api.delete(f"training/{run.pk}").json() == {"bytes": len(CONTENT), "files": 1}
    assert not run.folder.exists()
    problem(api.delete(f"training/{run.pk}"), 404)


def test_a_running_run_is_not_deleted(api: Api, make: MAKE) -> None:
    problem(api.delete(f"training/{make('running').pk}"), 409, "not-possible")
    assert TrainingRun.objects.exists()


# Permissions


def test_other_users_can_read_but_not_change(other_api: Api, make: MAKE) -> None:
    run = make("queued")
    assert other_api.get(f"training/{run.pk}").status_code == 200
    problem(other_api.post(f"training/{run.pk}/control", {"action": "stop"}), 403)
    problem(other_api.put(f"training/{run.pk}", {"name": "mine"}, If_Match="*"), 403)
    problem(other_api.delete(f"training/{run.pk}"), 403)
    problem(other_api.post(f"training/{run.pk}/save", {"name": "mine"}), 403)
    assert TrainingRun.objects.get().status == "queued"


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("training/", "delete", "GET, POST"),
        ("training/1", "post", "DELETE, GET, PUT"),
        ("training/1/control", "get", "POST"),
        ("training/1/metrics", "put", "GET"),
    ],
)
def test_a_wrong_method_is_refused_with_the_allowed_ones(api: Api, path: str, method: str, allowed: str) -> None:
    response = getattr(api.client, method)(f"/api/v1/{path}")
    assert allowed in problem(response, 405)["detail"]
    assert response.headers["Allow"] == allowed


@pytest.mark.parametrize("path", ["nothing", "training", "training/1/nothing", "v2/", ""])
def test_an_unknown_address_is_a_problem_too(api: Api, path: str) -> None:
    body = problem(api.get(path), 404)
    assert ("slash" in body["detail"]) == (path == "training")


def test_head_is_answered_like_get_without_a_body(api: Api, run: TrainingRun) -> None:
    response = api.client.head(f"/api/v1/training/{run.pk}")
    assert (response.status_code, response.content, response.headers["ETag"]) == (200, b"", '"1"')
