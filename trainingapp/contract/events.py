"""The events of a run and the append-only file that carries them from trainer to supervisor.

One event is one line of JSON in RUN_DIR/events.jsonl. Types:

    log         {"level": "info" | "warning" | "error" | "debug", "message": str}
    metrics     {"split": "train" | "val", "values": {name: float}}; "train" every few steps, "val" after an epoch.
                The validation event also carries "is_best": bool, "best_metric": the name of the metric that decides
                that, and "evaluation": the file with all that it found out, relative to RUN_DIR (see evaluation.py);
                one that was asked for within an epoch has "extra": true and is never the best; the validation at the
                epoch's end takes its file's place
    progress    {"phase": str, "total_epochs": int, "total_steps": int, "elapsed_s": float, "eta_s": float | null};
                the newest replaces all older ones, none is kept
    checkpoint  {"file", "step_in_epoch", "reason", "size_bytes", "sha256", "metrics", "is_best",
                "removed": [file, ...], "stored_bytes": {file: bytes that no other checkpoint needs, where that
                changed}}; "size_bytes" is all that it holds on the disk
    sample      {"kind": "batch", "file": an image of a training batch as the model sees it, relative to RUN_DIR}
    status      {"state": "started", "device": str, "dataset_fingerprint": str, "resumed_from": file | null,
                "validation_due": bool, "batch_size": int, "environment": {...} (see environment.py)} at the
                start of an attempt, then one of {"state": "completed" | "paused" | "stopped" | "interrupted"} or
                {"state": "failed", "error_class": str, "message": str, "lines": [str, ...]} as the last of all.
                Between: {"state": "order", "id": int, "command": str, "result": str} when an order was done ("epochs"
                says how many the run has now), and after a reload {"state": "proof", "verdict": "exact" | "near" |
                "differs" | "unknown", "difference": float, "reason": str, "message": str} (see proof.py)

Every event has "type", "time" (Unix seconds), "attempt", "epoch" (from 1; 0 before the first) and "step" (optimizer
steps done since the start of the run). A "started" event's step is the step that the attempt goes on from: metrics of
earlier attempts beyond it are superseded, and so is the validation at that very step when it is (again) due.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EVENTS_FILE = "events.jsonl"
#: No event is as long; a line that is has lost its end, and is read in pieces that are shown as damage.
LONGEST_LINE_BYTES = 1 << 22


class EventLog:
    """Appends events to a file. Safe to use from several threads of one process.

    A line cut short by a kill or a power cut is taken away when the file is opened again: readers take whole lines
    only, so nobody has seen it.
    """

    def __init__(self, path: Path, attempt: int) -> None:
        self.attempt = attempt
        self.epoch = 0
        self.step = 0
        self._lock = threading.Lock()
        _drop_torn_line(path)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, type_: str, *, epoch: int | None = None, step: int | None = None, **data: Any) -> None:
        """Append one event; `epoch` and `step` default to where the loop is. Raises OSError on a full disk."""
        event = {
            "type": type_,
            "time": time.time(),
            "attempt": self.attempt,
            "epoch": self.epoch if epoch is None else epoch,
            "step": self.step if step is None else step,
            **data,
        }
        line = (json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n").encode()
        with self._lock:
            written = os.write(self._descriptor, line)
            if written != len(line):  # the disk is full: leave no half line for the next event to stick to
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
                raise OSError(28, "No space left on device", EVENTS_FILE)

    def log(self, message: str, level: str = "info") -> None:
        self.write("log", level=level, message=message)

    def flush(self) -> None:
        """Bring everything written so far to the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def read_events(path: Path, offset: int, max_bytes: int = 1 << 20) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield (event, offset after its line) for the whole lines from byte `offset` on, up to about `max_bytes`.

    A line that is no JSON object is given as a log event of level error that quotes it: damage is shown, not hidden.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            end = offset + max_bytes if max_bytes >= 0 else None
            while end is None or offset < end:
                line = file.readline(LONGEST_LINE_BYTES)
                if not line.endswith(b"\n") and len(line) < LONGEST_LINE_BYTES:
                    return
                offset += len(line)
                yield _parsed(line), offset
    except FileNotFoundError:
        return


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
        if isinstance(event, dict) and isinstance(event.get("type"), str):
            return event
    except ValueError:
        pass
    quoted = line[:200].decode(errors="replace").rstrip()
    return {
        "type": "log",
        "time": time.time(),
        "level": "error",
        "message": f"Unreadable line in {EVENTS_FILE}: {quoted}",
    }


def end_of_lines(path: Path) -> int:
    """The byte after the last whole line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    size = path.stat().st_size
    end = end_of_lines(path)
    if end < size:
        os.truncate(path, end)
