"""The result as tables of plain text."""

from collections.abc import Sequence

from trainingapp.engine.gpu_check.runner import CaseResult, SectionResult

#: Longest text of a cell; the JSON has all of it.
CELL_LENGTH = 46


def text(section: SectionResult) -> str:
    """A section: a row for each case, a column for each plain value, and below it the lines that belong to a case."""
    cases = section["cases"]
    names = list(dict.fromkeys(name for case in cases for name, value in _values(case).items() if _is_plain(value)))
    rows = [["", "", "s", *names]]
    for case in cases:
        values = _values(case)
        cells = [_cell(values.get(name)) for name in names]
        rows.append([case["name"], case["status"], f"{case.get('seconds', 0.0):.1f}", *cells])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [f"\n== {section['name']}: {section['title']} ({section['seconds']:.0f} s)"]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for case in cases:
        lines += _below(case)
    return "\n".join(lines)


def _values(case: CaseResult) -> dict[str, object]:
    error = case.get("error", {})
    shown = {name: error[name] for name in ("kind", "error_class", "where", "message") if name in error}
    return {**case.get("values", {}), **shown}


def _below(case: CaseResult) -> Sequence[str]:
    found = [case.get("values", {}).get("sites"), case.get("error", {}).get("traceback")]
    lines = [str(line) for part in found if isinstance(part, list) for line in part]
    return [f"   {case['name']}:", *(f"      {line}" for line in lines)] if lines else []


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float)


def _cell(value: object) -> str:
    if value is None or not _is_plain(value):
        return ""
    cell = " ".join(str(value).split())
    return cell if len(cell) <= CELL_LENGTH else cell[: CELL_LENGTH - 1] + "…"
