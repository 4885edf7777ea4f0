"""Texts for people in the code, found in its syntax tree: whatever has words in it and is no docstring."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: Stands for a value in a text.
HOLE = "\0"
#: Their arguments are collected for translation, or are for programmers.
PASSED_OVER = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy", "pgettext", "compile", "AssertionError"}
LOGS = {"log", "logger"}
_VALUE = re.compile(r"%\(\w+\)[a-z]")


@dataclass(frozen=True)
class Spoken:
    """A text, its values as holes, and where it stands. Constants in it may be written out, or holes as well."""

    texts: frozenset[str]
    place: str

    def __str__(self) -> str:
        return f"{self.place}: {min(self.texts).replace(HOLE, '…')}"


def form_text(form: str) -> str:
    """A form as a text with holes."""
    return _VALUE.sub(HOLE, form)


def spoken(files: Iterable[Path], root: Path) -> Iterator[Spoken]:
    """Every text of these files that has a letter and a space: what people may read."""
    for one in texts_in(files, root):
        if any(re.search(r"[^\W\d_]", text) and " " in text for text in one.texts):
            yield one


def texts_in(files: Iterable[Path], root: Path) -> Iterator[Spoken]:
    """Every text of these files but docstrings, annotations and what is logged or translated."""
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in files}
    constants = {name: value for tree in trees.values() for name, value in _constants(tree)}
    for file, tree in trees.items():
        for node in _texts(tree, _docstrings(tree)):
            texts = frozenset((_text(node, {}), _text(node, constants)))
            yield Spoken(texts, f"{file.relative_to(root)}:{node.lineno}")


def translated(files: Iterable[Path]) -> set[str]:
    """The texts that these files give to gettext."""
    calls = (node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8"))))
    return {
        argument.value
        for call in calls
        if isinstance(call, ast.Call) and _name(call) in PASSED_OVER
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from ((target.id, node.value.value) for target in node.targets if isinstance(target, ast.Name))


def _docstrings(tree: ast.Module) -> set[ast.AST]:
    """Texts that stand for themselves: docstrings, and those behind a constant."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _texts(node: ast.AST, passed_over: set[ast.AST]) -> Iterator[ast.Constant | ast.JoinedStr]:
    for name, child in ast.iter_fields(node):
        for one in child if isinstance(child, list) else [child]:
            if not isinstance(one, ast.AST) or name in ("annotation", "returns", "format_spec"):
                continue
            if isinstance(one, ast.Call) and (_name(one) in PASSED_OVER or _is_log(one)):
                continue
            if isinstance(one, ast.Assert) or (one in passed_over and isinstance(one, ast.Constant)):
                continue
            if isinstance(one, ast.JoinedStr):
                yield one
                yield from (
                    text for part in one.values if not isinstance(part, ast.Constant) for text in _texts(part, set())
                )
            elif isinstance(one, ast.Constant):
                if isinstance(one.value, str):
                    yield one
            else:
                yield from _texts(one, passed_over)


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _is_log(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") in LOGS


def _text(node: ast.Constant | ast.JoinedStr, constants: dict[str, str]) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else constants.get(ast.unparse(_inner(part)), HOLE)
        for part in node.values
    )


def _inner(part: ast.expr) -> ast.expr:
    assert isinstance(part, ast.FormattedValue)
    return part.value
