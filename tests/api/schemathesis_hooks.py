"""Has schemathesis meet things that exist: half of the numbers that it draws become those of rows that are there."""

from typing import Any

import schemathesis

#: Runs, datasets and weights with numbers from 1 to this one are made before the requests.
THINGS = 40
CHECKPOINT = "epoch_1.pt"


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    if path_parameters:
        pk = path_parameters.get("pk")
        if isinstance(pk, int) and pk > 0 and pk % 2:
            path_parameters["pk"] = pk // 2 % THINGS + 1
            if "file" in path_parameters:
                path_parameters["file"] = CHECKPOINT
    return path_parameters


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """A stream of a run that goes on has no end of its own: have it end after the first words."""
    if case.operation.definition.raw.get("operationId") == "stream_events" and isinstance(case.query, dict):
        case.query["max_s"] = 0.2
