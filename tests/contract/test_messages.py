"""Messages: typed parameters, plural forms, nesting, storage; and the catalog of all codes in both languages."""

import importlib
import json
import pickle
import pkgutil
import re
from pathlib import Path

import pytest
from django.utils.translation import override

from trainingapp.contract import messages
from trainingapp.contract.errors import BadData, classify
from trainingapp.contract.messages import (
    COUNTS,
    TEMPLATES,
    VERBATIM,
    Message,
    Template,
    define,
    from_data,
    message_of,
    nested,
    ngettext,
    sentences,
)
from trainingapp.contract.messages.dataset_reading import FORMAT_TITLES
from trainingapp.contract.messages.training import DISK_FULL, DIVERGED, SAVED_AS, VALIDATED, WEIGHTS_NOT_FINITE
from trainingapp.presentation.messages import rendered, rendered_data

PACKAGE = Path(messages.__file__).parent
MODULES = [item.name for item in pkgutil.iter_modules([str(PACKAGE)])]
for name in MODULES:
    importlib.import_module(f"{messages.__name__}.{name}")
ROOT = PACKAGE.parents[2]
CHINESE = "zh-hans"


@pytest.fixture
def counted() -> Template:
    """A message with a plural form that no catalog has."""
    return Template("test_counted", *ngettext("%(count)d file of %(name)s", "%(count)d files of %(name)s"))


def test_a_message_has_its_english_text() -> None:
    assert str(SAVED_AS(file="step_3.pt")) == "Saved as step_3.pt."


@pytest.mark.parametrize(
    "params", [{}, {"step": 3}, {"step": "3", "values": "x"}, {"step": True, "values": "x"}, {"step": 3, "value": "x"}]
)
def test_parameters_that_are_missing_unknown_or_of_another_type_are_refused(params: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="validated"):
        VALIDATED(**params)


@pytest.mark.parametrize(("count", "text"), [(0, "0 files of a"), (1, "1 file of a"), (5, "5 files of a")])
def test_a_count_selects_the_plural_form(
    counted: Template, count: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TEMPLATES, counted.code, counted)
    message = counted(count=count, name="a")
    assert (str(message), rendered(message)) == (text, text)


def test_messages_are_rendered_within_messages() -> None:
    message = DIVERGED(fact=WEIGHTS_NOT_FINITE(tensor="conv1.weight"))
    assert str(message).startswith("The weights conv1.weight are no longer finite: training has diverged.")
    assert [one.code for one in nested(message)] == ["diverged", "weights_not_finite"]


def test_a_list_is_joined_and_sentences_follow_each_other() -> None:
    assert (
        str(VALIDATED(step=3, values=["loss 1", VERBATIM(text="top1 0.5")])) == "Validated at step 3: loss 1, top1 0.5."
    )
    assert str(sentences(SAVED_AS(file="a"), None, SAVED_AS(file="b"))) == "Saved as a. Saved as b."
    with override(CHINESE):
        assert " " not in rendered(sentences(VERBATIM(text="甲。"), VERBATIM(text="乙。")))


def test_percent_signs_of_values_are_kept() -> None:
    assert str(VERBATIM(text="100%% of %(name)s")) == "100%% of %(name)s"


def test_a_message_is_restored_from_json() -> None:
    message = VALIDATED(step=3, values=[VERBATIM(text="loss 1"), "top1 0.5"])
    assert from_data(json.loads(json.dumps(message.as_data()))) == message


@pytest.mark.parametrize("data", [None, "text", {}, {"code": 3}, {"message": "English prose of version 0.1"}])
def test_data_without_a_code_has_no_message(data: object) -> None:
    assert from_data(data) is None


def test_an_unknown_code_shows_the_stored_text_or_else_its_parameters() -> None:
    message = Message("of_a_later_version", {"file": "a.pt", "count": 3})
    assert str(message) == rendered(message) == "of_a_later_version (file=a.pt, count=3)"
    assert rendered_data({**message.as_data(), "message": "Saved a.pt."}) == "Saved a.pt."


def test_the_text_of_version_0_1_is_shown_unchanged() -> None:
    with override(CHINESE):
        assert rendered_data({"message": "Saved as step_3.pt."}) == "Saved as step_3.pt."


def test_a_parameter_that_another_version_stored_differently_stays_visible() -> None:
    assert str(Message("saved_as", {})) == "Saved as %(file)s."
    assert str(Message("validated", {"step": "three", "values": ""})) == "Validated at step three: ."


def test_a_code_is_defined_once() -> None:
    with pytest.raises(ValueError, match="saved_as is defined twice"):
        define("saved_as", "Saved.")


def test_an_error_keeps_its_message_when_pickled() -> None:
    error = pickle.loads(pickle.dumps(BadData(SAVED_AS(file="a"))))
    assert (str(error), message_of(error)) == ("Saved as a.", SAVED_AS(file="a"))
    assert message_of(ValueError("odd")) == VERBATIM(text="odd")


def test_a_failure_stores_text_code_and_parameters() -> None:
    data = classify(OSError(28, "No space left on device")).as_data()
    assert (data["error_class"], data["code"]) == ("disk_full", "disk_full")
    assert from_data(data) == DISK_FULL(error="[Errno 28] No space left on device")
    assert data["message"].startswith("The disk is full ([Errno 28] No space left on device).")


# The catalog


def sample(template: Template) -> Message:
    """The message with a value for each placeholder: its name for a text, a number else."""
    return template(**{name: 3 if form[-1] in "dfgeFGE" else f"<{name}>" for name, form in template.formats.items()})


#: Names that programs and publishers gave; they may be the same in every language.
NAMES_OF_FORMATS = {title.code for title in FORMAT_TITLES.values()}
ALL = [pytest.param(template, id=code) for code, template in sorted(TEMPLATES.items())]


@pytest.mark.parametrize("template", ALL)
def test_a_message_is_rendered_in_english_with_every_parameter(template: Template) -> None:
    text = str(sample(template))
    values = [f"<{name}>" for name, form in template.formats.items() if form == "s" and name != "count"]
    assert [value for value in values if value not in text] == []
    assert not re.search(r"%\(\w+\)", text)


@pytest.mark.parametrize("template", ALL)
def test_a_message_has_a_chinese_text_with_every_parameter(template: Template) -> None:
    message = sample(template)
    with override(CHINESE):
        text = rendered(message)
    placeholders = template.formats.keys() - {"count"}
    assert [name for name in placeholders if template.formats[name] == "s" and f"<{name}>" not in text] == []
    without_placeholders = re.sub(r"%\(\w+\)[^a-zA-Z]*[a-zA-Z]", "", template.text)
    if template.code not in NAMES_OF_FORMATS and re.search(r"[A-Za-z]{2}", without_placeholders):
        assert text != str(message), "the catalog lacks it"


def templates_in(value: object) -> list[Template]:
    """The messages that a module holds under a name: one, or those of a table."""
    if isinstance(value, dict):
        return [template for item in value.values() for template in templates_in(item)]
    if isinstance(value, list | tuple):
        return [template for item in value for template in templates_in(item)]
    return [value] if isinstance(value, Template) else []


def names_of_messages() -> dict[str, set[str]]:
    """For each code the names under which modules hold its message."""
    found: dict[str, set[str]] = {}
    for module in [messages, *(importlib.import_module(f"{messages.__name__}.{name}") for name in MODULES)]:
        for name, value in vars(module).items():
            for template in templates_in(value) if name != "TEMPLATES" else ():
                found.setdefault(template.code, set()).add(name)
    return found


def test_every_message_has_a_name_that_the_code_uses() -> None:
    names = names_of_messages()
    assert sorted(names) == sorted(TEMPLATES)
    used: dict[str, int] = {}
    for path in sorted((ROOT / "trainingapp").rglob("*.py")):
        for name in re.findall(r"\b[A-Za-z_]\w+\b", path.read_text(encoding="utf-8")):
            used[name] = used.get(name, 0) + 1
    # Its definition is one of its places.
    assert [code for code, held in names.items() if not any(used.get(name, 0) > 1 for name in held)] == []


def test_every_code_that_is_named_in_the_code_is_defined() -> None:
    """A module imports its messages by name, which fails where one is undefined; codes as text are looked up here."""
    for path in sorted((ROOT / "trainingapp").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for code in re.findall(r'\bMessage\("(\w+)"', text) if "contract.messages import" in text else ():
            assert code in TEMPLATES, f"{path}: {code}"


#: Numbers without thousands separators: settings, values of a file, places, sizes in pixels, and small numbers.
PLAIN_NUMBERS = set(
    """
    after attempt band batch_size before bits blue cores devices epoch epochs exit_status factor fitting fold frame
    free given gpus green height high hours images_per_s largest last least level line low max megabytes minutes new
    newest number old opset patch percent pid pixels present protocol published rank real_height real_width red
    seconds seed size smallest status step steps taken usual value width
    """.split()  # noqa: SIM905
)


def test_every_number_of_a_message_is_a_count_or_none() -> None:
    """The name of a parameter decides about thousands separators; a new name has to be added to one of the two."""
    numbers = {name for one in TEMPLATES.values() for name, kind in one.formats.items() if kind[-1] in "dfgeFGE"}
    assert numbers - COUNTS - PLAIN_NUMBERS == set()
    assert not COUNTS & PLAIN_NUMBERS


def test_counts_have_thousands_separators_and_other_numbers_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Template("test_counted", "%(count)d images in line %(line)d")
    monkeypatch.setitem(TEMPLATES, counted.code, counted)
    message = counted(count=12345, line=6789)
    assert str(message) == "12,345 images in line 6789"
    with override("en"):
        assert rendered(message) == str(message)


def test_names_cannot_rearrange_the_text_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = Template("test_left_out", "%(path)s was left out; so were %(others)s.")
    monkeypatch.setitem(TEMPLATES, left_out.code, left_out)
    message = left_out(path="photo\u202egpj.exe", others=["\x1b[2Ja.png", "猫\u3000👩\u200d🔬\u202f.png"])
    text = "photo\\u202egpj.exe was left out; so were \\x1b[2Ja.png, 猫\u3000👩\u200d🔬\u202f.png."
    assert str(message) == text
    with override("en"):
        assert rendered(message) == text
    assert message.params["path"] == "photo\u202egpj.exe"
