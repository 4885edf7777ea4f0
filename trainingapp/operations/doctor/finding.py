"""One result of the examination."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """What was found, what it means, and what `--fix` can do about it."""

    check: str
    severity: Severity
    message: str
    meaning: str = ""
    #: What `--fix` would do; empty where the user must act.
    fix: str = ""
    #: Carries out `fix`; returns a sentence about what was done. Raises OSError or ValueError.
    repair: Callable[[], str] | None = field(default=None, compare=False)

    def record(self) -> dict[str, str]:
        """The texts, for JSON."""
        names = ("check", "severity", "message", "meaning", "fix")
        return {name: getattr(self, name) for name in names}


def ok(check: str, message: str) -> Finding:
    return Finding(check, "ok", message)
