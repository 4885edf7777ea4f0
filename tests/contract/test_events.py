"""The event file: complete lines only, whatever happens to the writer."""

import json
import os
import threading
from pathlib import Path

import pytest

from tests.helpers.events import write
from trainingapp.contract.events import (
    Event,
    EventLog,
    Failed,
    Log,
    Metrics,
    OtherEvent,
    Progress,
    RequestDone,
    ResumeCheck,
    event_message,
    read_events,
)
from trainingapp.contract.messages.storage import UNREADABLE_LINE
from trainingapp.contract.old_names import OLD_KEYS, OLD_PARTS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def _messages(path: Path, offset: int = 0) -> list[str]:
    return [event.message for event, _ in read_events(path, offset)]


def test_a_truncated_line_is_removed_by_the_next_writer(path: Path) -> None:
    EventLog(path, 1).log("first")
    with path.open("ab") as file:
        file.write(b'{"type": "log", "mess')
    assert _messages(path) == ["first"]
    EventLog(path, 2).log("second")
    assert _messages(path) == ["first", "second"]


def test_a_file_of_one_truncated_line_becomes_empty(path: Path) -> None:
    path.write_bytes(b"x" * 200_000)
    EventLog(path, 1).log("first")
    assert _messages(path) == ["first"]


def test_reading_continues_at_its_offset(path: Path) -> None:
    log = EventLog(path, 1)
    log.log("first")
    [(_, offset)] = list(read_events(path, 0))
    log.log("second")
    assert _messages(path, offset) == ["second"]
    assert offset < path.stat().st_size


def test_a_corrupted_line_is_reported(path: Path) -> None:
    path.write_text('nonsense\n["list"]\n')
    events = [event for event, _ in read_events(path, 0)]
    assert [event.level for event in events] == ["error", "error"]
    assert "nonsense" in events[0].message


def test_a_missing_file_has_no_events(path: Path) -> None:
    assert _messages(path) == []


def test_threads_do_not_mix_their_lines(path: Path) -> None:
    log = EventLog(path, 1)
    writers = [threading.Thread(target=lambda: [log.log("x" * 5000) for _ in range(50)]) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert _messages(path) == ["x" * 5000] * 200


def test_numbers_that_json_lacks_are_refused(path: Path) -> None:
    with pytest.raises(ValueError):
        write(EventLog(path, 1), "metrics", values={"loss": float("nan")})


def test_an_event_of_an_unknown_type_or_state_is_kept_with_all_its_fields(path: Path) -> None:
    lines = [
        {"type": "weather", "time": 1.0, "attempt": 1, "epoch": 1, "step": 2, "sun": {"hours": [1, 2]}},
        {"type": "status", "state": "dreaming", "time": 1.0, "attempt": 1, "epoch": 1, "step": 2, "of": "sheep"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    events = [event for event, _ in read_events(path, 0)]
    assert [type(event) for event in events] == [OtherEvent, OtherEvent]
    assert [event.as_data() for event in events] == lines


def test_a_field_of_a_later_version_is_kept(path: Path) -> None:
    line = {"type": "progress", "time": 1.0, "attempt": 1, "epoch": 1, "step": 2, "phase": "train", "total_epochs": 3}
    line |= {"total_steps": 9, "elapsed_s": 1.5, "eta_s": None, "watts": 250}
    path.write_text(json.dumps(line) + "\n")
    [(event, _)] = read_events(path, 0)
    assert isinstance(event, Progress)
    assert event.as_data() == line


@pytest.mark.parametrize(
    ("line", "record", "values"),
    [
        ({"type": "log", "level": "info", "message": "Saved."}, Log, {"message": "Saved.", "code": ""}),
        (
            {"type": "status", "state": "order", "id": 3, "command": "epochs", "result": "Done.", "epochs": 9},
            RequestDone,
            {"state": "request_done", "id": 3, "epochs": 9, "result": "Done."},
        ),
        (
            {"type": "status", "state": "proof", "verdict": "near", "difference": 0.1, "reason": "x", "message": "y"},
            ResumeCheck,
            {"state": "resume_check", "verdict": "near", "reason": "x", "changes": []},
        ),
        (
            {"type": "metrics", "split": "train", "values": {"loss": 1.0, "pictures_per_s": 9.0}},
            Metrics,
            {"values": {"loss": 1.0, "images_per_s": 9.0}},
        ),
        (
            {"type": "status", "state": "failed", "error_class": "error", "message": "No.", "lines": ["a"]},
            Failed,
            {"message": "No.", "lines": ["a"], "code": ""},
        ),
    ],
)
def test_events_of_version_0_1_are_read(
    path: Path, line: dict[str, object], record: type[Event], values: dict[str, object]
) -> None:
    path.write_text(json.dumps({"time": 1.0, "attempt": 1, "epoch": 1, "step": 2, **line}) + "\n")
    [(event, _)] = read_events(path, 0)
    assert type(event) is record
    assert {name: getattr(event, name) for name in values} == values


def test_a_message_is_read_as_written(path: Path) -> None:
    message = UNREADABLE_LINE(file="a", quoted="b")
    EventLog(path, 1).log(message, "warning")
    [(event, _)] = read_events(path, 0)
    assert isinstance(event, Log)
    assert (event.level, event.message, event_message(event)) == ("warning", str(message), message)


def test_a_known_type_with_invalid_values_is_reported_as_corrupted(path: Path) -> None:
    path.write_text('{"type": "metrics", "split": "train", "values": 3}\n')
    [(event, _)] = read_events(path, 0)
    assert isinstance(event, Log)
    assert (event.level, '"values": 3' in event.message) == ("error", True)


def test_a_file_name_that_is_not_utf8_can_be_reported(path: Path) -> None:
    EventLog(path, 1).log(os.fsdecode(b"bad \xff name"))
    assert _messages(path) == ["bad ? name"]


def test_a_part_of_an_old_name_is_in_every_old_name() -> None:
    assert all(any(part in name.encode() for part in OLD_PARTS) for name in OLD_KEYS)
