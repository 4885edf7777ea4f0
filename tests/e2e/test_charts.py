"""The charts of a run: the cursor shows its step in all of them, a zoom stays, and lines can be hidden."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.helpers.studio import Studio, wait_for

SCENE = """
from django.contrib.auth.models import User
from tests.helpers.tiny import make_dataset, make_run
from tests.helpers.world import store_events

admin = User.objects.get()
run = make_run(admin, make_dataset(admin), "drawn", epochs=4)
type(run).objects.filter(pk=run.pk).update(status="running", step=40, total_steps=40)
points = [{"type": "metrics", "step": step, "epoch": step // 10,
           "data": {"split": "train", "values": {"loss": 4 - step / 20, "top1": step / 50, "lr": 0.1}}}
          for step in range(1, 41)]
points += [{"type": "metrics", "step": step, "epoch": step // 10,
            "data": {"split": "val", "values": {"loss": 5.0, "top1": step / 50, "top5": 1.0}}}
           for step in (10, 20, 30, 40)]
store_events(run, *points)
result = run.pk
"""
NEXT_POINT = """
from tests.helpers.world import point, store_events
from trainingapp.models import TrainingRun
store_events(TrainingRun.objects.get(), point(41, 1.9))
"""


@pytest.fixture
def loss(page: Page, studio: Studio, log_in: Callable[[], None]) -> Locator:
    """The chart of the loss of a run with 40 training points and 4 validations, drawn."""
    run_id = studio.python(SCENE)
    studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    log_in()
    page.goto(f"{studio.url}/runs/{run_id}/charts/")
    chart = page.locator("[data-chart=loss]")
    expect(chart.locator("canvas")).to_be_visible()
    return chart


def drag(page: Page, chart: Locator, start: float, end: float) -> None:
    """Zoom with the mouse from one share of the plot's width to another."""
    box = chart.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + start * box["width"], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], box["y"] + 50, steps=4)
    page.mouse.up()


def test_charts_answer_mouse_and_keyboard(page: Page, studio: Studio, loss: Locator, problems: list[str]) -> None:
    quality, plot = page.locator("[data-chart=quality]"), loss.locator(".chart")

    # The newest values are shown, the newest validation among them; it is within the plot.
    expect(loss.locator("[data-split=val] b")).to_have_text("5")
    expect(loss.locator("[data-split=train] b")).to_have_text("2")

    # The cursor shows its step, in the other charts too.
    loss.locator(".u-over").hover(position={"x": 1, "y": 50})
    expect(loss.locator("[data-chart-where]")).to_have_text("Step 1")
    expect(quality.locator("[data-chart-where]")).to_have_text("Step 1")
    expect(loss.locator("[data-split=train] b")).to_have_text("3.95")

    # A zoom counts for all charts, is not lost with the next point, and can be undone.
    reset = page.get_by_role("button", name="Reset zoom")
    expect(reset).to_be_disabled()
    drag(page, loss, 0.25, 0.5)
    expect(reset).to_be_enabled()
    studio.python(NEXT_POINT)
    page.mouse.move(0, 0)
    expect(loss.locator("[data-split=train] b")).to_have_text("1.9")
    quality.locator(".u-over").hover(position={"x": 1, "y": 50})
    expect(quality.locator("[data-chart-where]")).to_have_text("Step 11")
    reset.click()
    expect(reset).to_be_disabled()

    # The same by keyboard.
    page.mouse.move(0, 0)
    plot.focus()
    page.keyboard.press("ArrowLeft")
    expect(loss.locator("[data-chart-where]")).to_have_text("Step 41")
    page.keyboard.press("ArrowLeft")
    expect(plot).to_have_attribute("aria-label", "Step 40. Loss: Training 2, Validation 5")
    page.keyboard.press("+")
    expect(reset).to_be_enabled()
    page.keyboard.press("Escape")
    expect(reset).to_be_disabled()

    # Other axes, a hidden line, and files.
    page.locator("label[for=axis-epoch]").click()
    page.keyboard.press("Tab")
    quality.locator(".u-over").hover(position={"x": 1, "y": 50})
    expect(quality.locator("[data-chart-where]")).to_have_text("Epoch 0.1")
    train = loss.get_by_role("button", name="Training")
    train.click()
    expect(train).to_have_attribute("aria-pressed", "false")
    page.get_by_label("Smoothing").press("End")
    page.get_by_label("Logarithmic").check()
    expect(page.locator("[data-chart-smoothing-value]")).to_have_text("0.99")
    for kind in ("CSV", "PNG"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Loss as {kind}").click()
        assert download.value.suggested_filename == f"drawn-loss.{kind.lower()}"
        content = download.value.path().read_bytes()
        assert content.startswith(b"\x89PNG") if kind == "PNG" else b"epoch,Training,Validation\r\n0.1,3.95" in content
