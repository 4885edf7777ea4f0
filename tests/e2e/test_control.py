"""A real run is paused after reading the pause cost, resumed, sent requests while it trains, and forked."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.helpers.studio import TINY, Studio, wait_for

EPOCHS = 60


def create_run(studio: Studio) -> int:
    """A run that is small, and long enough to be observed while it runs."""
    config = {**TINY, "epochs": EPOCHS, "autosave_minutes": 0, "checkpoint_every_epochs": 20}
    config["keep_checkpoints"] = (
        1000  # the best of each epoch is saved, too: the requested checkpoint must outlive them
    )
    run_id: int = studio.python(
        f"""
        from django.contrib.auth.models import User
        from tests.helpers.tiny import make_dataset, make_run
        user = User.objects.get()
        result = make_run(user, make_dataset(user), "controlled", **{config!r}).pk
        """
    )
    return run_id


def press(page: Page, entry: str) -> None:
    """Press an entry of the run's menu."""
    page.locator("#run-menu-button").click()
    page.locator("#run-menu").get_by_text(entry, exact=True).click()


def order_done(studio: Studio, run_id: int, command: str) -> bool:
    told = [event["data"] for event in studio.events(run_id, "status")]
    return any(data.get("state") == "request_done" and data.get("command") == command for data in told)


def wait_for_order(page: Page, studio: Studio, run_id: int, command: str) -> None:
    wait_for(lambda: order_done(studio, run_id, command), 60, f"the order {command} is done")
    page.locator("#tab-log").click()
    expect(page.locator("#log-panel")).to_contain_text("Request carried out")


def test_a_run_is_controlled_while_it_trains(
    page: Page, studio: Studio, log_in: Callable[[], None], problems: list[str]
) -> None:
    run_id = create_run(studio)
    studio.start("--no-demo")
    log_in()
    page.goto(f"{studio.url}/runs/{run_id}/")
    status = page.locator("[data-run-status]")

    # The pause cost is shown while it trains, stays open during updates of the page, and is correct: no step is lost.
    page.get_by_role("button", name="Start").click()
    studio.wait_for_step(run_id, 8, 120)
    page.evaluate("window.untouched = true")
    cost = page.locator("#part-pause_cost")
    expect(cost).to_contain_text("0 steps lost")
    expect(cost).to_contain_text("time: not known yet")
    page.locator("#pause-cost-details summary").click()
    studio.wait_for_step(run_id, studio.run(run_id)["step"] + 3)
    expect(cost.get_by_role("row", name=re.compile("Kill or crash [1-9]"))).to_be_visible()
    page.get_by_role("button", name="Pause").press("Enter")
    expect(status).to_have_text("Paused")
    expect(status).to_be_focused()  # its button is gone: the focus is not lost, nor on another button
    paused_at = studio.run(run_id)["step"]
    expect(cost).to_contain_text("device available: immediately")

    # It resumes from exactly that step, and the duration of a pause is known by then.
    page.get_by_role("button", name="Resume").click()
    expect(status).to_have_text("Running")
    studio.wait_for_step(run_id, paused_at + 2, 120)
    expect(cost).to_contain_text(re.compile("time: (about|less than)"))
    started = [event["step"] for event in studio.events(run_id, "status") if event["data"].get("state") == "started"]
    assert started == [0, paused_at]

    # Orders between two steps: a checkpoint, an evaluation.
    press(page, "Save a checkpoint now")
    expect(page.locator("#messages")).to_contain_text("A checkpoint is saved at the next step.")
    wait_for_order(page, studio, run_id, "checkpoint")
    page.locator("#tab-checkpoints").click()
    expect(page.locator("#clean-up")).to_contain_text("requested")
    press(page, "Evaluate now")
    wait_for_order(page, studio, run_id, "evaluate")
    assert page.evaluate("window.untouched")

    # More epochs, previewed while typing, then sent to the running trainer.
    press(page, "Change epochs")
    page.get_by_label("Total epochs").fill(str(EPOCHS + 5))
    expect(page.locator("#epochs-preview")).to_contain_text(f"was {EPOCHS}")
    expect(page.locator("#epochs-preview svg.plot")).to_be_visible()
    page.get_by_role("button", name="Change", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("controlled")
    page.evaluate("window.untouched = true")
    wait_for_order(page, studio, run_id, "epochs")
    expect(page.locator("#part-progress")).to_contain_text(f"/ {EPOCHS + 5}")
    assert page.evaluate("window.untouched")
    page.get_by_role("button", name="Stop").click()
    expect(status).to_have_text("Stopped")

    # A fork from the requested checkpoint, with a lower learning rate, continues from its step to its end.
    page.locator("#tab-checkpoints").click()
    row = page.locator("#clean-up tr", has_text="requested")
    saved_at = int(row.locator("[data-label='Epoch, step']").inner_text().split()[-1])
    row.get_by_role("link", name="Fork from").click()
    page.get_by_label("Name", exact=True).fill("branch")
    epochs = studio.run(run_id)["epoch"] + 1
    page.get_by_role("spinbutton", name="Epochs", exact=True).fill(str(epochs))
    page.get_by_label("Learning rate", exact=True).fill("0.0005")
    page.get_by_role("button", name="Fork and start").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("branch")
    expect(page.locator("#lineage")).to_contain_text("Forked from controlled")
    expect(page.locator("#lineage")).to_contain_text("Learning rate")
    page.evaluate("window.untouched = true")
    fork_id = int(page.url.rstrip("/").rsplit("/", 1)[1])
    expect(page.locator("[data-run-status]")).to_have_text("Completed")
    assert page.evaluate("window.untouched")
    begun = [event["step"] for event in studio.events(fork_id, "status") if event["data"].get("state") == "started"]
    assert begun == [saved_at]
    assert studio.run(fork_id)["epoch"] == epochs
    page.goto(f"{studio.url}/runs/{run_id}/")
    expect(page.locator("#lineage")).to_contain_text("1 run was created from this one")


def test_the_menu_works_without_a_mouse(
    page: Page, studio: Studio, log_in: Callable[[], None], problems: list[str]
) -> None:
    run_id = create_run(studio)
    studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    log_in()
    page.goto(f"{studio.url}/runs/{run_id}/")
    button, menu = page.locator("#run-menu-button"), page.locator("#run-menu .menu-panel")
    button.focus()
    page.keyboard.press("Enter")
    expect(menu).to_be_visible()
    page.keyboard.press("Tab")
    expect(menu.get_by_role("link", name="Change epochs")).to_be_focused()
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Change epochs")
