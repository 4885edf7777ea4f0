"""Journeys through the list of runs: filter, columns, a saved view; tags, notes, archive and restore."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.helpers.studio import Studio, wait_for

SCENE = """
from django.contrib.auth.models import User
from tests.helpers.tiny import make_dataset, make_run
from trainingapp.models import TrainingRun
admin = User.objects.get()
dataset = make_dataset(admin, "birds")
for name, rate, top1 in (("slow", 0.001, 0.4), ("quick", 0.1, 0.7), ("steady", 0.01, 0.9)):
    run = make_run(admin, dataset, name, learning_rate=rate)
    TrainingRun.objects.filter(pk=run.pk).update(
        status="completed", best_metric=top1, metrics={"val/top1": top1}, best_epoch=1
    )
"""


@pytest.fixture(scope="module")
def studio(shared_studio: Studio) -> Studio:
    """One for both journeys: each brings the list back to what it was."""
    shared_studio.python(SCENE)
    shared_studio.spawn("web")
    wait_for(shared_studio.answers, 60, "the web server answers")
    return shared_studio


def shown(page: Page) -> list[str]:
    return page.locator(".row-title").all_inner_texts()


def search(page: Page, text: str, names: list[str]) -> None:
    page.get_by_role("searchbox", name="Search runs").fill(text)
    expect(page.locator(".row-title")).to_have_count(len(names))
    assert sorted(shown(page)) == sorted(names)


def test_runs_are_filtered_and_sorted_by_a_column_and_the_view_is_saved(
    page: Page, studio: Studio, log_in: Callable[[], None], problems: list[str]
) -> None:
    log_in()
    page.goto(f"{studio.url}/runs/")
    search(page, "lr<0.05", ["slow", "steady"])
    page.locator("#columns-menu summary").click()
    page.locator("#columns-menu input[value=accumulation_steps]").check()
    added = page.locator("#sort-accumulation_steps")
    expect(added).to_be_visible()
    page.goto(page.url)  # everything is in the address
    expect(added).to_be_visible()
    header = page.locator("#sort-lr")
    header.click()
    expect(page.locator("th[aria-sort]")).to_contain_text("LR")
    first = shown(page)
    header.click()
    expect(page.locator(".row-title").first).to_have_text(first[-1])

    page.locator("#views-menu summary").click()
    page.get_by_label("Save this view as").fill("gentle")
    page.locator("#views-menu").get_by_role("button", name="Save", exact=True).click()
    page.goto(f"{studio.url}/runs/")
    expect(page.locator(".row-title")).to_have_count(3)
    page.locator("#views-menu summary").click()
    page.get_by_role("link", name="gentle").click()
    expect(page.locator(".row-title")).to_have_count(2)
    expect(added).to_be_visible()
    page.locator("#views-menu summary").click()
    page.get_by_role("button", name="Delete the view gentle").click()
    expect(page.get_by_role("link", name="gentle")).to_have_count(0)


def test_runs_are_tagged_described_archived_and_restored(
    page: Page, studio: Studio, log_in: Callable[[], None], problems: list[str]
) -> None:
    log_in()
    page.goto(f"{studio.url}/runs/")
    for name in ("slow", "quick"):
        page.get_by_role("checkbox", name=f"Select {name}").check()
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.get_by_label("Tag of the selected runs").fill("first try")
    page.get_by_role("button", name="Add tag").click()
    expect(page.locator(".chip", has_text="first try")).to_have_count(2)
    page.get_by_label("Tag", exact=True).select_option("first try")
    expect(page.locator(".row-title")).to_have_count(2)

    # A note, on the page of the run.
    page.get_by_role("link", name="quick", exact=True).click()
    page.get_by_role("link", name="Edit", exact=True).first.click()
    page.get_by_label("Note").fill("The rate was too high.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The rate was too high.")).to_be_visible()

    # Out of the list, and back.
    page.goto(f"{studio.url}/runs/")
    page.get_by_role("checkbox", name="Select quick").check()
    page.get_by_role("button", name="Archive").click()
    expect(page.locator(".row-title")).to_have_count(2)
    page.get_by_role("link", name="Archived").click()
    expect(page.locator(".row-title")).to_have_count(1)
    expect(page.locator(".row-title")).to_have_text("quick")
    page.get_by_role("checkbox", name="Select quick").check()
    page.get_by_role("button", name="Restore").click()
    page.goto(f"{studio.url}/runs/")
    expect(page.locator(".row-title")).to_have_count(3)
    search(page, "tag:first", ["slow", "quick"])


#: Collects the names of runs that the table shows at any moment.
RECORD = """
() => {
  window.seen = new Set();
  const look = () => {
    for (const link of document.querySelectorAll(".row-title")) window.seen.add(link.textContent.trim());
  };
  new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
  look();
}
"""


def test_a_list_that_was_asked_for_before_a_filter_is_not_shown_after_it(
    page: Page, studio: Studio, log_in: Callable[[], None], problems: list[str]
) -> None:
    log_in()
    page.goto(f"{studio.url}/runs/")
    expect(page.locator(".row-title")).to_have_count(3)
    held: list[Route] = []
    page.route(
        f"{studio.url}/runs/",
        lambda route: held.append(route) if "hx-request" in route.request.headers else route.continue_(),
    )
    studio.manage("train", "archive", "2")
    wait_for(lambda: page.wait_for_timeout(50) or held, 30, "the page asks for its list again")
    page.get_by_role("link", name="Archived").click()
    expect(page.locator(".row-title")).to_have_count(1)
    address = page.url
    page.evaluate(RECORD)
    with page.expect_response(address):  # what was dropped is asked for again, with the filter
        for route in held:
            route.continue_()
    assert page.evaluate("[...window.seen]") == ["quick"]
    studio.manage("train", "restore", "2")
