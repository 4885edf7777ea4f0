"""One run from start to end in a browser, on a real studio that is killed on the way."""

import io
import random
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import Page, expect

from tests.helpers.studio import Studio, wait_for


def birds_zip(path: Path) -> Path:
    """A zip of two classes of tiny images that are easy to tell apart."""
    rng = random.Random(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(72):
            name, tint = (("wren", 150), ("robin", 70))[number % 2]
            pixels = bytes(min(255, max(0, tint + rng.randint(-50, 50))) for _ in range(32 * 32 * 3))
            data = io.BytesIO()
            Image.frombytes("RGB", (32, 32), pixels).save(data, "PNG")
            archive.writestr(f"birds/{'val' if number >= 48 else 'train'}/{name}/{number:03}.png", data.getvalue())
    return path


def import_birds(page: Page, path: Path) -> None:
    page.get_by_role("link", name="Datasets").click()
    page.get_by_role("link", name="Import dataset").first.click()
    page.get_by_label("Archive").set_input_files(path)
    expect(page.get_by_label("Name")).to_have_value("birds")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.locator("#dataset[data-status=proposed]")).to_be_visible()
    expect(page.get_by_text("Class folders").first).to_be_visible()
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.locator("#dataset[data-status=ready]")).to_be_visible()
    expect(page.locator(".image")).to_have_count(60)


def create_run(page: Page) -> int:
    """Create and start a run that is small but long enough to be observed; returns its number."""
    page.get_by_role("link", name="Train on this dataset").click()
    page.get_by_label("Name", exact=True).fill("Journey")
    page.get_by_role("combobox", name="Model", exact=True).select_option("mobilenet_v3_small")
    page.get_by_label("Image size").fill("32")
    page.get_by_role("spinbutton", name="Epochs", exact=True).fill("30")
    page.get_by_label("Batch size", exact=True).fill("4")
    for fold in page.locator("details.fold summary").all():
        fold.click()
    page.get_by_label("CPU threads").fill("1")
    page.get_by_label("Log every", exact=True).fill("1")
    page.get_by_role("button", name="Create and start").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Journey")
    return int(page.url.rstrip("/").rsplit("/", 1)[1])


def shown_step(page: Page) -> int:
    return int(page.locator("#part-progress").get_attribute("data-step") or 0)


def wait_for_steps(page: Page, more: int) -> None:
    """Wait until the page shows this many steps more, without reloading it."""
    goal = shown_step(page) + more
    wait_for(lambda: shown_step(page) >= goal, 60, f"the page shows step {goal}")


def check_log(page: Page, studio: Studio, run_id: int) -> None:
    """The log on the page holds each line once, in order, and none is missing."""
    sql = (
        "SELECT seq FROM trainingapp_runevent WHERE run_id = ? AND type IN ('log', 'status', 'checkpoint') ORDER BY seq"
    )

    def shown() -> list[int]:
        return [
            int(seq) for seq in page.locator(".log-line").evaluate_all("lines => lines.map(line => line.dataset.seq)")
        ]

    wait_for(lambda: shown() == [row["seq"] for row in studio.rows(sql, run_id)], 15, "the log equals what is stored")


def test_a_run_from_start_to_end(
    page: Page, studio: Studio, tmp_path: Path, log_in: Callable[[], None], problems: list[str]
) -> None:
    studio.start("--no-demo")
    log_in()
    import_birds(page, birds_zip(tmp_path / "birds.zip"))
    run_id = create_run(page)
    status = page.locator("[data-run-status]")

    # It is live: steps, log lines and curves come without a reload.
    page.evaluate("window.untouched = true")
    expect(status).to_have_text("Running")
    wait_for_steps(page, 5)
    loss = page.locator("[data-chart=loss] .chart-legend b").first
    before = loss.inner_text()
    wait_for(lambda: loss.inner_text() not in ("–", before), 30, "the loss on the page changes")
    expect(page.locator(".guess-card").first).to_be_visible()  # after the first validation

    # Pausing ends the trainer; resuming continues from the same step.
    page.get_by_role("button", name="Pause").click()
    expect(status).to_have_text("Paused")
    paused_at = studio.run(run_id)["step"]
    assert shown_step(page) == paused_at
    assert not studio.trainers()
    page.get_by_role("button", name="Resume").click()
    expect(status).to_have_text("Running")
    wait_for_steps(page, 3)
    started = [event for event in studio.events(run_id, "status") if event["data"].get("state") == "started"]
    assert [event["step"] for event in started] == [0, paused_at]
    assert page.evaluate("window.untouched")

    # A reload in the middle shows the same, and the page stays live.
    page.locator("#tab-log").click()
    expect(page.locator(".log-line").first).to_be_visible()
    page.reload()
    wait_for_steps(page, 3)
    check_log(page, studio, run_id)

    # The web server is killed: the page reports it, reconnects automatically, misses nothing and shows nothing twice.
    page.evaluate("window.untouched = true")
    for process in studio.find("web"):
        process.send_signal(signal.SIGKILL)
    expect(page.locator("#connection")).to_contain_text("Connection lost")
    expect(page.locator("#connection")).to_be_hidden()
    wait_for_steps(page, 3)
    assert page.evaluate("window.untouched")

    # It completes, and the best weights are downloaded.
    expect(status).to_have_text("Completed")
    check_log(page, studio, run_id)
    expect(page.locator("#part-progress")).to_contain_text("100 %")
    page.locator("#tab-overview").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download best").click()
    download.value.save_as(tmp_path / "best.pt")
    state = torch.load(tmp_path / "best.pt", weights_only=True)
    assert {"epoch", "model_state_dict", "optimizer_state_dict", "metrics", "is_best", "timestamp"} <= set(state)
    assert state["is_best"]
