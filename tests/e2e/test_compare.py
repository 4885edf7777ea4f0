"""A journey through the comparison of three runs."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.helpers.studio import Studio, wait_for

SCENE = """
from django.contrib.auth.models import User
from tests.helpers.evaluations import evaluated, results
from tests.helpers.tiny import make_dataset, make_run
from tests.helpers.world import point, store_events
from trainingapp.models import TrainingRun

admin = User.objects.get()
dataset = make_dataset(admin)
made = []
for name, guesses in (("plain", [0] * 12), ("tuned", [0, 1] * 6), ("odd", [1] * 12)):
    run = make_run(admin, dataset, name, learning_rate=0.1 if name == "tuned" else 0.01)
    found = results(guesses)
    store_events(run, *[point(step, 1 / step) for step in range(1, 7)])
    evaluated(run, 1, values={"loss": 0.5, "top1": float(found.quality_N.mean())}, image_results=found)
    TrainingRun.objects.filter(pk=run.pk).update(best_epoch=1, total_steps=6, total_epochs=1, status="completed")
    made.append(run.pk)
result = made
"""


def test_three_runs_are_compared(page: Page, studio: Studio, log_in: Callable[[], None], problems: list[str]) -> None:
    plain, tuned, odd = studio.python(SCENE)
    studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    log_in()
    page.goto(f"{studio.url}/runs/{plain}/charts/")
    page.get_by_label("Compare with").select_option(str(tuned))
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Compare runs")
    page.get_by_label("Compare with").select_option(str(odd))
    page.get_by_role("button", name="Add run").click()
    expect(page.get_by_role("link", name="Remove odd from the comparison")).to_be_visible()

    # Metrics and charts: a line for each run.
    expect(page.locator(f"#metrics-{tuned}")).to_contain_text("+50.0")
    charts = page.locator("[data-chart=loss-train]")
    expect(charts.locator("canvas")).to_be_visible()
    expect(charts.locator(".legend-toggle")).to_have_count(3)
    page.get_by_role("link", name="Hide odd").click()
    expect(charts.locator(".legend-toggle")).to_have_count(2)
    page.get_by_role("link", name="Show odd").click()
    page.locator("summary", has_text="Markdown").click()
    expect(page.get_by_label("Comparison as Markdown")).to_have_value(re.compile(r"\| tuned \| 1 \|"))

    # The other parts.
    page.get_by_role("link", name="Significance").click()
    expect(page.get_by_text("tuned is better than plain by 50.0 percentage points")).to_be_visible()
    page.get_by_role("link", name="Config").click()
    expect(page.get_by_role("row", name=re.compile("Learning rate"))).to_contain_text("0.1")
    page.get_by_role("link", name="Images", exact=True).click()
    expect(page.locator(".guess-card")).to_have_count(0)
    page.get_by_role("link", name=re.compile("Newly right")).click()
    expect(page.locator(".guess-card")).to_have_count(6)
