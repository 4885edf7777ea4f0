"""Templates are readable: short lines, one partial for each part of a page, and no status logic."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((REPOSITORY / "templates").rglob("*.html"))
MAX_LINE = 160


def places(pattern: str, *, but: frozenset[str] = frozenset()) -> list[str]:
    """The places of a pattern, as file:line, outside the templates that may hold it."""
    found = []
    for path in TEMPLATES:
        name = str(path.relative_to(REPOSITORY / "templates"))
        if name not in but:
            lines = path.read_text(encoding="utf-8").splitlines()
            found += [f"{name}:{number}" for number, line in enumerate(lines, 1) if re.search(pattern, line)]
    return found


def test_no_line_is_longer_than_160_characters() -> None:
    assert places(rf"^.{{{MAX_LINE + 1}}}") == []


def test_the_head_of_a_panel_is_one_partial() -> None:
    assert places(r'class="panel-head"', but=frozenset({"_panel_head.html"})) == []


def test_the_empty_state_is_one_partial() -> None:
    # An error page is a page of its own with a heading of the first level.
    assert places(r'class="panel empty"', but=frozenset({"_empty.html", "_problem.html", "500.html"})) == []


def test_the_pager_is_one_partial() -> None:
    assert places(r'class="pagination', but=frozenset({"_pages.html"})) == []


def test_status_logic_is_in_pages_and_models_only() -> None:
    assert places(r"\{% (?:el)?if [^%]*\b(?:status|state) ?(?:==|!=) ?[\"']") == []


def test_every_request_of_htmx_has_an_address_that_works_without_it() -> None:
    """A link or form with hx-get or hx-post carries the same address as href, action or formaction."""
    missing = []
    for path in TEMPLATES:
        for tag in re.findall(r"<(?:a|form|button)\b(?:[^<>\"]|\"[^\"]*\")*>", path.read_text(encoding="utf-8")):
            if re.search(r"\bhx-(?:get|post)=", tag) and not re.search(r"\b(?:href|action|formaction)=", tag):
                missing.append(f"{path.name}: {tag[:80]}")
    assert missing == []
