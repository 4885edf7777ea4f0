"""Only the folders of the tasks name a task: all other code uses the registry."""

import re
from pathlib import Path

from trainingapp.contract.tasks.registry import TASKS

REPOSITORY = Path(__file__).resolve().parents[2]
OWN = ("contract/tasks/", "engine/tasks/", "migrations/")
#: Files with such a word in quotes that is not the name of a task, and how many lines have one.
OTHER_MEANINGS = {
    "api/model_schemas.py": 1,  # an example
    "api/schemas.py": 1,  # an example
    "datasets/sources/formats/coco.py": 3,  # a key of COCO's files, and the name of one
    "datasets/sources/folder_names.py": 1,  # the name of a folder
    "datasets/sources/formats/label_studio.py": 1,  # a key of its files
    "datasets/sources/split_lists.py": 1,  # the name of a folder
}
QUOTED = re.compile(rf"""["'](?:{"|".join(TASKS)})["']""")


def quoting_lines(path: Path) -> int:
    return sum(bool(QUOTED.search(line)) for line in path.read_text(encoding="utf-8").splitlines())


def test_no_other_module_branches_on_a_task() -> None:
    package = REPOSITORY / "trainingapp"
    found = {str(path.relative_to(package)): quoting_lines(path) for path in sorted(package.rglob("*.py"))}
    assert len(found) > 300
    assert {name: n for name, n in found.items() if n and not name.startswith(OWN)} == OTHER_MEANINGS


def test_no_page_and_no_script_branches_on_a_task() -> None:
    pages = [*(REPOSITORY / "templates").rglob("*.html"), *(REPOSITORY / "static" / "js").rglob("*.js")]
    assert len(pages) > 100
    assert [str(path) for path in pages if quoting_lines(path)] == []
