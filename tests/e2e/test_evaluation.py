"""The evaluation page in a browser: epochs, boxes by confidence, sorting, and use without JavaScript."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import WAIT_MS
from tests.helpers.studio import Studio, wait_for

SCENE = """
from django.contrib.auth.models import User
from tests.helpers.tiny import make_dataset, make_run
from tests.helpers.evaluations import annotated, evaluated
from trainingapp.models import TrainingRun
admin = User.objects.get()
dataset = make_dataset(admin, "tints")
annotated(dataset)
run = make_run(admin, dataset)
for epoch in (1, 2, 3):
    box = [0, 0.2 + epoch / 10, 2, 2, 20, 20]
    predictions = {index: {"boxes": [box, [1, 0.1, 5, 5, 9, 9]]} for index in range(12)}
    evaluated(run, epoch, task="detection", predictions=predictions, best_confidence=0.45)
TrainingRun.objects.filter(pk=run.pk).update(best_epoch=2)
result = run.pk
"""


@pytest.fixture(scope="module")
def studio(shared_studio: Studio) -> Studio:
    """One for all tests here, which only look."""
    return shared_studio


@pytest.fixture(scope="module")
def address(studio: Studio) -> str:
    """Where the evaluation of a run of three epochs is, the second the best; a box grows surer with each."""
    run_id = studio.python(SCENE)
    studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    return f"{studio.url}/runs/{run_id}/evaluation/"


def test_images_are_compared_across_epochs(
    page: Page, address: str, log_in: Callable[[], None], problems: list[str]
) -> None:
    log_in()
    page.goto(address)
    page.get_by_role("link", name="Same images by epoch").press("Enter")
    expect(page.locator("#show-images")).to_be_focused()
    images, boxes = page.locator("#travel-images"), page.locator("#fixed-0 [data-confidence]:visible")
    slider, shown = page.get_by_label("Epoch", exact=True).and_(page.locator("input")), page.locator("#travel-epoch")
    expect(shown).to_have_text("Epoch 3")
    expect(boxes).to_have_count(1)
    page.evaluate("window.untouched = true")

    # By keyboard to the best epoch, where the box is not sure enough.
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(shown).to_have_text("Epoch 2 ★ best")
    expect(images).to_have_attribute("data-epoch", "2")
    expect(boxes).to_have_count(0)
    expect(slider).to_have_attribute("aria-valuetext", "Epoch 2 ★ best")

    # A lower confidence shows it; it stays so in other epochs.
    page.get_by_label("Confidence threshold").fill("0.05")
    expect(boxes).to_have_count(2)
    expect(page.locator("#fixed-0 [data-shown-boxes]")).to_have_text("2")
    page.get_by_role("button", name="Play").click()
    expect(images).to_have_attribute("data-epoch", "3")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    expect(boxes).to_have_count(2)

    # Parts of the tab are opened, and change alone.
    page.locator("#show-classes").click()
    page.get_by_role("link", name="Accuracy (recall)", exact=True).click()
    expect(page.locator("#classes th[aria-sort=ascending]")).to_contain_text("Accuracy")
    expect(page.locator("#classes tbody th").first).to_have_text("red")
    page.locator("#show-notable").click()
    page.get_by_role("link", name="Best", exact=True).click()
    expect(page.get_by_role("heading", name="Best images")).to_be_visible()
    page.locator("#notable-class").select_option("red")
    expect(page.locator("#notable .guess-card")).to_have_count(6)
    page.get_by_label("Confidence threshold").fill("0.05")
    expect(page.locator("#notable-1 [data-confidence]:visible")).to_have_count(2)
    page.locator("#show-confusion").click()
    page.get_by_role("link", name="Percentage of row").click()
    expect(page.locator("#confusion td.hit").first).to_have_text("100")
    assert page.evaluate("window.untouched")

    # No part is taller than a screen or two.
    for part in ("metrics", "classes", "confusion", "images", "notable"):
        page.goto(f"{address}?show={part}")
        height = page.locator("#run-tab").bounding_box()["height"]  # type: ignore[index]  # it is visible
        assert height <= 1400, (part, height)

    # Another epoch is another page.
    page.locator("#epoch-choice").select_option("1")
    expect(page.locator("#evaluation-title")).to_contain_text("after epoch 1")


def test_everything_works_without_javascript(browser: Browser, studio: Studio, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.goto(f"{studio.url}/login/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    page.goto(address)
    page.get_by_role("link", name="Same images by epoch").click()
    page.get_by_role("navigation", name="Epochs").get_by_role("link", name="2", exact=True).click()
    expect(page.locator("#evaluation-title")).to_contain_text("after epoch 2")
    page.get_by_role("link", name="Per class").click()
    page.get_by_role("link", name="Accuracy (recall)", exact=True).click()
    expect(page.locator("#classes tbody th").first).to_have_text("red")
    expect(page.locator("#evaluation-title")).to_contain_text("after epoch 2")
    page.get_by_role("link", name="Best and worst images").click()
    page.locator("#notable-class").select_option("blue")
    page.locator("#notable").get_by_role("button", name="Show").click()
    expect(page.locator("#notable .guess-card")).to_have_count(6)
    context.close()
