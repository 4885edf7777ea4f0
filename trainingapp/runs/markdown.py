"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table_lines(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table. Cells may hold what users wrote."""
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(map(escaped, cells))} |" for cells in lines]


def escaped(text: str) -> str:
    """The text as it stands in a cell."""
    return str(text).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
