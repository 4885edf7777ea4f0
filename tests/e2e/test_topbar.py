"""The bell and the command palette of every page."""

import json
from collections.abc import Callable
from contextlib import closing

import pytest
from playwright.sync_api import Page, expect

from tests.helpers.receiver import receiving
from tests.helpers.studio import Studio, wait_for

SCENE = """
from django.contrib.auth.models import User
from tests.helpers.studio import TINY
from tests.helpers.tiny import make_dataset, make_run
admin = User.objects.get()
dataset = make_dataset(admin)
result = [make_run(admin, dataset, name, **{**TINY, "epochs": 1}).pk for name in ("birds", "fish")]
"""


@pytest.fixture(scope="module")
def studio(shared_studio: Studio) -> Studio:
    return shared_studio


@pytest.fixture(scope="module")
def runs(studio: Studio) -> list[int]:
    """Two runs that have not been started, in a studio with a worker."""
    made: list[int] = studio.python(SCENE)
    studio.start()
    return made


def test_a_webhook_and_the_bell_tell_of_a_completed_run(
    page: Page, studio: Studio, runs: list[int], log_in: Callable[[], None], problems: list[str]
) -> None:
    log_in()
    with receiving() as receiver:
        page.get_by_label("User menu: admin").click()
        page.get_by_role("link", name="Notifications", exact=True).last.click()
        page.get_by_role("link", name="New webhook").click()
        page.get_by_label("Name").fill("chat")
        page.get_by_label("Address").fill(receiver.url)
        page.get_by_role("button", name="Create webhook").click()
        page.get_by_role("button", name="Send a test").click()
        expect(page.locator("#deliveries tbody tr")).to_contain_text("sent")
        assert json.loads(receiver.requests[0].body)["event"] == "test"

        page.goto(f"{studio.url}/runs/{runs[0]}/")
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.get_by_role("link", name="Notifications: 1 unread")).to_be_visible()
        wait_for(lambda: len(receiver.requests) == 2, 30, "the webhook arrives")
        assert json.loads(receiver.requests[1].body)["run"]["name"] == "birds"

        # The same part of the page changes when the notification is read elsewhere.
        with closing(page.context.new_page()) as other:
            other.goto(f"{studio.url}/notifications/")
            other.get_by_role("link", name="Run completed").click()
            expect(other.get_by_role("heading", level=1)).to_have_text("birds")
        page.bring_to_front()
        expect(page.get_by_role("link", name="Notifications", exact=True)).to_be_visible()


def test_the_palette_leads_to_runs_and_performs_their_actions(
    page: Page, studio: Studio, runs: list[int], log_in: Callable[[], None], problems: list[str]
) -> None:
    log_in()
    page.set_viewport_size({"width": 390, "height": 812})
    button = page.get_by_role("link", name="Search and actions")
    button.focus()
    page.keyboard.press("Control+k")
    field = page.get_by_role("combobox", name="Search pages, runs")
    expect(field).to_be_focused()
    page.keyboard.press("Escape")
    expect(field).to_have_count(0)
    expect(button).to_be_focused()

    button.click()
    field.fill("fis")
    expect(page.get_by_role("option", name="fish")).to_have_attribute("aria-selected", "true")
    box = page.get_by_role("dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("fish")

    # An action of the run that is shown.
    page.keyboard.press("Control+k")
    field.fill("queue")
    expect(page.get_by_role("option").first).to_have_text("Queue")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    selected = page.get_by_role("option", selected=True)
    expect(selected).to_have_text("Queue")
    field.fill("Start")
    expect(selected).to_contain_text("Start")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    studio.wait_for_status(runs[1], "completed")

    # The theme, and the list of shortcuts with a key that can be turned off.
    theme = page.locator("html").get_attribute("data-bs-theme")
    page.keyboard.press("Control+k")
    field.fill("theme")
    expect(selected).to_contain_text("theme")
    page.keyboard.press("Enter")
    expect(page.locator("html")).not_to_have_attribute("data-bs-theme", str(theme))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.get_by_label("Open this list with the key ?").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("?")
    page.keyboard.press("Control+k")
    expect(page.get_by_role("dialog")).to_have_count(1)
    expect(field).to_be_focused()
