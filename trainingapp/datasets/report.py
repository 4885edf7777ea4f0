"""The report of an import: the errors and warnings about a dataset, with the files concerned."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NotRequired, TypedDict

from trainingapp.contract.messages import Message, MessageData, Param, from_data
from trainingapp.contract.messages import dataset_annotations as annotation_messages
from trainingapp.contract.messages import dataset_checks as messages
from trainingapp.contract.messages.library_reasons import library_reason
from trainingapp.datasets.sources.offers import Offer
from trainingapp.presentation.messages import rendered_data

MOST_ITEMS_PER_CODE = 100
FILES_NAMED = 3
"""Files that a finding about several names."""
Level = Literal["error", "warning"]


class ReportItem(TypedDict):
    """One finding. `code` is its category (see `codes.py`), `count` the number of files if there are several, and
    `files` the first of them.

    `text` is the message as code and parameters, `message` its English text. Items of version 0.1 have only `message`.
    """

    level: Level
    code: str
    file: str
    message: str
    text: NotRequired[MessageData]
    count: NotRequired[int]
    files: NotRequired[list[str]]


def report_item(level: Level, code: str, message: Message, file: str = "", count: int | None = None) -> ReportItem:
    """The finding in its stored form."""
    item: ReportItem = {"level": level, "code": code, "file": file, "message": str(message), "text": message.as_data()}
    return item if count is None else {**item, "count": count}


def item_text(item: ReportItem) -> str:
    """The message of the finding in the active language; for items of version 0.1 the stored English text."""
    return rendered_data({**(item.get("text") or {}), "message": item["message"]})


def rendered_items(items: list[ReportItem]) -> list[ReportItem]:
    """The findings with their `message` in the active language."""
    return [{**item, "message": item_text(item)} for item in items]


class DatasetError(ValueError):
    """The source cannot be imported. `items` lists all reasons, at least one."""

    def __init__(self, items: list[ReportItem]) -> None:
        assert items
        self.items = items
        #: The open reading choices of the source; a different choice may make it readable.
        self.offers: tuple[Offer, ...] = ()
        super().__init__("\n".join(item["message"] for item in items[:5]))

    @classmethod
    def one(cls, code: str, message: Message, file: str = "") -> "DatasetError":
        return cls([report_item("error", code, message, file)])


def reason(error: Exception) -> Param:
    """The reason why a file could not be read, as a message parameter."""
    return annotation_messages.TOO_DEEP() if isinstance(error, RecursionError) else library_reason(str(error))


class Report:
    """Errors and warnings by category; beyond a hundred of one category, items are only counted.

    An error makes the whole import impossible. A fault concerns one unusable image or object. It is an error, too,
    unless the report is lenient: then the image or object is left out and the fault becomes a warning.
    """

    def __init__(self, *, lenient: bool = False) -> None:
        self.lenient = lenient
        self.has_fatal = False
        self._items: list[ReportItem] = []
        self._seen: Counter[str] = Counter()

    def error(self, code: str, message: Message, file: str = "") -> None:
        self.has_fatal = True
        self._add("error", code, message, file)

    def errors(self, error: DatasetError) -> None:
        """Add all errors that made a part of the source unreadable."""
        for item in error.items:
            self.error(item["code"], _message(item), item["file"])

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Within: collect the errors of an unreadable part of the source and continue with the next part."""
        try:
            yield
        except DatasetError as error:
            self.errors(error)

    def fault(self, code: str, message: Message, file: str = "") -> None:
        if self.lenient:
            self.warn(code, messages.LEFT_OUT(message=message), file)
        else:
            self._add("error", code, message, file)

    def faults(self, items: list[ReportItem]) -> None:
        """Add faults of single images or objects from a DatasetError."""
        for item in items:
            self.fault(item["code"], _message(item), item["file"])

    @contextmanager
    def leaving_out(self) -> Iterator[None]:
        """Within: report an unreadable image as a fault and continue with the next one."""
        try:
            yield
        except DatasetError as error:
            self.faults(error.items)

    def left_out(self, items: Iterable[ReportItem]) -> None:
        """Warn about unusable single objects that are left out, whether or not the report is lenient."""
        for item in items:
            self.warn(item["code"], messages.LEFT_OUT(message=_message(item)), item["file"])

    def warn(self, code: str, message: Message, file: str = "", count: int = 1, files: Sequence[str] = ()) -> None:
        """Add a warning. `count` is the number of images or files that the message concerns, `files` their paths."""
        self._add("warning", code, message, file, count, files)

    def _add(
        self,
        level: Level,
        code: str,
        message: Message,
        file: str,
        count: int | None = None,
        files: Sequence[str] = (),
    ) -> None:
        self._seen[code] += 1
        # A broken annotation file can have millions of faults: texts are rendered only for those that are kept.
        if self._seen[code] <= MOST_ITEMS_PER_CODE:
            item = report_item(level, code, message, file, count)
            self._items.append({**item, "files": list(files[:FILES_NAMED])} if len(files) > 1 else item)

    @property
    def has_errors(self) -> bool:
        return any(item["level"] == "error" for item in self._items)

    def items(self) -> list[ReportItem]:
        """Errors first, categories in the order of their first item; then "... and N more" for dropped items."""
        grouped: dict[tuple[Level, str], list[ReportItem]] = {}
        for item in sorted(self._items, key=lambda item: item["level"]):
            grouped.setdefault((item["level"], item["code"]), []).append(item)
        found: list[ReportItem] = []
        for (level, code), items in grouped.items():
            found += items
            dropped = self._seen[code] - MOST_ITEMS_PER_CODE
            if dropped > 0:
                found.append(report_item(level, code, messages.MORE_OF_THE_SAME_KIND(count=dropped), count=dropped))
        return found

    def raise_errors(self) -> None:
        """Raise DatasetError with all collected errors, if any."""
        if self.has_errors:
            raise DatasetError([item for item in self.items() if item["level"] == "error"])

    def raise_fatal(self) -> None:
        """Raise DatasetError with all collected errors if one of them makes any import impossible."""
        if self.has_fatal:
            self.raise_errors()


def _message(item: ReportItem) -> Message:
    message = from_data(item.get("text"))
    assert message is not None, "findings of this version have their code"
    return message
