"""The form of a new run: presets, and entries that survive an outage and the end of the session."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.helpers.studio import Studio, wait_for


def test_entries_survive_an_outage_and_the_end_of_the_session(
    page: Page, studio: Studio, log_in: Callable[[], None], problems: list[str]
) -> None:
    studio.python(
        """
        from django.contrib.auth.models import User
        from tests.helpers.tiny import make_dataset
        make_dataset(User.objects.get())
        """
    )
    studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    log_in()
    page.goto(f"{studio.url}/runs/new/")
    name, epochs = page.get_by_label("Name", exact=True), page.get_by_role("spinbutton", name="Epochs", exact=True)
    notice = page.locator("#draft")
    expect(name).to_have_value("tints 1")

    # A preset fills its fields without a reload.
    page.evaluate("window.untouched = true")
    page.get_by_role("link", name="Quick look").press("Enter")
    expect(epochs).to_have_value("10")
    assert page.evaluate("window.untouched")

    # An outage, then the end of the session: the form stays as it is, and says why.
    name.fill("kept")
    page.context.set_offline(True)
    page.get_by_role("button", name="Create", exact=True).click()
    expect(notice).to_contain_text("The server cannot be reached. Your entries are kept")
    page.context.set_offline(False)
    studio.python("from django.contrib.sessions.models import Session\nSession.objects.all().delete()")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(notice).to_contain_text("You have been signed out. Your entries are kept")
    expect(name).to_have_value("kept")

    # What was not submitted is offered again, and gone once the run exists.
    log_in()
    page.goto(f"{studio.url}/runs/new/")
    expect(name).to_have_value("tints 1")
    notice.get_by_role("button", name="Restore").click()
    expect(name).to_have_value("kept")
    expect(epochs).to_have_value("10")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("kept")
    expect(page.locator("[data-chart=loss] canvas")).to_be_visible()  # the scripts of its page have run
    page.goto(f"{studio.url}/runs/new/")
    expect(name).to_have_value("tints 2")
    expect(notice).to_be_hidden()
