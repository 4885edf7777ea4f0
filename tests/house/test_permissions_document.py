"""The generated parts of docs/permissions.md and docs/api.md agree with the code."""

import runpy
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["permissions.md", "api.md"])
def test_the_generated_parts_are_those_of_the_code(name: str) -> None:
    script = runpy.run_path(str(REPOSITORY / "docs" / "make_permissions_table.py"))
    document = (REPOSITORY / "docs" / name).read_text()
    assert script["with_tables"](name, document) == document, "run docs/make_permissions_table.py"
