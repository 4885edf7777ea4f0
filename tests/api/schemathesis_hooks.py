"""Gives schemathesis existing objects: half of the numbers that it draws become those of existing rows."""

from typing import Any
from uuid import UUID

import schemathesis

#: Runs, datasets, weights and jobs with numbers from 1 to this one are made before the requests; deletions have the
#: last ones for themselves.
THINGS = 40
DELETED = 10
CHECKPOINT = "epoch_1.pt"


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    is_deletion = context.operation is not None and context.operation.method.lower() == "delete"
    first, count = (THINGS - DELETED + 1, DELETED) if is_deletion else (1, THINGS - DELETED)
    for name, value in (path_parameters or {}).items():
        assert path_parameters is not None
        if name == "pk" and isinstance(value, int) and value > 0 and value % 2:
            path_parameters[name] = value // 2 % count + first
        elif name == "file" and isinstance(value, str) and len(value) % 2:
            path_parameters[name] = CHECKPOINT
        elif name == "job_id" and _is_odd(value):
            path_parameters[name] = str(UUID(int=UUID(value).int // 2 % THINGS + 1))
    return path_parameters


def _is_odd(text: Any) -> bool:
    try:
        return bool(UUID(text).int % 2)
    except (ValueError, AttributeError, TypeError):
        return False


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """The stream of a running run does not end: limit it to the first messages."""
    if case.operation.definition.raw.get("operationId") == "stream_events" and isinstance(case.query, dict):
        case.query["max_s"] = 0.2
