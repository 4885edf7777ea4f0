"""The README agrees with the code."""

import re
import runpy
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()


def test_the_settings_table_is_that_of_the_settings() -> None:
    script = runpy.run_path(str(REPOSITORY / "docs" / "make_settings_table.py"))
    assert script["with_table"](README) == README, "run `make readme`"


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    documents = [README, *(path.read_text() for path in (REPOSITORY / "docs").rglob("*.md"))]
    named = {name for text in documents for name in re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.MULTILINE)}
    assert {"run", "test", "check"} <= named
    assert named <= targets


def test_every_command_that_is_named_exists() -> None:
    commands = {path.stem for path in (REPOSITORY / "trainingapp" / "management" / "commands").glob("*.py")}
    table = README.partition("## Commands")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `(\w+)", table, re.MULTILINE))
    assert named - {"check", "run_huey"} <= commands


def test_every_link_has_a_target() -> None:
    for document in [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_steps_without_make_use_the_extras_that_exist() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"'\.\[(\w+)\]'", README)) <= set(extras)


def test_no_lock_file_names_an_address() -> None:
    lock = (REPOSITORY / "static" / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert '"integrity"' in lock
