"""pyproject.toml declares the dependencies of the packages exactly."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
OWN = {"cvstudio", "trainingapp", "tests", "benchmarks"}
#: Declared for what they bring besides modules: a time zone database, a database driver and faster parsers that are
#: found by name, and the compiler of the translations.
NOT_IMPORTED = {"tzdata", "psycopg", "babel"}
#: Modules of extras that need not be installed, and the distributions that bring them.
OPTIONAL = {"pyarrow": ["pyarrow"]}


def imported_modules(folder: str) -> set[str]:
    """Top-level modules that the files of `folder` import."""
    trees = [ast.parse(path.read_text()) for path in (REPOSITORY / folder).rglob("*.py")]
    return {name.partition(".")[0] for tree in trees for node in ast.walk(tree) for name in _names(node)}


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module


def distributions(requirements: list[str]) -> set[str]:
    return {_normal(re.split(r"[^A-Za-z0-9._-]", requirement)[0]) for requirement in requirements}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def needed(folder: str) -> set[str]:
    """Distributions that bring the third-party modules of `folder`."""
    providers = OPTIONAL | dict(importlib.metadata.packages_distributions())
    modules = imported_modules(folder) - OWN - set(sys.stdlib_module_names) - {"_typeshed"}  # of type checkers alone
    unknown = {module for module in modules if module not in providers}
    assert not unknown, f"not installed: {unknown}"
    return {_normal(providers[module][0]) for module in modules}


@pytest.mark.parametrize("folder", ["cvstudio", "trainingapp"])
def test_every_import_of_the_packages_is_declared(folder: str) -> None:
    extras = PROJECT["optional-dependencies"]
    # accounts/sign_on.py, datasets/images/decoding.py, operations/backup/postgres.py, runs/series_files.py,
    # runs/sweeps/sampling.py and engine/tasks/detection/from_transformers.py
    names = ("sso", "heif", "prod", "parquet", "sweeps", "transformers")
    only_where_installed = [requirement for name in names for requirement in extras[name]]
    assert needed(folder) <= distributions(PROJECT["dependencies"] + only_where_installed)


@pytest.mark.parametrize(("folder", "extra"), [("tests", "dev"), ("benchmarks", "bench"), ("docs", "dev")])
def test_every_other_import_is_declared_in_an_extra(folder: str, extra: str) -> None:
    extras = PROJECT["optional-dependencies"]
    # "cvstudio[prod,sso]" brings what these extras have.
    own = [re.findall(r"^cvstudio\[(.*)\]$", requirement) for requirement in extras[extra]]
    names = {name for found in own for listed in found for name in listed.split(",")} | {"prod"}
    brought = [requirement for name in names for requirement in extras[name]]
    assert needed(folder) <= distributions(PROJECT["dependencies"] + extras[extra] + brought)


def test_no_declared_dependency_is_unused() -> None:
    named_in_settings = {"huey", "whitenoise", "django-csp", "channels", "channels-redis"}
    loaded_by_torch_onnx = {"onnx", "onnxscript"}
    used = needed("cvstudio") | needed("trainingapp") | named_in_settings | NOT_IMPORTED | loaded_by_torch_onnx
    assert distributions(PROJECT["dependencies"]) <= used


def test_every_dependency_has_a_lower_bound() -> None:
    extras = [requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra]
    for requirement in PROJECT["dependencies"] + extras:
        assert ">=" in requirement or requirement.startswith("cvstudio["), requirement
