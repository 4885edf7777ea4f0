"""The OpenAPI document: that of django-ninja, with every refusal that the gateway may return.

Refusals follow from rules (what has a body may be 400, 415 and 422, and so on); SPECIAL names those that are an
operation's own.
"""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI

from trainingapp.api.idempotency import HEADER, PATTERN
from trainingapp.api.problems import CONTENT_TYPE, Problem, ProblemDetails
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.runs.downloads import CSV_TYPE, PARQUET_TYPE, SCRIPT_TYPE, ZIP_TYPE

#: A part of the document: nested JSON.
JsonObject = dict[str, Any]

TAGS = [
    {"name": "training", "description": "Runs: create, control, watch, save."},
    {"name": "sweeps", "description": "Searches over configurations, with their trials."},
    {"name": "datasets", "description": "Datasets, their import and uploads in parts."},
    {"name": "weights", "description": "The library of trained weights."},
    {"name": "system", "description": "Devices, the queue and jobs."},
    {"name": "notifications", "description": "Your notifications, and webhooks."},
]
#: Refusals of single operations, beside those that follow from rules.
SPECIAL: dict[str, tuple[int, ...]] = {
    "stream_events": (503,),
    "change_run": (409, 412, 428),
    "delete_run": (409,),
    "delete_sweep": (409,),
    "change_sweep": (409,),
    "compare_runs": (404,),
    "compare_images": (404, 409),
    "run_script": (409,),
    "remove_checkpoint": (409,),
    "change_checkpoint": (409,),
    "upload_dataset": (413,),
    "upload_weights": (413,),
    "begin_upload": (413,),
    "send_part": (409, 413),
    "delete_dataset": (409,),
    "remove_weights": (409,),
    "delete_published": (404, 409),
    "run_metrics_parquet": (409,),
    "resolve_weights": (404,),
    "download_resolved_weights": (404,),
    "change_weights": (409, 412, 428),
    "create_webhook": (409,),
    "change_webhook": (409,),
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"application/octet-stream": _BINARY}
_SCRIPT_BEGINS = '#!/usr/bin/env python3\n"""Repeat a run of CV Studio without the studio.\n'
_CSV_BEGINS = "seq,time,attempt,epoch,step,split,loss,top1\n2,2026-01-01T12:00:00+00:00,1,1,10,train,0.693,0.5\n"
_EVENT = {
    "type": "object",
    "description": "One event; `data` is JSON.",
    "properties": {
        "id": {"type": "string", "description": "Number of the event; state and gone have none."},
        "event": {"enum": ["log", "metrics", "checkpoint", "sample", "status", "state", "gone", "signed-out"]},
        "data": {"type": "string"},
    },
    "required": ["event", "data"],
}
#: What is no JSON, by operation.
CONTENTS: dict[str, JsonObject] = {
    "download_checkpoint": _FILE,
    "download_weights": _FILE,
    "download_resolved_weights": _FILE,
    "download_job_file": _FILE,
    "run_script": {SCRIPT_TYPE: {"schema": {"type": "string"}, "example": _SCRIPT_BEGINS}},
    "run_metrics_csv": {CSV_TYPE: {"schema": {"type": "string"}, "example": _CSV_BEGINS}},
    "run_metrics_parquet": {PARQUET_TYPE: _BINARY},
    "run_metrics_tensorboard": _FILE,
    "run_tensorboard": {ZIP_TYPE: _BINARY},
    "run_report": {"text/html": {"schema": {"type": "string"}}, ZIP_TYPE: _BINARY},
    "stream_events": {"text/event-stream": {"schema": _EVENT}},
}
MEANINGS = {
    400: "The request cannot be read.",
    401: "No token, or one that is unknown, expired or revoked.",
    403: "You may not do this, or the token lacks the scope for it.",
    404: "It does not exist, or you may not see it.",
    409: "It is not possible now.",
    412: "Another user has changed it since you read it.",
    413: "The body is too large.",
    415: "The body is of another type.",
    422: "Something in the request is wrong; `errors` says what.",
    428: "If-Match is missing.",
    429: "Too many requests in this minute; Retry-After says how many seconds to wait.",
    503: "Too many streams are open; Retry-After says how many seconds to wait.",
}


@cache
def schema_of(api: NinjaAPI) -> JsonObject:
    """The whole document. It is the same for every user, so it is made once."""
    document: JsonObject = dict(api.get_openapi_schema(path_prefix="/api/v1/"))
    document["tags"] = TAGS
    components = document["components"]["schemas"]
    components["ProblemDetails"] = ProblemDetails.model_json_schema(
        ref_template="#/components/schemas/{model}", mode="serialization"
    )
    components.update(components["ProblemDetails"].pop("$defs"))
    _describe_config(components)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _describe(path, method, operation)
    return document


@cache
def query_names(api: NinjaAPI, path: str, method: str) -> frozenset[str] | None:
    """The query parameters that the document names for the operation; None where there is none."""
    operation = schema_of(api)["paths"].get(path, {}).get(method.lower())
    if operation is None:
        return None
    return frozenset(each["name"] for each in operation["parameters"] if each["in"] == "query")


def document(api: NinjaAPI) -> Callable[[HttpRequest], HttpResponse]:
    """The view of the document. It is public: it holds no data of this studio."""

    def openapi_json(request: HttpRequest) -> HttpResponse:
        return JsonResponse(schema_of(api))

    return openapi_json


def _describe_config(components: JsonObject) -> None:
    """The configurations by task, as they may be sent: everything has a default, and sizes are rounded up."""
    for task, descriptor in TASKS.items():
        schema = descriptor.config.model_json_schema(ref_template="#/components/schemas/{model}")
        components.update(schema.pop("$defs", {}))
        components[_config_name(task)] = schema
    one_of = [{"$ref": f"#/components/schemas/{_config_name(task)}"} for task in TASKS]
    for name in ("TrainingRunCreate", "TrainingCheckRequest", "SweepCreate"):
        config = components[name]["properties"]["config"]
        config.pop("additionalProperties", None)
        config.pop("type", None)
        config["anyOf"] = one_of


def _config_name(task: str) -> str:
    return f"{task.capitalize()}Config"


def _describe(path: str, method: str, operation: JsonObject) -> None:
    name = operation["operationId"]
    responses = operation["responses"]
    for status in sorted(_refusals(path, method, operation, name)):
        example = json.loads(Problem(status, MEANINGS[status]).response().content)
        answer = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}, "example": example}
        refusal = {"description": MEANINGS[status], "content": {CONTENT_TYPE: answer}}
        responses.setdefault(str(status), refusal)
    for status in [status for status in responses if isinstance(status, int)]:
        responses[str(status)] = responses.pop(status)
    if name in CONTENTS:
        responses["200"]["content"] = CONTENTS[name]
    if method == "post":
        about = "The same request with the same key gets the first response again; nothing is done twice."
        schema = {"type": "string", "pattern": PATTERN}
        operation["parameters"].append(
            {"in": "header", "name": HEADER, "required": False, "description": about, "schema": schema}
        )
    operation["responses"] = dict(sorted(responses.items()))


def _refusals(path: str, method: str, operation: JsonObject, name: str) -> set[int]:
    found = {401, 403, 422, 429, *SPECIAL.get(name, ())}
    if "{" in path:
        found.add(404)
    if "requestBody" in operation:
        found |= {400, 413, 415}
    if method == "post":
        found.add(409)
        if "requestBody" in operation:
            found.add(404)
    return found
