"""`TrainingRun.transition` is the only writer of a run's status."""

import ast
from collections.abc import Iterator
from pathlib import Path

import trainingapp

ROOT = Path(trainingapp.__file__).parent
#: What may be named `status` elsewhere: the status of a dataset.
DATASET_WRITERS = {
    "datasets/importing/importer.py",
    "datasets/importing/inspection.py",
    "datasets/importing/session.py",
    "datasets/verbs.py",
    "management/commands/demo.py",
    "management/foreground.py",
    "datasets/imports.py",
}
#: The status of a sweep, in `move` alone.
SWEEP_WRITERS = {"runs/sweeps/advance.py"}
#: What else is called so: the status of an answer over HTTP.
HTTP_STATUSES = {"api/problems.py"}


def test_no_other_code_writes_a_status() -> None:
    found = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if list(status_writes(path))}
    assert found <= {"models/run.py", *DATASET_WRITERS, *SWEEP_WRITERS, *HTTP_STATUSES}


def test_the_writers_of_a_datasets_status_are_listed() -> None:
    for name in DATASET_WRITERS:
        for line in status_writes(ROOT / name) if (ROOT / name).exists() else ():
            assert "Dataset.Status." in line, f"{name}: {line}"


def test_one_line_writes_the_status_of_a_sweep() -> None:
    assert [line for name in SWEEP_WRITERS for line in status_writes(ROOT / name)] == ["sweep.status = status"]


def test_the_search_finds_every_way_of_writing(tmp_path: Path) -> None:
    lines = ["run.status = x", "rows.update(status=x)", "setattr(run, 'status', x)", "run.transition('queued')"]
    (tmp_path / "bad.py").write_text("\n".join(lines))
    assert list(status_writes(tmp_path / "bad.py")) == lines[:3]


def status_writes(path: Path) -> Iterator[str]:
    """The lines that assign a `status`: attribute, update(status=...), bulk_update or setattr."""
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        if _assigns(node) or _updates(node):
            yield ast.get_source_segment(source, node) or ""


def _assigns(node: ast.AST) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    is_assignment = isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)
    return is_assignment and any(isinstance(target, ast.Attribute) and target.attr == "status" for target in targets)


def _updates(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if name in ("update", "update_or_create", "bulk_update"):
        return any(keyword.arg == "status" for keyword in node.keywords)
    constants = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
    return name == "setattr" and "status" in constants
