"""What a section of the check consists of."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from pydantic import JsonValue

from trainingapp.contract.errors import classify

Values: TypeAlias = dict[str, JsonValue]

TORCH_FOLDER = f"{Path(torch.__file__).parent}/"
LINES_KEPT = 12
#: Characters of an error message that are kept; those of compilers have many pages.
MESSAGE_LENGTH = 600


@dataclass(frozen=True)
class Plan:
    """What is checked, and how thoroughly.

    `device` is "cuda:0", or "cpu" to try the check itself, at tiny sizes. `folder` holds scenes, runs and logs.
    """

    device: str
    folder: Path
    quick: bool = False
    every_architecture: bool = False

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)


@dataclass(frozen=True)
class Case:
    """One check. It returns what it measured; "problem" among the values says what is wrong.

    It raises NotApplicable where the device lacks what it is about. `alone`: in a process that has not used the GPU yet
    and that no other case uses afterwards.
    """

    name: str
    check: Callable[[Plan], Values]
    budget_s: float = 60.0
    alone: bool = False


@dataclass(frozen=True)
class Section:
    """Checks that belong together. Those that do not begin in time are skipped, and the result says so.

    The time is `budget_s`, or less where all sections together have less, unless all that follows `depends_on_it`.
    """

    name: str
    title: str
    budget_s: float
    cases: Callable[[Plan], Sequence[Case]]
    depends_on_it: bool = False


class NotApplicable(Exception):
    """The check is about something that this device does not have."""


def needs_gpu(plan: Plan) -> None:
    """Raise NotApplicable on the CPU."""
    if not plan.on_gpu:
        raise NotApplicable("needs a GPU")


def error_record(error: BaseException) -> Values:
    """An error as the result holds it: its class in the studio, its place and the end of its traceback."""
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not is_torch(frame.filename)] or list(frames)
    return {
        "kind": type(error).__name__,
        "error_class": classify(error).error_class,
        "message": str(error)[:MESSAGE_LENGTH],
        "last_line": lines[-1][:MESSAGE_LENGTH],
        "where": place(own[-1]) if own else "",
        "traceback": [*lines[-LINES_KEPT:]],
    }


def is_torch(file: str) -> bool:
    """Whether a file of source code belongs to torch itself; torchvision and the like do not."""
    return file.startswith((TORCH_FOLDER, "<"))


def place(frame: traceback.FrameSummary) -> str:
    """file:line, the file below site-packages or below the project."""
    name = frame.filename.rpartition("site-packages/")[2]
    root = str(Path(__file__).resolve().parents[3]) + "/"
    return f"{name.removeprefix(root)}:{frame.lineno}"
