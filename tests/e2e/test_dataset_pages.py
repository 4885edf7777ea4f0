"""The pages of datasets in a browser: confirming an import, and viewing the images."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import WAIT_MS
from tests.helpers.studio import Studio, wait_for

SCENE = """
from django.contrib.auth.models import User
from tests.helpers.annotated_pages import make_proposed, make_scenes
admin = User.objects.get()
datasets = [make_proposed(admin), make_proposed(admin, "more pets to import"), make_scenes(admin)]
result = [dataset.get_absolute_url() for dataset in datasets]
"""


@pytest.fixture(scope="module")
def studio(shared_studio: Studio) -> Studio:
    """One for all tests here; each has a dataset of its own."""
    return shared_studio


@pytest.fixture(scope="module")
def pages(studio: Studio) -> list[str]:
    """Addresses of two datasets that wait for an answer, and of one that is ready; no worker changes them."""
    addresses: list[str] = studio.python(SCENE)
    studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    return [studio.url + address for address in addresses]


def importing(studio: Studio, name: str) -> str:
    """The options with which a dataset is being imported."""
    [row] = studio.rows("SELECT status, options FROM trainingapp_dataset WHERE name = ?", name)
    assert row["status"] == "importing"
    options: str = row["options"]
    return options


def sources(page: Page) -> list[str]:
    return [row.get_attribute("data-source") or "" for row in page.locator("[data-class]").all()]


def test_classes_are_edited_by_keyboard_and_the_import_starts(
    page: Page, studio: Studio, log_in: Callable[[], None], pages: list[str], problems: list[str]
) -> None:
    log_in()
    page.goto(pages[0])
    page.get_by_role("textbox", name="Name of kitten").fill("cat")
    expect(page.get_by_text("Merged with: kitten")).to_be_visible()
    expect(page.get_by_text("Merged with: cat")).to_be_visible()
    expect(page.locator("[data-kept]")).to_have_text("2")
    up = page.get_by_role("button", name="Move dog up")
    up.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert sources(page) == ["dog", "cat", "kitten"]
    page.get_by_role("spinbutton", name="Order of kitten").fill("0")
    page.keyboard.press("Tab")
    assert sources(page) == ["kitten", "dog", "cat"]
    expect(page.get_by_label("Seed")).to_be_hidden()
    page.get_by_label("New stratified split").check()
    page.get_by_label("Seed").fill("5")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="Importing")).to_be_visible()
    options = importing(studio, "pets to import")
    assert '"sources": ["kitten", "cat"]' in options
    assert '"seed": 5' in options


def test_images_are_shown_with_and_without_annotations(
    page: Page, log_in: Callable[[], None], pages: list[str], problems: list[str]
) -> None:
    log_in()
    page.goto(pages[2])
    boxes = page.locator("#images svg.overlay")
    expect(boxes.first).to_be_visible()
    page.get_by_label("Boxes and masks").uncheck()
    expect(boxes.first).to_be_hidden()
    page.get_by_label("Split").select_option("val")
    expect(page.locator(".image")).to_have_count(4)
    expect(boxes.first).to_be_hidden()  # what was chosen stays
    page.locator(".image").nth(1).click()
    opacity = page.get_by_label("Mask opacity")  # shown by the script that listens for the arrow keys
    for key, place in ((None, "2 of 4"), ("ArrowRight", "3 of 4"), ("ArrowLeft", "2 of 4")):
        if key:
            page.keyboard.press(key)
        expect(page.get_by_text(place)).to_be_visible()
        expect(opacity).to_be_visible()
    mask = page.locator(".stage .overlay-mask")
    opacity.fill("100")
    expect(mask).to_have_css("opacity", "1")
    page.get_by_label("Mask", exact=True).uncheck()
    expect(mask).to_be_hidden()
    page.get_by_role("link", name="scenes").click()
    expect(page).to_have_url(re.compile(r"\?split=val$"))


def test_an_import_is_confirmed_without_javascript(browser: Browser, studio: Studio, pages: list[str]) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.goto(f"{studio.url}/login/?next={pages[1].removeprefix(studio.url)}")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("spinbutton", name="Order of dog").fill("0")
    page.get_by_role("checkbox", name="Include kitten").uncheck()
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("Importing").first).to_be_visible()
    options = importing(studio, "more pets to import")
    assert '[{"name": "dog", "sources": ["dog"]}, {"name": "cat", "sources": ["cat"]}]' in options
    context.close()
