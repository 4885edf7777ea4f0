"""What the studio knows about a network that a run can choose (no torch).

The tables of networks are beside the configuration of their task, in `contract/tasks/`. A name is what a configuration
stores. Networks of a library other than torchvision carry the library's name before a slash; the builders of the
task's folder in the engine turn a name into a network.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue


@dataclass(frozen=True)
class Architecture:
    """A network. `defaults` are values of the configuration that suit it better than the general ones.

    `parameters` is the number of parameters of the library's own model, with the classes that it was published for;
    0 where it has not been counted.
    """

    parameters: int = 0
    defaults: Mapping[str, JsonValue] = field(default_factory=dict)
