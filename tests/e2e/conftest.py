"""A browser, and a real studio for it to visit."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.helpers.studio import Studio

#: Two cores that train beside the browser are slow.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    executable = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    found = {"executable_path": executable} if Path(executable).exists() else {}
    return {**browser_type_launch_args, **found, "args": ["--no-sandbox"]}


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
