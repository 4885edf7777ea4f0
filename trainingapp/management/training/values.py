"""A configuration from the command line: a file, single values, and a template to start from."""

import json
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from django.core.management import CommandError
from pydantic import ValidationError

from trainingapp.engine.config import RunConfig, config_defaults, config_schema, correct_config

WIDTH = 100


def read_config(
    file: Path | None, assignments: list[str], base: dict[str, Any] | None = None
) -> tuple[RunConfig, list[str]]:
    """The configuration and what was corrected in it. Raises CommandError, which names file and field."""
    values = {**(base or {}), **_read_values(file), **dict(map(_assignment, assignments))}
    try:
        return correct_config(values)
    except ValidationError as error:
        raise CommandError("\n".join(_sentences(error, file or "--set"))) from None


def _read_values(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise CommandError(f"{path}: must hold keys with values, such as “epochs: 20”.")
    return values


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"--set {text}: must be KEY=VALUE.")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        return key.strip(), value


def _sentences(error: ValidationError, source: object) -> Iterable[str]:
    for item in error.errors():
        name = ".".join(map(str, item["loc"]))
        got = f" (got {item['input']!r})" if name else ""
        yield ": ".join(filter(None, [str(source), name, item["msg"]])) + got


def template(recipe: str, model: str | None) -> str:
    """A commented YAML file with every field of a recipe and its default."""
    schema = config_schema(recipe)
    defaults = config_defaults(recipe, model or schema["model"]["default"])
    lines = [
        f"# What a run for {recipe} can be told. What is left out takes the value given here.",
        f"recipe: {recipe}",
    ]
    for name, about in schema.items():
        if name != "recipe":
            lines += ["", *_comment(about), f"{name}: {json.dumps(defaults[name], ensure_ascii=False)}"]
    return "\n".join(lines) + "\n"


def _comment(about: dict[str, Any]) -> list[str]:
    text = " ".join(filter(None, [about.get("description", ""), _limits(about), _unit(about)]))
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH)]


def _limits(about: dict[str, Any]) -> str:
    if choices := about.get("enum"):
        return f"One of {', '.join(map(str, choices))}."
    names = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    limits = [f"{word} {about[key]:g}" for key, word in names.items() if key in about]
    return f"{' '.join(limits).capitalize()}." if limits else ""


def _unit(about: dict[str, Any]) -> str:
    return f"In {about['unit']}." if about.get("unit") else ""
