"""The tasks in a browser: a batch before the run, the run, and its evaluation."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.helpers.studio import Studio

#: (task, network, what is asked of its evaluation page)
TASKS = [
    ("Detection", "fcos_mobilenet_v3_large_fpn", "AP50"),
    ("Segmentation", "lraspp_mobilenet_v3_large", "Mean IoU"),
    ("Instance segmentation", "maskrcnn_mobilenet_v3_large_fpn", "AP50"),
]


@pytest.fixture
def scenes(studio: Studio) -> None:
    """A studio with a small set of scenes that serves every task."""
    studio.manage("demo", "--name", "Shapes", "--images", "60", "--size", "64")
    studio.start("--no-demo")


@pytest.mark.long
@pytest.mark.parametrize(("task", "model", "metric"), TASKS)
def test_a_task_from_form_to_evaluation(
    page: Page,
    studio: Studio,
    scenes: None,
    log_in: Callable[[], None],
    problems: list[str],
    task: str,
    model: str,
    metric: str,
) -> None:
    log_in()
    page.goto(f"{studio.url}/runs/new/")
    page.get_by_role("button", name=re.compile(f"^{task}")).click()
    expect(page.get_by_label("Name", exact=True)).not_to_have_value("")
    page.get_by_label("Name", exact=True).fill("Shapes")
    page.get_by_role("combobox", name="Model", exact=True).select_option(model)
    page.get_by_label("Image size").fill("64")
    page.get_by_role("spinbutton", name="Epochs", exact=True).fill("2")
    page.get_by_label("Batch size", exact=True).fill("12")

    # A batch as the model will see it, drawn by a worker; nothing is stored for it.
    page.get_by_role("button", name="Preview batch").click()
    sheet = page.get_by_role("img", name="First training batch")
    expect(sheet).to_be_visible()
    assert sheet.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    assert not studio.rows("SELECT id FROM trainingapp_trainingrun")

    page.get_by_role("button", name="Create and start").click()
    status = page.locator("[data-run-status]")
    expect(status).to_have_text("Completed")
    expect(page.locator(".guess-card").first).to_be_visible()
    page.locator("#tab-charts").click()
    expect(page.locator("#part-batch img")).to_be_visible()
    expect(page.locator("[data-chart=quality] .chart-legend b").nth(1)).not_to_have_text("–")

    # Its evaluation: the metric, and the same images in both epochs.
    page.locator("#tab-evaluation").click()
    expect(page.locator(".tile", has_text=metric).first).to_be_visible()
    page.locator("#show-confusion").click()
    expect(page.locator("#confusion .matrix")).to_be_visible()
    page.locator("#show-images").click()
    expect(page.locator("#travel-epoch")).to_contain_text("Epoch 2")
    expect(page.locator("#travel-images img").first).to_be_visible()
