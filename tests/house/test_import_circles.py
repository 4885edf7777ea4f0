"""No files import each other in a circle, not even for the type checker or within a function."""

from pathlib import Path

import grimp
import pytest


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """The groups of modules that import each other, directly or by way of others (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_modules: list[str] = []
    found = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        open_modules.append(module)
        for imported in graph.find_modules_directly_imported_by(module):
            if imported not in number:
                visit(imported)
                lowest[module] = min(lowest[module], lowest[imported])
            elif imported in open_modules:
                lowest[module] = min(lowest[module], number[imported])
        if lowest[module] == number[module]:
            group = open_modules[open_modules.index(module) :]
            del open_modules[open_modules.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(graph.modules):
        if module not in number:
            visit(module)
    return found


def test_no_files_import_each_other() -> None:
    graph = grimp.build_graph("trainingapp", "cvstudio", cache_dir=None)
    assert len(graph.modules) > 200
    assert circles(graph) == []


@pytest.mark.parametrize("indent", ["", "    "])
def test_a_circle_is_found_at_any_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: str) -> None:
    name = f"circling_{len(indent)}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    for module, imported in (("one", "two"), ("two", "three"), ("three", "one"), ("four", "one")):
        guard = "if TYPE_CHECKING:\n" if indent else ""
        text = f"from typing import TYPE_CHECKING\n\n{guard}{indent}from {name} import {imported}\n"
        (tmp_path / name / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    graph = grimp.build_graph(name, cache_dir=None)
    assert circles(graph) == [[f"{name}.one", f"{name}.three", f"{name}.two"]]
