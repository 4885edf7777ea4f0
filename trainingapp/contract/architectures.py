"""What the studio knows about a network that a run can choose (no torch).

The tables of networks are beside the configuration of their task, in `contract/tasks/`. A name is what a configuration
stores. Networks of a library other than torchvision carry the library's name before a slash; the builders of the
task's folder in the engine turn a name into a network.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from pydantic import JsonValue

HF = "hf/"
"""Begins the names of networks of the library transformers."""

OPTIONAL_LIBRARIES = {HF: "transformers"}
"""The package that networks with this prefix need, and the extra of the studio that installs it."""


@dataclass(frozen=True)
class Architecture:
    """A network. `defaults` are values of the configuration that suit it better than the general ones, `presets` those
    that its presets ("quick", "balanced", "best") set instead of what the rules for all networks give.

    `parameters` is the number of parameters of the library's own model, with the classes that it was published for;
    0 where it has not been counted.
    """

    parameters: int = 0
    defaults: Mapping[str, JsonValue] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)


def missing_library(model: str) -> str | None:
    """The package that the network `model` needs and that is not installed here; None where nothing is missing."""
    package = next((package for prefix, package in OPTIONAL_LIBRARIES.items() if model.startswith(prefix)), None)
    return package if package and find_spec(package) is None else None
