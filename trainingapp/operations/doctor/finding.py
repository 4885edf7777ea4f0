"""One thing that the doctor has seen."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """What was seen, what it means, and what can be done about it by itself."""

    check: str
    severity: Severity
    message: str
    meaning: str = ""
    #: What `--fix` would do; empty where a person has to.
    fix: str = ""
    #: Does it, and says in a sentence what was done.
    mend: Callable[[], str] | None = field(default=None, compare=False)

    def record(self) -> dict[str, Any]:
        names = ("check", "severity", "message", "meaning", "fix")
        return {name: getattr(self, name) for name in names}


def ok(check: str, message: str) -> Finding:
    return Finding(check, "ok", message)
