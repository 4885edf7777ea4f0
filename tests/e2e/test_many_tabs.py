"""Many tabs of one browser are live at the same time, over one connection."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.helpers.studio import Studio, wait_for

#: More than the six connections that a browser opens to one host.
TABS = 9

STORE = """
from tests.helpers.world import line, point, store_events
from trainingapp.models import TrainingRun
run = TrainingRun.objects.get(pk={run})
store_events(run, line({text!r}), point({step}))
"""


@pytest.mark.long
def test_nine_tabs_are_live(page: Page, studio: Studio, log_in: Callable[[], None], problems: list[str]) -> None:
    runs = studio.python(
        """
        from django.contrib.auth.models import User
        from django.utils import timezone
        from tests.helpers.tiny import make_dataset, make_run
        from trainingapp.models import TrainingRun
        user = User.objects.get()
        dataset = make_dataset(user)
        result = [make_run(user, dataset, start=False).pk for _ in range(2)]
        TrainingRun.objects.update(status="running", heartbeat_at=timezone.now(), total_steps=100)
        """
    )
    studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    log_in()
    tabs = [page, *(page.context.new_page() for _number in range(TABS - 1))]
    for number, tab in enumerate(tabs[:-1]):
        tab.goto(f"{studio.url}/runs/{runs[number % 2]}/log/")
    tabs[-1].goto(f"{studio.url}/runs/")
    for run in runs:
        studio.python(STORE.format(run=run, text=f"first of {run}", step=1))
    for number, tab in enumerate(tabs[:-1]):
        expect(tab.locator(".log")).to_contain_text(f"first of {runs[number % 2]}")

    # The list hears of what has happened, and what a tab missed while it was away comes once.
    tabs[0].goto("about:blank")
    studio.python(STORE.format(run=runs[0], text="while away", step=2))
    tabs[0].go_back()
    studio.python(STORE.format(run=runs[0], text="back again", step=3))
    for tab in (tabs[0], tabs[2]):
        expect(tab.locator(".log")).to_contain_text("back again")
        expect(tab.locator(".log-line", has_text="while away")).to_have_count(1)
    studio.python(
        f"""
        from trainingapp.models import TrainingRun
        TrainingRun.objects.get(pk={runs[1]}).transition("completed")
        """
    )
    expect(tabs[1].locator("[data-run-status]")).to_have_text("Completed")
    expect(tabs[-1].locator("#runs")).to_contain_text("Completed")

    # An outage is reported by every tab, and forgotten when it is over.
    studio.processes[-1].kill()
    studio.processes[-1].wait()
    for tab in (tabs[2], tabs[-1]):
        expect(tab.locator("#connection")).to_contain_text("Connection lost")
    tabs[-1].get_by_role("searchbox").fill("tiny")
    expect(tabs[-1].locator("#messages")).to_contain_text("The server cannot be reached.")
    studio.spawn("web")
    for tab in (tabs[2], tabs[-1]):
        expect(tab.locator("#connection")).to_be_hidden()
    expect(tabs[-1].locator("#messages")).to_be_empty()
    studio.python(STORE.format(run=runs[0], text="after the outage", step=4))
    for tab in (tabs[0], tabs[4]):
        expect(tab.locator(".log-line", has_text="after the outage")).to_have_count(1)
