"""A configuration from the command line: a file, single values, and a template to start from."""

import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from django.core.management import CommandError
from pydantic import ValidationError

from trainingapp.contract.config import RunConfig, config_defaults, config_fields, correct_config, parse_config
from trainingapp.contract.messages import Message
from trainingapp.contract.setting import ConfigField
from trainingapp.presentation.validation_errors import error_text

WIDTH = 100


@dataclass(frozen=True)
class Source:
    """Where values come from: a file with the line of each key, and `--set`."""

    path: Path | None
    lines: dict[str, int] = field(default_factory=dict)
    assigned: frozenset[str] = frozenset()

    def of(self, name: str) -> str:
        if name in self.assigned or (self.path is None and name):
            return "--set"
        line = self.lines.get(name)
        return f"{self.path}:{line}" if line else str(self.path or "--set")


def read_config(file: Path | None, assignments: list[str]) -> tuple[RunConfig, list[Message]]:
    """The configuration and its corrections. Raises CommandError, which names file, line and field."""
    values, source = read_values(file, assignments)
    with readable_errors(source):
        return correct_config(values)


def read_values(file: Path | None, assignments: list[str]) -> tuple[dict[str, object], Source]:
    """The fields that a file and `--set` give, and where each comes from. Raises CommandError."""
    from_file, lines = _read_file(file) if file else ({}, {})
    assigned = dict(map(_assignment, assignments))
    return {**from_file, **assigned}, Source(file, lines, frozenset(assigned))


@contextmanager
def readable_errors(source: Source) -> Iterator[None]:
    """Raise a wrong configuration as a CommandError that names file, line and field."""
    try:
        yield
    except ValidationError as error:
        raise CommandError("\n".join(_sentences(error, source))) from None


def _read_file(path: Path) -> tuple[dict[str, object], dict[str, int]]:
    """The values of the file, and the line of each."""
    read = _read_json if path.suffix.lower() == ".json" else _read_yaml
    values, names = read(path, _read_text(path))
    if not isinstance(values, dict):
        raise CommandError(f"{path}: must contain keys with values, such as “epochs: 20”.")
    lines: dict[str, int] = {}
    for name, line in names:
        if name in lines:
            raise CommandError(f"{path}:{line}: {name} is already set in line {lines[name]}.")
        lines[name] = line
    return values, lines


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CommandError(f"{path}:{line}: This is not UTF-8 text.") from None


def _read_json(path: Path, text: str) -> tuple[object, list[tuple[str, int]]]:
    """The content, and the names with their lines."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise CommandError(f"{path}:{error.lineno}: Invalid JSON: {error.msg}.") from None
    names = values if isinstance(values, dict) else ()
    found = ((name, match) for name in names for match in re.finditer(rf"{re.escape(json.dumps(name))}\s*:", text))
    return values, [(name, text.count("\n", 0, match.start()) + 1) for name, match in found]


def _read_yaml(path: Path, text: str) -> tuple[object, list[tuple[str, int]]]:
    try:
        values, top = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        line = f":{place.line + 1}" if place else ""
        raise CommandError(f"{path}{line}: Invalid YAML: {error.problem}.") from None
    except yaml.YAMLError as error:
        raise CommandError(f"{path}: Invalid YAML: {error}.") from None
    pairs = top.value if isinstance(top, yaml.MappingNode) else []
    return values, [(str(key.value), key.start_mark.line + 1) for key, _value in pairs]


def _assignment(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"--set {text}: must be KEY=VALUE.")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        return key.strip(), value


def _sentences(error: ValidationError, source: Source) -> Iterable[str]:
    for item in error.errors():
        name = ".".join(map(str, item["loc"]))
        got = f" (got {item['input']!r})" if name else ""
        yield ": ".join(filter(None, [source.of(name), name, error_text(item)])) + got


def template(task: str, model: str | None) -> str:
    """A commented YAML file with every field of a task and its default. Raises CommandError for an unknown model."""
    fields = config_fields(task)
    defaults = config_defaults(task, model or str(fields["model"].default))
    try:
        parse_config({"task": task, **defaults})
    except ValidationError as error:
        raise CommandError("\n".join(_sentences(error, Source(Path("--model"))))) from None
    lines = [
        f"# The configuration of a {task} run. A field that is left out takes the value given here.",
        f"task: {task}",
    ]
    for name, about in fields.items():
        if not about.is_fixed:
            lines += ["", *_comment(about), f"{name}: {json.dumps(defaults[name], ensure_ascii=False)}"]
    return "\n".join(lines) + "\n"


def _comment(about: ConfigField) -> list[str]:
    setting = about.setting
    when = f"Has an effect with {setting.when.field} {' or '.join(setting.when.values)}." if setting.when else ""
    unit = f"In {setting.unit.plural}." if setting.unit else ""
    text = " ".join(filter(None, [setting.help, _limits(about), unit, when]))
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH)]


def _limits(about: ConfigField) -> str:
    if about.choices:
        return f"One of {', '.join(about.choices)}."
    words = {
        "above" if about.is_open_below else "from": about.minimum,
        "below" if about.is_open_above else "to": about.maximum,
    }
    limits = [f"{word} {bound:.10g}" for word, bound in words.items() if bound is not None]
    return f"{' '.join(limits).capitalize()}." if limits else ""
