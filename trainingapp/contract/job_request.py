"""The files by which a worker and an engine process exchange a job (no torch).

FOLDER/job.json holds {"kind": str, "params": {...}}. The job writes FOLDER/progress.json while it works:
{"done", "total", "message"}, with "code" and "params" where the message has a code; and in the end result.json, or
error.json: {"error_class", "message", "code", "params", "lines"}. Each file appears whole or not at all.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from trainingapp.contract.errors import Failure
from trainingapp.contract.messages import Message

JOB_FILE = "job.json"
PROGRESS_FILE = "progress.json"
RESULT_FILE = "result.json"
ERROR_FILE = "error.json"
#: Seconds between two writings of the progress.
PROGRESS_EVERY_S = 0.2


#: A JSON object; the module of each kind of job says which keys it has.
Params: TypeAlias = dict[str, Any]


@dataclass
class JobRequest:
    """One job: its kind, its parameters, and the folder for its input and its result."""

    folder: Path
    kind: str
    params: Params
    _reported_at: float = field(default=0.0, repr=False)

    def report(self, done: int, total: int, message: str | Message = "") -> None:
        """Write the progress: at most every PROGRESS_EVERY_S, and always at the end. `message` names the phase."""
        now = time.monotonic()
        if done < total and now - self._reported_at < PROGRESS_EVERY_S:
            return
        self._reported_at = now
        progress: dict[str, object] = {"done": done, "total": total, "message": str(message)}
        if isinstance(message, Message):
            progress.update(message.as_data())
        write_whole(self.folder / PROGRESS_FILE, progress)


def read_job(folder: Path) -> JobRequest:
    """The job in this folder. Raises ValueError and OSError where there is none."""
    values = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
    return JobRequest(folder, str(values["kind"]), dict(values["params"]))


def write_failure(folder: Path, failure: Failure) -> None:
    write_whole(folder / ERROR_FILE, failure.as_data())


def write_whole(path: Path, values: Mapping[str, object]) -> None:
    """Write JSON so that a reader sees all of it or nothing."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(json.dumps(values, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """What `write_whole` wrote; None where nothing is."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return dict(values)
