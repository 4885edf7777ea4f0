"""docs/permissions.md says what permissions.py does."""

import runpy
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_tables_are_those_of_the_code() -> None:
    script = runpy.run_path(str(REPOSITORY / "docs" / "make_permissions_table.py"))
    document = (REPOSITORY / "docs" / "permissions.md").read_text()
    assert script["with_tables"](document) == document, "run docs/make_permissions_table.py"
