"""Texts for people use the terms of docs/style.md: no message, template or document holds a banned word."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.helpers.texts import REPOSITORY, Text, document_texts, messages

STYLE = REPOSITORY / "docs" / "style.md"
#: Where a banned word may stand: file pattern, regular expression of the words, and why.
EXCEPTIONS = (
    ("docs/style.md", r".*", "The glossary names the banned words."),
    ("docs/decisions/*", r".*", "A decision is a record of its day and keeps its words."),
)


def banned_words() -> list[str]:
    """The words in code marks of the second column of the glossary."""
    glossary = STYLE.read_text(encoding="utf-8").split("## Glossary", 1)[1]
    rows = [line.split("|") for line in glossary.splitlines() if line.startswith("| ")]
    return [word for row in rows[1:] for word in re.findall(r"`([^`]+)`", row[2])]


def pattern(words: list[str]) -> re.Pattern[str]:
    alternatives = "|".join(re.escape(word).replace(r"\*", r"\w*") for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:{alternatives})(?![\w-])", re.IGNORECASE)


def excused(text: Text, word: str) -> bool:
    return any(fnmatch(text.file, file) and re.fullmatch(words, word, re.IGNORECASE) for file, words, _ in EXCEPTIONS)


def documents() -> list[Text]:
    paths = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    return [text for path in paths for text in document_texts(path)]


def violations(texts: list[Text]) -> list[str]:
    banned = pattern(banned_words())
    found = ((text, match[0]) for text in texts for match in banned.finditer(text.text))
    return [f"{text.place}: “{word}” in “{text.text[:100]}”" for text, word in found if not excused(text, word)]


def test_the_glossary_bans_words() -> None:
    words = banned_words()
    assert len(words) > 50
    assert {"picture*", "goes on", "nobody"} <= set(words)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Two pictures are missing.", "pictures"),
        ("The run Goes On.", "Goes On"),
        ("What the model sees", "What the model sees"),
        ("Doors are open.", "Doors"),
    ],
)
def test_a_banned_word_is_found_in_any_case(text: str, word: str) -> None:
    assert violations([Text("page.html", 7, text)]) == [f"page.html:7: “{word}” in “{text}”"]


@pytest.mark.parametrize("text", ["The indoor scene", "a sound-card", "resumes", "`recipe` is read"])
def test_other_words_are_allowed(text: str, tmp_path: Path) -> None:
    document = REPOSITORY / "docs" / "none.md"
    assert violations([Text(str(document.relative_to(REPOSITORY)), 1, re.sub(r"`[^`]*`", "``", text))]) == []


def test_messages_use_the_terms_of_the_glossary() -> None:
    assert violations(messages()) == []


def test_documents_use_the_terms_of_the_glossary() -> None:
    assert violations(documents()) == []


def test_every_exception_is_needed() -> None:
    banned = pattern(banned_words())
    texts = [*messages(), *documents()]
    for file, words, reason in EXCEPTIONS:
        used = any(
            fnmatch(text.file, file) and re.fullmatch(words, match[0], re.IGNORECASE)
            for text in texts
            for match in banned.finditer(text.text)
        )
        assert used, f"{file} needs no exception any longer: {reason}"
