"""What is wrong with a dataset, said so that a person can mend it."""

from typing import Literal, NotRequired, TypedDict


class ReportItem(TypedDict):
    """One line of a validation report. `code` is stable; `count` stands where one line speaks of several files."""

    level: Literal["error", "warning"]
    code: str
    file: str
    message: str
    count: NotRequired[int]


class DatasetError(ValueError):
    """The source cannot be imported. `items` holds every reason, at least one."""

    def __init__(self, items: list[ReportItem]) -> None:
        assert items
        self.items = items
        super().__init__("\n".join(item["message"] for item in items[:5]))

    @classmethod
    def one(cls, code: str, message: str, file: str = "") -> "DatasetError":
        return cls([{"level": "error", "code": code, "file": file, "message": message}])


def reason(error: Exception) -> str:
    """Why a file could not be read, as a part of a message."""
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
