"""Every text of the studio has a current Simplified Chinese translation."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po

REPOSITORY = Path(__file__).resolve().parents[2]
CATALOGUE = Path("locale/zh_Hans/LC_MESSAGES/django.po")
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[sd]|\{\w*\}")


def read(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale="zh_Hans")


@pytest.fixture(scope="module")
def catalogue() -> Catalog:
    return read(REPOSITORY / CATALOGUE)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The catalogue as it would be were the texts collected now."""
    if not shutil.which("xgettext"):
        pytest.skip("collecting the texts needs GNU gettext")
    tree = tmp_path_factory.mktemp("tree")
    for folder in ("cvstudio", "trainingapp", "templates", "locale"):
        shutil.copytree(REPOSITORY / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", "*.mo"))
    env = {**os.environ, "PYTHONPATH": str(tree), "DATA_DIR": str(tree / "data")}
    options = ["--locale", "zh_Hans", "--no-obsolete", "--add-location", "file", "--no-wrap"]
    command = [sys.executable, "-m", "django", "makemessages", *options]
    subprocess.run(command, cwd=tree, env=env, check=True, capture_output=True, timeout=120)
    return read(tree / CATALOGUE)


def texts(message: Message) -> list[str]:
    """The translations of a message; several where it has plural forms."""
    return [message.string] if isinstance(message.string, str) else list(message.string)


def test_every_text_is_translated(extracted: Catalog) -> None:
    missing = [message.id for message in extracted if message.id and (message.fuzzy or not all(texts(message)))]
    assert not missing, f"run `make messages`, then translate: {missing}"


def test_no_translation_of_a_removed_text_is_left(extracted: Catalog, catalogue: Catalog) -> None:
    now = {(message.context, str(message.id)) for message in extracted}
    assert [message.id for message in catalogue if (message.context, str(message.id)) not in now] == []
    assert not catalogue.obsolete


def test_a_translation_has_the_placeholders_of_its_text(catalogue: Catalog) -> None:
    for message in catalogue:
        if message.id:
            sources = [message.id] if isinstance(message.id, str) else list(message.id)
            wanted = set(PLACEHOLDER.findall(sources[-1]))
            for text in texts(message):
                assert set(PLACEHOLDER.findall(text)) == wanted, message.id


def test_the_texts_of_the_configuration_are_collected(catalogue: Catalog) -> None:
    from trainingapp.contract.config import config_fields
    from trainingapp.contract.setting import Text
    from trainingapp.contract.tasks.registry import TASKS

    names = {"CPU", "RandAugment", "TrivialAugment", "Dice", "Focal"}
    ids = {(message.context or "", text) for message in catalogue for text in _ids(message)}
    for task, descriptor in TASKS.items():
        metrics = descriptor.metrics.values()
        assert {("", text) for text in (descriptor.label, descriptor.about, *(m.label for m in metrics))} <= ids
        for name, field in config_fields(task).items():
            setting = field.setting
            assert ("", setting.help) in ids, name
            assert ("", setting.label) in ids, name
            assert ("", setting.section.title) in ids, name
            assert setting.unit is None or setting.unit.plural == "GB" or ("a unit", setting.unit.plural) in ids, name
            for label in setting.labels.values():
                found = (label.context, label.text) if isinstance(label, Text) else ("", label)
                assert found in ids or label in names, (name, label)


def _ids(message: Message) -> list[str]:
    """The text, or the singular and the plural."""
    return [message.id] if isinstance(message.id, str) else list(message.id)


def test_no_text_is_translated_within_an_f_string() -> None:
    """It would not be collected: xgettext does not look into them."""
    names = {"_", "gettext", "gettext_lazy", "ngettext", "pgettext"}
    found = [
        f"{file.relative_to(REPOSITORY)}:{node.lineno}"
        for folder in ("cvstudio", "trainingapp")
        for file in (REPOSITORY / folder).rglob("*.py")
        for text in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(text, ast.JoinedStr)
        for node in ast.walk(text)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
        if any(isinstance(argument, ast.Constant) for argument in node.args)
    ]
    assert found == []
