"""The tabs of a run while it trains: opened without a reload, with the header in place, and named in place."""

from collections.abc import Callable

from playwright.sync_api import Page, Route, expect

from tests.helpers.studio import Studio, wait_for

SCENE = """
from django.contrib.auth.models import User
from tests.helpers.evaluations import evaluated
from tests.helpers.tiny import make_dataset, make_run
from tests.helpers.world import line, point, store_events

admin = User.objects.get()
run = make_run(admin, make_dataset(admin), "tabbed", epochs=4)
type(run).objects.filter(pk=run.pk).update(status="running", step=6, total_steps=24, epoch=1, total_epochs=4)
store_events(run, line("the first line"), *[point(step) for step in range(1, 7)])
evaluated(run, 1)
result = run.pk
"""
NEWS = """
from django.utils import timezone
from tests.helpers.evaluations import evaluated
from tests.helpers.world import line, point, store_events
from trainingapp.models import TrainingRun
run = TrainingRun.objects.get()
store_events(run, line("the second line"), point(7, 0.25))
evaluated(run, 2)
TrainingRun.objects.filter(pk=run.pk).update(step=12, epoch=2, updated_at=timezone.now())
"""


MEASURED = """
from tests.helpers.world import store_events
from trainingapp.models import TrainingRun
values = {"machine_memory_bytes": %d * 2**30}
store_events(TrainingRun.objects.get(), {"type": "metrics", "data": {"split": "system", "values": values}})
"""


def open_run(page: Page, studio: Studio, log_in: Callable[[], None], tab: str = "") -> str:
    """Go to a tab of the run of SCENE; returns the address of its page."""
    run_id = studio.python(SCENE)
    studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    log_in()
    home = f"{studio.url}/runs/{run_id}/"
    page.goto(home + tab)
    return home


def test_tabs_are_opened_without_a_reload_and_stay_live(
    page: Page, studio: Studio, log_in: Callable[[], None], problems: list[str]
) -> None:
    home = open_run(page, studio, log_in)
    expect(page.locator("#samples-title ~ *").first).to_contain_text("epoch 1")
    page.evaluate("window.untouched = true")

    # The name is edited in place, and an update of the header leaves the field alone.
    page.get_by_role("link", name="Rename").press("Enter")
    field = page.get_by_label("Name", exact=True)
    expect(field).to_be_focused()
    field.fill("a better name")
    studio.python(NEWS)
    expect(page.locator("#part-progress")).to_contain_text("Step 12 of 24")
    expect(page.locator("#samples-title ~ *").first).to_contain_text("epoch 2")  # the tab followed
    expect(field).to_have_value("a better name")
    field.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("a better name")

    # Each tab has an address, and what happened meanwhile is there.
    expect(page.locator("[data-chart=loss] [data-split=train] b")).to_have_text("0.25")
    page.locator("#tab-system").press("Enter")
    expect(page.locator("#run-tab")).to_contain_text("No measurements")
    for size in (3, 4):  # the first one brings the charts, the next one comes into them
        studio.python(MEASURED % size)
        expect(page.locator("[data-chart=memory] [data-metric] b")).to_have_text(f"{size} GB")
    for name in ("charts", "evaluation", "checkpoints", "config", "activity", "log"):
        page.locator(f"#tab-{name}").press("Enter")
        expect(page.locator(f"#run-tab[data-tab={name}]")).to_be_visible()
        expect(page.locator(f"#tab-{name}")).to_be_focused()
        assert page.url == f"{home}{name}/"
    assert page.title().startswith("Log · a better name")
    expect(page.locator(".log-line")).to_have_count(2)
    assert page.evaluate("window.untouched")

    # The header stays in view, and the way back leads to the tab before.
    page.set_viewport_size({"width": 1280, "height": 500})
    page.mouse.wheel(0, 2000)
    expect(page.locator(".run-bar")).to_be_in_viewport(ratio=1)
    page.go_back()
    expect(page.locator("#run-tab[data-tab=activity]")).to_be_visible()

    # A run that is deleted elsewhere offers nothing any longer; an outage is reported until it is over.
    page.context.set_offline(True)
    page.locator("#tab-config").click()
    expect(page.locator("#messages")).to_contain_text("The server cannot be reached.")
    page.context.set_offline(False)
    expect(page.locator("#messages")).not_to_contain_text("The server cannot be reached.")
    studio.python("from trainingapp.models import TrainingRun\nTrainingRun.objects.all().delete()")
    expect(page.locator("#connection")).to_contain_text("This object has been deleted.")
    assert page.locator("#part-header").evaluate("header => header.inert")


def test_a_tab_that_has_just_arrived_is_left_without_a_reload(
    page: Page, studio: Studio, log_in: Callable[[], None], problems: list[str]
) -> None:
    """The links of a tab work as soon as it is shown. htmx took 20 ms for that, in which a key opened them as links to
    another page, so that the focus was lost."""
    open_run(page, studio, log_in)
    page.evaluate("window.untouched = true")
    page.evaluate(PRESS_ON_ARRIVAL, "tab-log")
    page.locator("#tab-activity").press("Enter")
    expect(page.locator("#run-tab[data-tab=log]")).to_be_visible()
    expect(page.locator("#tab-log")).to_be_focused()
    assert page.evaluate("window.untouched")


#: Press Enter on this link right after the next swap, before the browser does anything else.
PRESS_ON_ARRIVAL = """(id) => document.addEventListener("htmx:afterSwap", () => queueMicrotask(() => {
  const link = document.getElementById(id);
  link.focus();
  link.click();
}), { once: true })"""


def test_an_answer_that_is_late_does_not_replace_the_tab_that_was_opened_meanwhile(
    page: Page, studio: Studio, log_in: Callable[[], None], problems: list[str]
) -> None:
    open_run(page, studio, log_in, "activity/")
    page.evaluate("window.untouched = true")
    held: list[Route] = []
    page.route("**/activity/", lambda route: held.append(route))
    page.route("**/evaluation/", lambda route: held.append(route))

    # The open tab is fetched again because the run has moved; then another tab is opened, which is slow as well.
    with page.expect_request("**/activity/"):
        studio.python(FAILED)
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/activity/")):
        page.locator("#tab-evaluation").press("Enter")
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/evaluation/")):
        page.locator("#tab-log").press("Enter")
    expect(page.locator("#run-tab[data-tab=log]")).to_be_visible()
    expect(page.locator("#tab-log")).to_be_focused()
    assert page.title().startswith("Log · ")
    assert page.evaluate("window.untouched")


FAILED = """
from django.utils import timezone
from trainingapp.models import TrainingRun
TrainingRun.objects.update(status="failed", updated_at=timezone.now())
"""
