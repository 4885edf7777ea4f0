"""Cleaning up checkpoints in the browser: a live preview of the retention policy, and the confirmation."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import WAIT_MS
from tests.helpers.studio import Studio, wait_for

SCENE = """
from django.contrib.auth.models import User
from tests.helpers.stored import stored
from tests.helpers.tiny import make_dataset, make_run
from trainingapp.models import TrainingRun
admin = User.objects.get()
dataset = make_dataset(admin, "tints")
runs = [make_run(admin, dataset, name, epochs=6) for name in ("a run", "another run")]
for run in runs:
    TrainingRun.objects.filter(pk=run.pk).update(status="paused")
    stored(run, 6, best=2)
result = [run.pk for run in runs]
"""


@pytest.fixture(scope="module")
def studio(shared_studio: Studio) -> Studio:
    """One for all tests here; each has a run of its own."""
    return shared_studio


@pytest.fixture(scope="module")
def addresses(studio: Studio) -> list[str]:
    """The pages of the six checkpoints of two paused runs."""
    run_ids = studio.python(SCENE)
    studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    return [f"{studio.url}/runs/{run_id}/checkpoints/" for run_id in run_ids]


def test_the_preview_is_live_and_confirmed_deletions_are_done(
    page: Page, studio: Studio, log_in: Callable[[], None], addresses: list[str], problems: list[str]
) -> None:
    log_in()
    page.goto(addresses[0])
    expect(page.get_by_text("These rules would delete 2 checkpoints")).to_be_visible()
    page.evaluate("window.untouched = true")
    page.get_by_label("Newest").fill("2")
    expect(page.get_by_text("These rules would delete 3 checkpoints")).to_be_visible()
    assert page.evaluate("window.untouched"), "without a reload"
    page.get_by_role("button", name="Delete these").click()
    expect(page.get_by_role("heading", name="Delete 3 checkpoints?")).to_be_visible()
    expect(page.get_by_text("packs/000003.pack")).to_be_visible()
    page.get_by_role("button", name=re.compile("Delete and free")).click()
    expect(page.get_by_text("3 checkpoints deleted")).to_be_visible()
    expect(page.locator("tr[id^=row-]")).to_have_count(3)
    page.locator("tr", has_text="epoch_5.pt").get_by_role("button", name="Pin").click()
    expect(page.locator("tr", has_text="epoch_5.pt").get_by_text("pinned").first).to_be_visible()


def test_it_works_without_javascript(browser: Browser, studio: Studio, addresses: list[str]) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.goto(f"{studio.url}/login/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    page.goto(addresses[1])
    page.get_by_label("Newest").fill("2")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("These rules would delete 3 checkpoints")).to_be_visible()
    page.get_by_label("Select epoch_1.pt").check()
    page.get_by_role("button", name="Delete selected").click()
    expect(page.get_by_role("heading", name="Delete 1 checkpoint?")).to_be_visible()
    page.get_by_role("button", name=re.compile("Delete and free")).click()
    expect(page.locator("tr[id^=row-]")).to_have_count(5)
    context.close()
