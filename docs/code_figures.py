"""Figures of the code that tell how it reads: python docs/code_figures.py [--rooms]

any_per_1000        annotations that say Any, in 1,000 lines of code (blank lines, comments and docstrings left out)
function_lines      median, 95th percentile and maximum of the lines of a function, its docstring left out
one_use_private     share of all functions and methods that are private and used in one place alone
comment_lines       lines with a comment, in 100 lines of code

The last line is one JSON object.
"""

import argparse
import ast
import io
import json
import re
import statistics
import tokenize
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Figures:
    """Counts of some files, which add up."""

    code_lines: int = 0
    comment_lines: int = 0
    any_count: int = 0
    function_lines: list[int] = field(default_factory=list)
    one_use: list[str] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """Count a file in."""
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        comments, code = lines_of(source, tree)
        self.code_lines += len(code)
        self.comment_lines += len(comments)
        self.any_count += sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        self.function_lines += [length(function) for function in functions]
        uses = Counter(name for node in ast.walk(tree) for name in used_names(node))
        for function in functions:
            is_private = re.match(r"_[^_]", function.name) and not function.decorator_list
            if is_private and uses[function.name] == 1:
                self.one_use.append(f"{path.relative_to(ROOT)}:{function.lineno} {function.name}")

    def summary(self) -> dict[str, float]:
        """The figures by name."""
        lines = sorted(self.function_lines) or [0]
        return {
            "code_lines": self.code_lines,
            "any_per_1000": round(1000 * self.any_count / max(1, self.code_lines), 1),
            "function_lines_median": statistics.median(lines),
            "function_lines_p95": lines[int(0.95 * (len(lines) - 1))],
            "function_lines_max": lines[-1],
            "functions": len(self.function_lines),
            "one_use_private": round(len(self.one_use) / max(1, len(self.function_lines)), 3),
            "comment_lines": round(100 * self.comment_lines / max(1, self.code_lines), 1),
        }


def lines_of(source: str, tree: ast.Module) -> tuple[set[int], set[int]]:
    """The numbers of the lines with a comment, and of those with code."""
    comments: set[int] = set()
    code: set[int] = set()
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in skipped:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return comments, code


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from `def` to its end, without its docstring."""
    whole = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        whole -= (first.end_lineno or first.lineno) - first.lineno + 1
    return whole


def used_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    return [node.attr] if isinstance(node, ast.Attribute) else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", action="store_true", help="a row for each room too")
    parser.add_argument("--one-use", metavar="PATH", help="list the private functions below PATH that one place uses")
    options = parser.parse_args()
    whole = Figures()
    rooms: dict[str, Figures] = {}
    for path in sorted([*(ROOT / "trainingapp").rglob("*.py"), *(ROOT / "cvstudio").rglob("*.py")]):
        if "migrations" in path.parts:
            continue
        room = path.relative_to(ROOT).parts[1] if path.parent != ROOT / "trainingapp" else "trainingapp"
        for figures in (whole, rooms.setdefault(room.removesuffix(".py"), Figures())):
            figures.add(path)
    if options.one_use:
        print("\n".join(line for line in whole.one_use if line.startswith(options.one_use)))
    shown = {**(rooms if options.rooms else {}), "all": whole}
    names = list(whole.summary())
    print(f"{'':<16}" + "".join(f"{name:>23}" for name in names))
    for room, figures in shown.items():
        print(f"{room:<16}" + "".join(f"{value:>23}" for value in figures.summary().values()))
    print(json.dumps(whole.summary()))


if __name__ == "__main__":
    main()
