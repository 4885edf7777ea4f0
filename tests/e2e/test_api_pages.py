"""The API document in the browser, and the page of API tokens."""

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from playwright.sync_api import Page, expect

from tests.helpers.studio import Studio, wait_for


@pytest.fixture(scope="module")
def studio(shared_studio: Studio) -> Studio:
    """A studio with a queued run and no worker."""
    shared_studio.python(
        """
        from django.contrib.auth.models import User
        from tests.helpers.tiny import make_dataset, make_run
        user = User.objects.get()
        make_run(user, make_dataset(user), start=True)
        """
    )
    shared_studio.spawn("web")
    wait_for(shared_studio.answers, 60, "the web server answers")
    return shared_studio


@pytest.fixture
def web(studio: Studio, log_in: Callable[[], None]) -> Studio:
    """A signed-in browser, without tokens of other tests."""
    with closing(sqlite3.connect(studio.data_dir / "studio.sqlite3", timeout=20)) as connection, connection:
        connection.execute("DELETE FROM trainingapp_apitoken")
    log_in()
    return studio


def test_the_api_can_be_tried_in_the_browser(web: Studio, page: Page, problems: list[str]) -> None:
    page.goto(f"{web.url}/api/v1/docs")
    operation = page.locator("#operations-training-control_run")
    operation.get_by_role("button").first.click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_placeholder("pk").fill("1")
    expect(operation.locator("textarea")).to_have_value('{\n  "action": "start"\n}')
    operation.locator("textarea").fill('{"action": "pause"}')
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    assert web.status(1) == "paused"


def test_the_description_fits_a_phone_and_dark_mode(web: Studio, page: Page, problems: list[str]) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{web.url}/api/v1/docs")
    expect(page.get_by_text("List runs")).to_be_visible()
    page.get_by_label("User menu").click()
    page.get_by_role("button", name="Light or dark theme").click()
    expect(page.locator("html.dark-mode")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_token_is_created_copied_and_revoked(web: Studio, page: Page, problems: list[str]) -> None:
    page.goto(f"{web.url}/account/tokens/")
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Create token").click()
    secret = page.get_by_label("Copy the token now").input_value()
    assert secret.startswith("cvs_")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("has been revoked")).to_be_visible()
    expect(page.locator("body")).not_to_contain_text(secret)
    expect(page.get_by_role("button", name="Revoke")).to_have_count(0)


def test_a_token_is_created_once_for_repeated_submissions(web: Studio, page: Page, problems: list[str]) -> None:
    tokens = f"{web.url}/account/tokens/"
    page.goto(tokens)
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Create token").dblclick()
    expect(page.get_by_label("Copy the token now")).to_be_visible()
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("“laptop” has already been created")
    expect(page.get_by_label("Copy the token now")).to_have_count(0)
    expect(page.get_by_role("button", name="Revoke")).to_have_count(1)
    page.go_back()
    page.get_by_label("Name").fill("server")
    page.get_by_role("button", name="Create token").click()
    expect(page.get_by_label("Copy the token now")).to_be_visible()
    expect(page.get_by_role("button", name="Revoke")).to_have_count(2)
