"""The commands of a trainer: read as they are written, and tolerant of later versions."""

import pytest
from pydantic import ValidationError

from trainingapp.contract.commands import (
    ChangeEpochs,
    Command,
    Evaluate,
    Pause,
    SaveCheckpoint,
    Stop,
    parse_command,
)


@pytest.mark.parametrize(
    "command", [Pause(), Stop(), SaveCheckpoint(id=3), Evaluate(id=4), ChangeEpochs(id=5, epochs=30)]
)
def test_a_command_is_read_as_it_was_written(command: Command) -> None:
    assert parse_command(command.line()) == command


def test_a_field_of_a_later_version_is_kept() -> None:
    command = parse_command(b'{"command": "evaluate", "id": 1, "split": "test"}')
    assert isinstance(command, Evaluate)
    assert command.model_dump() == {"command": "evaluate", "id": 1, "split": "test"}


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[]",
        b'{"command": "dance"}',
        b'{"command": "epochs", "id": 1}',
        b'{"command": "epochs", "id": 1, "epochs": 0}',
        b'{"command": "epochs", "id": 1, "epochs": 2.5}',
        b'{"command": "checkpoint", "id": "3"}',
    ],
)
def test_an_unknown_or_incomplete_command_is_refused(line: bytes) -> None:
    with pytest.raises(ValidationError):
        parse_command(line)
