"""The event file: whole lines only, whatever happens to the writer."""

import threading
from pathlib import Path

import pytest

from tests.helpers.events import write
from trainingapp.contract.events import EventLog, read_events


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def _messages(path: Path, offset: int = 0) -> list[str]:
    return [event.message for event, _ in read_events(path, offset)]


def test_a_torn_line_is_dropped_by_the_next_writer(path: Path) -> None:
    EventLog(path, 1).log("first")
    with path.open("ab") as file:
        file.write(b'{"type": "log", "mess')
    assert _messages(path) == ["first"]
    EventLog(path, 2).log("second")
    assert _messages(path) == ["first", "second"]


def test_a_file_of_one_torn_line_becomes_empty(path: Path) -> None:
    path.write_bytes(b"x" * 200_000)
    EventLog(path, 1).log("first")
    assert _messages(path) == ["first"]


def test_reading_goes_on_where_it_stopped(path: Path) -> None:
    log = EventLog(path, 1)
    log.log("first")
    [(_, offset)] = list(read_events(path, 0))
    log.log("second")
    assert _messages(path, offset) == ["second"]
    assert offset < path.stat().st_size


def test_damage_is_shown(path: Path) -> None:
    path.write_text('nonsense\n["list"]\n')
    events = [event for event, _ in read_events(path, 0)]
    assert [event.level for event in events] == ["error", "error"]
    assert "nonsense" in events[0].message


def test_no_file_has_no_events(path: Path) -> None:
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
