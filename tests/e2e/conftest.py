"""A browser, and a real studio for it to visit."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Error, Page, expect

from tests.helpers.studio import PATIENCE, Studio

#: The longest wait for anything that a page is expected to show, the end of a short training among them. Two cores that
#: train beside two browsers are slow, and no test is about how long.
WAIT_MS = PATIENCE * 60_000
expect.set_options(timeout=WAIT_MS)

SHOWN_LETTERS = 6_000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Add to the report of a failure what the browser showed then, and the last lines of the studio's log."""
    report = yield
    values = getattr(item, "funcargs", {})
    if report.failed and isinstance(page := values.get("page"), Page):
        with suppress(Error):
            report.sections.append((f"page {page.url}", page.content()[:SHOWN_LETTERS]))
    for name in ("studio", "shared_studio"):
        if report.failed and isinstance(studio := values.get(name), Studio) and studio.log.exists():
            report.sections.append(("log of the studio", studio.log.read_text()[-SHOWN_LETTERS:]))
    return report


@pytest.fixture
def context(context: BrowserContext) -> BrowserContext:
    """A window whose actions wait as long as expectations."""
    context.set_default_timeout(WAIT_MS)
    return context


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    executable = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    found = {"executable_path": executable} if Path(executable).exists() else {}
    return {**browser_type_launch_args, **found, "args": ["--no-sandbox", "--disable-gpu"]}


@contextmanager
def new_studio(data_dir: Path) -> Iterator[Studio]:
    """Within: a studio whose administrator is admin with the password "correct horse"."""
    installation = Studio(data_dir)
    installation.migrate_with_administrator()
    try:
        yield installation
    finally:
        installation.cut_power()


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """A studio of its own for each test; see `new_studio`."""
    with new_studio(tmp_path / "data") as installation:
        yield installation


@pytest.fixture(scope="module")
def shared_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """One studio for the tests of a module, which leave each other's objects alone."""
    with new_studio(tmp_path_factory.mktemp("shared") / "data") as installation:
        yield installation


@pytest.fixture
def problems(page: Page) -> Iterator[list[str]]:
    """What the browser complains about: errors of scripts, and what the policy forbids."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on(
        "console",
        lambda message: found.append(message.text) if "Content Security Policy" in message.text else None,
    )
    yield found
    assert not found


@pytest.fixture
def log_in(page: Page, studio: Studio) -> Callable[[], None]:
    def enter() -> None:
        page.goto(f"{studio.url}/login/")
        page.get_by_label("User name").fill("admin")
        page.get_by_label("Password").fill("correct horse")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("link", name="Notifications")).to_be_visible()

    return enter
