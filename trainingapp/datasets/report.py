"""Collecting what is wrong with a dataset, without drowning who reads it."""

from collections import Counter

from trainingapp.datasets.errors import DatasetError, ReportItem

MOST_ITEMS_PER_CODE = 100


class Report:
    """Errors and warnings by code; after a hundred of one code the rest is only counted.

    An error makes the whole import impossible. A fault concerns one image or object, which cannot be used: it is an
    error too, unless the report is lenient; then the item is left out and the fault becomes a warning.
    """

    def __init__(self, *, lenient: bool = False) -> None:
        self.lenient = lenient
        self.has_fatal = False
        self._items: list[ReportItem] = []
        self._seen: Counter[str] = Counter()

    def error(self, code: str, message: str, file: str = "") -> None:
        self.has_fatal = True
        self._add({"level": "error", "code": code, "file": file, "message": message})

    def fault(self, code: str, message: str, file: str = "") -> None:
        if self.lenient:
            self.warn(code, f"Left out: {message}", file)
        else:
            self._add({"level": "error", "code": code, "file": file, "message": message})

    def warn(self, code: str, message: str, file: str = "", count: int = 1) -> None:
        self._add({"level": "warning", "code": code, "file": file, "message": message, "count": count})

    def faults(self, items: list[ReportItem]) -> None:
        """What is wrong with single items, as a DatasetError brings it."""
        for item in items:
            self.fault(item["code"], item["message"], item["file"])

    def _add(self, item: ReportItem) -> None:
        self._seen[item["code"]] += 1
        if self._seen[item["code"]] <= MOST_ITEMS_PER_CODE:
            self._items.append(item)

    @property
    def has_errors(self) -> bool:
        return any(item["level"] == "error" for item in self._items)

    def items(self) -> list[ReportItem]:
        """Errors first, each code together in the order of its first item, then "... and N more" where there are."""
        grouped: dict[tuple[str, str], list[ReportItem]] = {}
        for item in sorted(self._items, key=lambda item: item["level"]):
            grouped.setdefault((item["level"], item["code"]), []).append(item)
        return [item for group in grouped.values() for item in [*group, *self._rest(group[0])]]

    def _rest(self, first: ReportItem) -> list[ReportItem]:
        rest = self._seen[first["code"]] - MOST_ITEMS_PER_CODE
        if rest <= 0:
            return []
        message = f"… and {rest} more of the same kind."
        return [{"level": first["level"], "code": first["code"], "file": "", "message": message, "count": rest}]

    def raise_errors(self) -> None:
        """Raise DatasetError with every error collected, if there is one."""
        if self.has_errors:
            raise DatasetError([item for item in self.items() if item["level"] == "error"])

    def raise_fatal(self) -> None:
        """Raise DatasetError with every error collected if one of them makes any import impossible."""
        if self.has_fatal:
            self.raise_errors()
