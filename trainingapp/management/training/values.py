"""A configuration from the command line: a file, single values, and a commented template."""

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
from trainingapp.contract.dataset_index import LabelMode
from trainingapp.contract.messages import Message
from trainingapp.contract.setting import ConfigField
from trainingapp.presentation.validation_errors import error_text

WIDTH = 100


@dataclass(frozen=True)
class Source:
    """The origin of values: a file with the line of each key, and `--set`."""

    path: Path | None
    lines: dict[str, int] = field(default_factory=dict)
    assigned: frozenset[str] = frozenset()

    def of(self, name: str) -> str:
        """The file and line, or the option, that set a field."""
        if name in self.assigned or (self.path is None and name):
            return "--set"
        line = self.lines.get(name)
        return f"{self.path}:{line}" if line else str(self.path or "--set")


def read_config(file: Path | None, assignments: list[str], label_mode: LabelMode) -> tuple[RunConfig, list[Message]]:
    """The configuration of a run on a dataset of this label mode, and its corrections. Raises CommandError, which names
    file, line and field."""
    values, source = read_values(file, assignments)
    with readable_errors(source):
        return correct_config(values, label_mode)


def read_values(file: Path | None, assignments: list[str]) -> tuple[dict[str, object], Source]:
    """The fields that a file and `--set` set, and their origin. Raises CommandError."""
    from_file, lines = _read_file(file) if file else ({}, {})
    assigned: dict[str, object] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"--set {text}: must be KEY=VALUE.")
        try:
            assigned[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:  # a text such as "[a", which is valid for a field that is a text
            assigned[key.strip()] = value
    return {**from_file, **assigned}, Source(file, lines, frozenset(assigned))


@contextmanager
def readable_errors(source: Source) -> Iterator[None]:
    """Within it, an invalid configuration raises a CommandError that names file, line and field."""
    try:
        yield
    except ValidationError as error:
        raise CommandError("\n".join(_sentences(error, source))) from None


def _read_file(path: Path) -> tuple[dict[str, object], dict[str, int]]:
    """The values of the file, and the line of each."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CommandError(f"{path}:{line}: This is not UTF-8 text.") from None
    values, names = _parse_json(path, text) if path.suffix.lower() == ".json" else _parse_yaml(path, text)
    if not isinstance(values, dict):
        raise CommandError(f"{path}: must contain keys with values, such as “epochs: 20”.")
    lines: dict[str, int] = {}
    for name, line in names:
        if name in lines:
            raise CommandError(f"{path}:{line}: {name} is already set in line {lines[name]}.")
        lines[name] = line
    return values, lines


def _parse_json(path: Path, text: str) -> tuple[object, list[tuple[str, int]]]:
    """The content, and the keys with their lines: json keeps no positions, so the text is searched for them."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise CommandError(f"{path}:{error.lineno}: Invalid JSON: {error.msg}.") from None
    names = values if isinstance(values, dict) else ()
    found = ((name, match) for name in names for match in re.finditer(rf"{re.escape(json.dumps(name))}\s*:", text))
    return values, [(name, text.count("\n", 0, match.start()) + 1) for name, match in found]


def _parse_yaml(path: Path, text: str) -> tuple[object, list[tuple[str, int]]]:
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
    if about.choices:
        limits = f"One of {', '.join(about.choices)}."
    else:
        bounds = {
            "above" if about.is_open_below else "from": about.minimum,
            "below" if about.is_open_above else "to": about.maximum,
        }
        words = " ".join(f"{word} {bound:.10g}" for word, bound in bounds.items() if bound is not None)
        words = ", or ".join(filter(None, [words, *about.words]))
        limits = f"{words.capitalize()}." if words else ""
    text = " ".join(filter(None, [setting.help, limits, unit, when]))
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH)]
