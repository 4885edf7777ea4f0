"""A run ends: its webhook arrives at a server, and the bell of an open page counts it."""

import json
from collections.abc import Callable
from contextlib import closing

from playwright.sync_api import Page, expect

from tests.helpers.receiver import receiving
from tests.helpers.studio import Studio, wait_for


def test_a_webhook_and_the_bell_tell_of_a_completed_run(
    page: Page, studio: Studio, log_in: Callable[[], None], problems: list[str]
) -> None:
    [run] = studio.python(
        """
        from django.contrib.auth.models import User
        from tests.helpers.studio import TINY
        from tests.helpers.tiny import make_dataset, make_run
        admin = User.objects.get()
        result = [make_run(admin, make_dataset(admin), "birds", **{**TINY, "epochs": 1}).pk]
        """
    )
    studio.start()
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

        page.goto(f"{studio.url}/runs/{run}/")
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.get_by_role("link", name="Notifications: 1 unread")).to_be_visible(timeout=60_000)
        wait_for(lambda: len(receiver.requests) == 2, 30, "the webhook arrives")
        assert json.loads(receiver.requests[1].body)["run"]["name"] == "birds"

        # The same part of the page changes when the notification is read elsewhere.
        with closing(page.context.new_page()) as other:
            other.goto(f"{studio.url}/notifications/")
            other.get_by_role("link", name="Run completed").click()
            expect(other.get_by_role("heading", level=1)).to_have_text("birds")
        page.bring_to_front()
        expect(page.get_by_role("link", name="Notifications", exact=True)).to_be_visible()
