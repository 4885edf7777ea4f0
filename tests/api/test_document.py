"""The OpenAPI document, and the page that shows it."""

from typing import Any

import pytest
from django.test import Client

from tests.api.conftest import Api
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.runs.verb_registry import RUN_VERBS

#: Required paths and methods, and schemas by name.
ASKED = {
    "/api/v1/training/": {"get", "post"},
    "/api/v1/training/{pk}": {"get", "put", "delete"},
    "/api/v1/training/{pk}/control": {"post"},
    "/api/v1/training/{pk}/metrics": {"get"},
    "/api/v1/training/{pk}/logs": {"get"},
    "/api/v1/training/{pk}/checkpoints": {"get"},
    "/api/v1/training/{pk}/save": {"post"},
    "/api/v1/training/{pk}/events": {"get"},
}
SCHEMAS = {
    *("TrainingRunCreate", "TrainingRunUpdate", "TrainingRunResponse", "TrainingControlRequest"),
    *("TrainingControlResponse", "TrainingSaveRequest", "TrainingSaveResponse", "CheckpointInfo", "MetricsEntry"),
    *("LogEntry", "ExperimentListItem", "TrainingStatusResponse", "ProblemDetails"),
}


@pytest.fixture
def document(db: None) -> dict[str, Any]:
    """Every user may read it."""
    response = Api().get("openapi.json")
    assert response.status_code == 200
    body: dict[str, Any] = response.json()
    return body


def test_the_required_operations_exist(document: dict[str, Any]) -> None:
    for path, methods in ASKED.items():
        assert set(document["paths"][path]) == methods
    assert set(document["components"]["schemas"]) >= SCHEMAS
    actions = document["components"]["schemas"]["TrainingControlRequest"]["properties"]["action"]["enum"]
    assert actions == list(RUN_VERBS.api_actions())


def test_every_operation_is_described_with_its_errors(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for operations in document["paths"].values():
        for method, operation in operations.items():
            assert operation["summary"]
            assert operation["description"]
            assert set(operation["tags"]) <= tags
            assert {"401", "403", "429"} <= set(operation["responses"])
            for status, answer in operation["responses"].items():
                assert answer["description"]
                expected = {"application/problem+json"} if status >= "400" else set(answer["content"])
                assert set(answer["content"]) == expected
            names = {parameter["name"] for parameter in operation["parameters"]}
            assert ("Idempotency-Key" in names) == (method == "post")


def test_operations_have_short_unique_names(document: dict[str, Any]) -> None:
    names = [each["operationId"] for operations in document["paths"].values() for each in operations.values()]
    assert len(names) == len(set(names))
    assert "list_runs" in names


def test_the_configurations_are_described_by_task(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert len(schemas["TrainingRunCreate"]["properties"]["config"]["anyOf"]) == len(TASKS)
    fields = schemas["DetectionConfig"]["properties"]
    assert fields["max_det"]["description"] == "Keeps at most this many boxes per image, the most confident ones."
    assert (fields["max_det"]["label"], fields["max_det"]["unit"]) == ("Max detections", "boxes")
    assert (fields["image_size"]["minimum"], fields["image_size"]["maximum"]) == (64, 2048)
    assert "fcos_resnet18_fpn" in fields["model"]["enum"]
    assert fields["freeze"]["enum"] == ["none", "backbone"]


def test_the_page_requires_a_login(user_client: Client) -> None:
    assert Client().get("/api/v1/docs").headers["Location"].startswith("/login/")
    response = user_client.get("/api/v1/docs")
    assert response.status_code == 200
    assert "ninja/swagger-ui-bundle.js" in response.content.decode()
