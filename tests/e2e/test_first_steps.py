"""The first visit of somebody who knows nothing: train, watch, try and export a model of the demo data."""

import json
import zipfile
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.helpers.studio import PATIENCE, Studio

#: For a quick look on two cores beside other tests.
TRAINED_MS = PATIENCE * 600_000


@pytest.mark.long
def test_the_first_steps_lead_from_the_demo_to_an_exported_model(
    page: Page, studio: Studio, log_in: Callable[[], None], problems: list[str]
) -> None:
    # No hub of published weights can be reached: the defaults must not need one.
    studio.env |= {"PUBLISHED_WEIGHTS": "download", "HF_ENDPOINT": "http://127.0.0.1:9"}
    studio.start()
    log_in()
    steps = page.get_by_role("region", name="First steps")
    done = steps.locator(".step-done")
    expect(done).to_have_count(1)  # the demo dataset, which is drawn beside the pages
    assert "Dataset" in done.inner_text()

    # Nothing is filled in: the quick look that the form offers then is started, and watched.
    steps.get_by_role("link", name="Run", exact=True).click()
    expect(page.get_by_label("Epochs", exact=True)).to_have_value("5")
    page.get_by_role("button", name="Create and start").click()
    expect(page.locator("[data-run-status]")).to_have_text("Running")
    expect(page.locator("[data-chart=loss] canvas")).to_be_visible()
    expect(page.locator("[data-run-status]")).to_have_text("Completed", timeout=TRAINED_MS)

    # The detector of the defaults has trained from scratch, and says so in one line.
    (run,) = studio.rows("SELECT id, config FROM trainingapp_trainingrun")
    config = json.loads(run["config"])
    assert (config["task"], config["model"], config["pretrained"]) == ("detection", "pan_s", "auto")
    said = [event["data"]["message"] for event in studio.events(run["id"], "log")]
    (line,) = [message for message in said if "from scratch" in message]
    page.locator("#tab-log").click()
    expect(page.locator(".log-line", has_text=line)).to_have_count(1)
    page.locator("#tab-overview").click()

    # The best checkpoint becomes a model.
    page.locator("#save-model").click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#entry .status", has_text="Ready")).to_be_visible()

    # It is tried on two images.
    images = sorted((studio.data_dir / "datasets").glob("*/images/val/**/*.jpg"))[:2]
    page.get_by_role("link", name="Try").click()
    page.locator("#images").set_input_files(images)
    expect(page.locator("[data-predictions] figure")).to_have_count(2)

    # And exported; then the first steps are done.
    page.go_back()
    page.get_by_role("link", name="Export", exact=True).click()
    page.get_by_role("button", name="Export").click()
    expect(page.locator("#download-export")).to_be_visible()
    with page.expect_download() as download:
        page.locator("#download-export").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert any(name.endswith(".onnx") for name in archive.namelist())
    page.get_by_role("link", name="CV Studio").click()
    expect(steps).to_have_count(0)
