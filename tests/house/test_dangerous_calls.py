"""Calls that could execute code from data are used nowhere, whatever a comment would permit."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("cvstudio", "trainingapp") for path in (REPOSITORY / folder).rglob("*.py"))
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
UNSAFE_YAML = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}
#: Loaders that make nothing but text, lists and tables.
HARMLESS_LOADERS = {"yaml.BaseLoader", "yaml.SafeLoader"}
#: The error that torch.load(weights_only=True) raises has to be caught by its name.
HARMLESS = {"UnpicklingError"}
#: Has an unpickler that refuses every class but plain tensors: it reads .pt files without torch.
RESTRICTED = {"trainingapp/contract/storage/reading.py"}
RUNS_CODE = {"eval", "exec", "compile", "__import__"}


def dangers(source: str) -> Iterator[str]:
    """The dangerous imports and calls of a module, by line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names}
            modules = {node.module or ""} if isinstance(node, ast.ImportFrom) else names
            if {module.split(".")[0] for module in modules} & PICKLES and not names <= HARMLESS:
                yield f"{node.lineno}: import of {', '.join(sorted(modules))}"
        elif isinstance(node, ast.Call) and (danger := call_danger(node)):
            yield f"{node.lineno}: {danger}"


def call_danger(call: ast.Call) -> str:
    name = ast.unparse(call.func)
    arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in RUNS_CODE:
        return name
    loaders = {*map(ast.unparse, call.args), *arguments.values()}
    if re.fullmatch(r"yaml\.(\w+)", name) and name.split(".")[1] in UNSAFE_YAML and not loaders & HARMLESS_LOADERS:
        return name
    if name in {"torch.load", "torch.hub.load"} and arguments.get("weights_only") != "True":
        return f"{name} without weights_only=True"
    if name in {"np.load", "numpy.load"} and arguments.get("allow_pickle", "False") != "False":
        return f"{name} with allow_pickle"
    if arguments.get("shell", "False") != "False":
        return f"{name} through a shell"
    return ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_module_has_a_dangerous_call(path: Path) -> None:
    found = list(dangers(path.read_text()))
    assert not found or (path.relative_to(REPOSITORY).as_posix() in RESTRICTED and len(found) == 1)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.externals",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(command, shell=True)",
        "eval(text)",
    ],
)
def test_the_test_finds_dangerous_calls(source: str) -> None:
    assert list(dangers(source))


def test_every_exception_from_a_security_rule_has_a_reason() -> None:
    bare = []
    for path in SOURCES:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            excuse = re.search(r"# noqa: [A-Z0-9, ]*\bS\d+[A-Z0-9, ]*(.*)$", line)
            if excuse and len(excuse.group(1).split()) < 2:
                bare.append(f"{path.relative_to(REPOSITORY)}:{number}")
    assert not bare
