"""The events of a run and the append-only file that carries them from the trainer to the supervisor.

One event is one line of JSON in RUN_DIR/events.jsonl. The records below describe the types; `AnyEvent` is their union,
discriminated by `type` and, for status events, `state`. The first event of an attempt is `Started`, the last one is
`Ended` or `Failed`.

Compatibility: a field that is unknown here is kept on the record, and an event of an unknown type or state is read as
`OtherEvent`, so that a file of a later version is stored without loss. Files of version 0.1 are read too; their names
of states are translated (`OLD_STATES`), and their messages have an English text only, without a code.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypedDict, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue, ValidationError

from trainingapp.contract.messages import Message, from_data
from trainingapp.contract.messages.storage import UNREADABLE_LINE
from trainingapp.contract.old_names import OLD_PARTS, with_new_names

EVENTS_FILE = "events.jsonl"
#: Longer than any event. A longer line has lost its line end; it is read in parts, which are shown as damage.
LONGEST_LINE_BYTES = 1 << 22

Level = Literal["debug", "info", "warning", "error"]
#: The levels of a log, the least first.
LEVELS: tuple[Level, ...] = get_args(Level)
EndState = Literal["completed", "paused", "stopped", "interrupted"]
JsonObject: TypeAlias = dict[str, JsonValue]

#: States of status events in version 0.1, by their present name.
OLD_STATES = {"order": "request_done", "proof": "resume_check"}


def _encodable(value: object) -> object:
    """A file name that is not UTF-8 reaches Python with lone surrogates, which JSON cannot hold."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_encodable)]


class Event(BaseModel):
    """The fields of every event.

    `time` is in Unix seconds. `epoch` counts from 1 and is 0 before the first; `step` counts the optimizer steps since
    the start of the run. `EventLog.write` sets them; a damaged line of a file may lack them.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    type: str
    time: float = 0.0
    attempt: int | None = None
    epoch: int | None = None
    step: int | None = None

    def model_post_init(self, context: object) -> None:
        # Only what was set is written; the discriminators are set by their defaults.
        self.model_fields_set.update(("type", "state") if isinstance(self, StatusEvent) else ("type",))

    def as_data(self) -> JsonObject:
        """The fields that were set, as in the file; unknown ones included."""
        data: JsonObject = self.model_dump(mode="json", exclude_unset=True)
        return data


class Log(Event):
    """A line of the run's log. `message` is its English text; version 0.1 stored nothing else."""

    type: Literal["log"] = "log"
    level: Level = "info"
    message: Text = ""
    code: str = ""
    params: JsonObject = {}


class Metrics(Event):
    """Values of metrics: "train" every few steps, "val" after an epoch.

    A validation also states whether it is the best so far (`is_best`), the metric that decides this (`best_metric`)
    and the file with all its results relative to RUN_DIR (`evaluation`, see evaluation.py). One that was requested
    within an epoch is `extra`: it is never the best, and the validation at the end of the epoch replaces its file.
    """

    type: Literal["metrics"] = "metrics"
    split: Literal["train", "val"]
    values: dict[str, float]
    is_best: bool = False
    best_metric: str = ""
    evaluation: str = ""
    extra: bool = False

    def model_post_init(self, context: object) -> None:  # as that of every event, in a third of its time
        self.__pydantic_fields_set__.add("type")


class System(Event):
    """What the trainer and its machine use, taken by a thread beside the loop: see `contract/system_series.py`.

    It is no sign that the loop is alive.
    """

    type: Literal["system"] = "system"
    values: dict[str, float]


class Progress(Event):
    """How far the run is; the newest replaces all earlier ones and none is stored as an event.

    `saving` is the checkpoint that is being written in the background: `CheckpointSaved` says that it is on the disk.
    """

    type: Literal["progress"] = "progress"
    phase: str
    total_epochs: int
    total_steps: int
    elapsed_s: float
    eta_s: float | None = None
    saving: str = ""


class CheckpointSaved(Event):
    """A checkpoint is on the disk: everything that it needs is flushed, and the index names it.

    `size_bytes` is all that it needs; `stored_bytes` has, for each file where this changed, the bytes that no other
    checkpoint needs. `removed` are the files that the retention policy deleted.
    """

    type: Literal["checkpoint"] = "checkpoint"
    file: str
    step_in_epoch: int = 0
    reason: str
    size_bytes: int
    sha256: str
    metrics: dict[str, float]
    is_best: bool
    removed: list[str]
    stored_bytes: dict[str, int] | None = None


class Listening(Event):
    """Rank 0 of a run on several hosts waits for the ranks of the others, at "address:port"; stored with the run."""

    type: Literal["listening"] = "listening"
    address: str


class SampleSaved(Event):
    """An image file relative to RUN_DIR. The kind "batch" is a training batch as the model sees it."""

    type: Literal["sample"] = "sample"
    kind: str
    file: str


class StatusEvent(Event):
    """A change of the attempt's state; the subclasses are discriminated by `state`."""

    type: Literal["status"] = "status"
    state: str


class Started(StatusEvent):
    """An attempt begins. `step` is the step that it continues from.

    Metrics of earlier attempts beyond that step are superseded, and so is the validation at that very step when
    `validation_due`. `environment` is described in engine/environment.py.
    """

    state: Literal["started"] = "started"
    device: str = ""
    dataset_fingerprint: str = ""
    resumed_from: str | None = None
    validation_due: bool = False
    batch_size: int | None = None
    environment: JsonObject = {}


class Ended(StatusEvent):
    """The attempt ended as intended, with everything saved."""

    state: EndState


class Failed(StatusEvent):
    """The attempt failed. `message` is the English text, `lines` the end of the traceback."""

    state: Literal["failed"] = "failed"
    error_class: str = "error"
    message: Text = ""
    code: str = ""
    params: JsonObject = {}
    lines: list[Text] = []


class RequestDone(StatusEvent):
    """A request (see commands.py) was carried out. `result` is the English text.

    `epochs` is set for the command "epochs": the number that the run has now.
    """

    state: Literal["request_done"] = "request_done"
    id: int
    command: str
    result: Text = ""
    code: str = ""
    params: JsonObject = {}
    epochs: int | None = None


class ResumeCheck(StatusEvent):
    """The step after a checkpoint was repeated and compared (see engine/resume_check.py).

    `verdict` is "exact", "near", "differs" or "unknown"; `difference` is relative. `reason` is the English text of why
    they may differ, `changes` the messages that it consists of.
    """

    state: Literal["resume_check"] = "resume_check"
    level: Level = "info"
    verdict: str
    difference: float = 0.0
    reason: Text = ""
    changes: list[JsonObject] = []
    message: Text = ""
    code: str = ""
    params: JsonObject = {}


class OtherEvent(Event):
    """An event of a type or state that this version does not know, with all its fields."""


AnyStatus: TypeAlias = Started | Ended | Failed | RequestDone | ResumeCheck
AnyEvent: TypeAlias = (
    Log | Metrics | System | Progress | CheckpointSaved | SampleSaved | Listening | AnyStatus | OtherEvent
)

_BY_TYPE: dict[str, type[AnyEvent]] = {
    "log": Log,
    "metrics": Metrics,
    "system": System,
    "progress": Progress,
    "checkpoint": CheckpointSaved,
    "sample": SampleSaved,
    "listening": Listening,
}
_BY_STATE: dict[str, type[AnyStatus]] = {
    "started": Started,
    "failed": Failed,
    "request_done": RequestDone,
    "resume_check": ResumeCheck,
    **dict.fromkeys(get_args(EndState), Ended),
}


def parse_event(values: Mapping[str, object]) -> AnyEvent:
    """The record of a stored event. Raises pydantic.ValidationError where a known type has unusable values."""
    kind = _BY_TYPE.get(str(values.get("type")), OtherEvent)
    if values.get("type") == "status":
        state = str(values.get("state"))
        state = OLD_STATES.get(state, state)
        values = {**values, "state": state}
        kind = _BY_STATE.get(state, OtherEvent)
    elif kind is Metrics and isinstance(numbers := values.get("values"), dict):
        values = {**values, "values": with_new_names(numbers)}
    return kind.model_validate(values)


def event_message(event: Log | Failed | RequestDone | ResumeCheck) -> Message | None:
    """The message of an event with its code and parameters; None for an event of version 0.1."""
    return from_data({"code": event.code, "params": event.params}) if event.code else None


#: How a line with metrics begins.
METRICS_STARTS = (b'{"type":"metrics",', b'{"type": "metrics",')


class EventLog:
    """Appends events to a file. Safe to use from several threads of one process.

    A line that a kill or a power cut left incomplete is removed when the file is opened again: readers take whole
    lines only, so none of them has seen it.
    """

    def __init__(self, path: Path, attempt: int, check: Callable[[], object] = lambda: None) -> None:
        """`check` is called before each line, and by others before they write a file of the run. It raises Superseded
        where this attempt must not write any longer."""
        self.attempt = attempt
        self.check = check
        self.epoch = 0
        self.step = 0
        self._lock = threading.Lock()
        if path.exists() and path.stat().st_size > (end := end_of_lines(path)):
            os.truncate(path, end)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, event: Event, *, epoch: int | None = None, step: int | None = None) -> None:
        """Append the event; `epoch` and `step` default to the position of the loop.

        Raises OSError on a full disk, and what `check` raises.
        """
        event.time = time.time()
        event.attempt = self.attempt
        event.epoch = self.epoch if epoch is None else epoch
        event.step = self.step if step is None else step
        line = event.model_dump_json(exclude_unset=True).encode() + b"\n"
        with self._lock:
            self.check()
            written = os.write(self._descriptor, line)
            if written != len(line):  # the disk is full: leave no partial line that the next event would be joined to
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
                raise OSError(28, "No space left on device", EVENTS_FILE)

    def log(self, message: Message | str, level: Level = "info") -> None:
        """Append a line of the log. A plain string has no code and is shown as it is in every language."""
        if isinstance(message, str):
            self.write(Log(level=level, message=message))
        else:
            self.write(Log(level=level, **message_fields(message)))

    def flush(self) -> None:
        """Flush everything written so far to the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class MessageFields(TypedDict):
    """How an event holds a message."""

    message: str
    code: str
    params: JsonObject


def message_fields(message: Message) -> MessageFields:
    """The fields of an event that hold the message: its English text, its code and its parameters."""
    data = message.as_data()
    return {"message": str(message), "code": message.code, "params": data["params"]}


def read_events(path: Path, offset: int, max_bytes: int = 1 << 20) -> Iterator[tuple[AnyEvent, int]]:
    """Yield (event, offset after its line) for the whole lines from byte `offset` on, up to about `max_bytes`.

    A negative `max_bytes` reads to the end. A line that is not an event is given as a log event of level error that
    quotes it, so that damage is visible.
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


def _parsed(line: bytes) -> AnyEvent:
    # Nearly all lines are metrics: they take the short way, unless they may have names of version 0.1.
    if line.startswith(METRICS_STARTS) and not any(part in line for part in OLD_PARTS):
        with contextlib.suppress(ValidationError):
            return Metrics.model_validate_json(line)
    try:
        values = json.loads(line)
        if isinstance(values, dict) and isinstance(values.get("type"), str):
            return parse_event(values)
    except ValueError:  # also pydantic's ValidationError
        pass
    quoted = line[:200].decode(errors="replace").rstrip()
    return Log(time=time.time(), level="error", **message_fields(UNREADABLE_LINE(file=EVENTS_FILE, quoted=quoted)))


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
