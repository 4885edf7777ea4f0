"""All user-facing texts in the repository: messages from templates and Python, and paragraphs of the documentation."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.template.base import Lexer, TokenType

REPOSITORY = Path(__file__).resolve().parents[2]
#: Calls whose literal arguments are messages, with the positions of these arguments.
GETTEXT = {
    "_": (0,),
    "N_": (0,),
    "gettext": (0,),
    "gettext_lazy": (0,),
    "gettext_noop": (0,),
    "ngettext": (0, 1),
    "ngettext_lazy": (0, 1),
    "pgettext": (1,),
    "pgettext_lazy": (1,),
    "npgettext": (1, 2),
    "npgettext_lazy": (1, 2),
}
_TRANSLATE = re.compile(r"""\b(?:translate|trans)\s+(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')""")


@dataclass(frozen=True)
class Text:
    """A user-facing text: the file relative to the repository, the first line, and the text."""

    file: str
    line: int
    text: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def template_texts(path: Path) -> Iterator[Text]:
    """The messages of a template: `translate` with a literal, and `blocktranslate` with `%(name)s` for variables."""
    file = str(path.relative_to(REPOSITORY))
    block: list[str] | None = None
    start, trimmed = 0, False
    for token in Lexer(path.read_text(encoding="utf-8")).tokenize():
        name = token.contents.split(" ", 1)[0] if token.token_type == TokenType.BLOCK else ""
        if block is None:
            if name in ("blocktranslate", "blocktrans"):
                block, start, trimmed = [], token.lineno or 0, "trimmed" in token.contents.split()
            elif name not in ("comment",) and token.token_type in (TokenType.BLOCK, TokenType.VAR):
                for found in _TRANSLATE.finditer(token.contents):
                    yield Text(file, token.lineno or 0, found[1] if found[1] is not None else found[2])
                for text in re.findall(r"""\b_\((?:"([^"]*)"|'([^']*)')\)""", token.contents):
                    yield Text(file, token.lineno or 0, text[0] or text[1])
        elif name == "plural" or name.startswith("endblocktrans"):
            text = "".join(block)
            yield Text(file, start, " ".join(text.split()) if trimmed else text)
            block = [] if name == "plural" else None
        elif token.token_type == TokenType.VAR:
            block.append(f"%({token.contents.strip()})s")
        else:
            block.append(token.contents)


def _literal(node: ast.expr) -> str | None:
    """The string of a constant or of constants joined by `+`; f-strings are not messages."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _literal(node.left), _literal(node.right)
        return None if left is None or right is None else left + right
    return None


def python_texts(path: Path) -> Iterator[Text]:
    """The literal arguments of gettext calls, and every string of a module that defines messages."""
    file = str(path.relative_to(REPOSITORY))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if "trainingapp/contract/messages/" in file:
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            text = _literal(node) if isinstance(node, ast.Constant) and id(node) not in documentation else None
            if text and " " in text:
                yield Text(file, node.lineno, text)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        for place in GETTEXT.get(name, ()):
            text = _literal(node.args[place]) if place < len(node.args) else None
            if text:
                yield Text(file, node.lineno, text)


def document_texts(path: Path) -> Iterator[Text]:
    """The lines of a Markdown file outside fenced code blocks, without inline code."""
    file = str(path.relative_to(REPOSITORY))
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and line.strip():
            yield Text(file, number, re.sub(r"`[^`]*`", "``", line))


def messages() -> list[Text]:
    """Every message to translate, from all templates and all modules of the studio."""
    texts = [text for path in sorted((REPOSITORY / "templates").rglob("*.html")) for text in template_texts(path)]
    for root in ("cvstudio", "trainingapp"):
        texts += [text for path in sorted((REPOSITORY / root).rglob("*.py")) for text in python_texts(path)]
    return texts
