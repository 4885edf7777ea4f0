"""The commands that a trainer takes on its standard input, one JSON object a line.

    {"command": "pause"}                             save and exit; so does "stop"
    {"command": "checkpoint", "id": 3}               save now
    {"command": "evaluate", "id": 4}                 validate at this step
    {"command": "epochs", "id": 5, "epochs": 30}     change the total number of epochs

A request with an `id` other than 0 is confirmed by a `RequestDone` event with the same number (see events.py). Unknown
fields are kept, and a command that is unknown is skipped with a warning: the supervisor may be of a later version.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StrictInt, TypeAdapter

RequestName = Literal["checkpoint", "evaluate", "epochs"]


class _Command(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    def line(self) -> bytes:
        """The command as the trainer reads it."""
        return self.model_dump_json().encode() + b"\n"


class Pause(_Command):
    """Save and exit; the run is paused."""

    command: Literal["pause"] = "pause"


class Stop(_Command):
    """Save and exit; the run is stopped."""

    command: Literal["stop"] = "stop"


class SaveCheckpoint(_Command):
    """Save a checkpoint at the next step."""

    command: Literal["checkpoint"] = "checkpoint"
    id: StrictInt = 0


class Evaluate(_Command):
    """Validate the current weights at the next step."""

    command: Literal["evaluate"] = "evaluate"
    id: StrictInt = 0


class ChangeEpochs(_Command):
    """Change the total number of epochs; an epoch that has started is completed."""

    command: Literal["epochs"] = "epochs"
    id: StrictInt = 0
    epochs: Annotated[StrictInt, Field(ge=1)]


#: What is done between two steps, after which training continues.
Request: TypeAlias = Annotated[SaveCheckpoint | Evaluate | ChangeEpochs, Field(discriminator="command")]
Command: TypeAlias = Annotated[
    Pause | Stop | SaveCheckpoint | Evaluate | ChangeEpochs,
    Field(discriminator="command"),
]

_COMMAND: TypeAdapter[Command] = TypeAdapter(Command)


@dataclass(frozen=True)
class Meeting:
    """The one line that a rank above 0 takes on its standard input: where the store of rank 0 is, and the network
    interface over which this rank reaches the others."""

    address: str
    port: int
    interface: str


def parse_command(line: bytes | str) -> Command:
    """The command in a line. Raises pydantic.ValidationError for an unknown one or one that lacks what it needs."""
    return _COMMAND.validate_json(line)
