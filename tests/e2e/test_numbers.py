"""Numbers on the page are formatted alike by the server and by the browser."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.helpers.studio import Studio, wait_for
from trainingapp.contract.number_text import number_text, numbers_apart

VALUES = [
    0,
    1,
    -1,
    0.5,
    0.1 + 0.2,
    0.123456,
    99.999,
    1e-4,
    1e-5,
    -1e-5,
    8.157e-9,
    9.99996e-5,
    9.99999e-6,
    12345,
    12345.6,
]
VALUES += [999_949, 999_999, 1.25e12, -7.5e-300, 2.5, 0.00012345, 1000.5, 1001.5, 3.14159e20]


def test_server_and_browser_format_alike(studio: Studio, page: Page) -> None:
    studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    page.goto(f"{studio.url}/login/")
    script = "import('/static/js/numbers.js').then((numbers) => values.map((value) => numbers.numberText(value)))"
    assert page.evaluate(f"(values) => {script}", VALUES) == [number_text(value) for value in VALUES]
    axis = [2.07995, 2.08, 2.08005]
    script = "async (values) => (await import('/static/js/numbers.js')).numbersApart(values)"
    assert page.evaluate(script, axis) == numbers_apart(axis)


def test_a_small_learning_rate_is_readable(
    studio: Studio, page: Page, log_in: Callable[[], None], problems: list[str]
) -> None:
    studio.python(
        """
        from django.contrib.auth.models import User
        from tests.helpers.tiny import make_dataset, make_run
        from tests.helpers.world import store_events
        user = User.objects.get()
        run = make_run(user, make_dataset(user), learning_rate=0.00002)
        rates = {1: 2e-5, 2: 1e-5, 3: 8.157e-9}
        for step, rate in rates.items():
            values = {"lr": rate, "loss": 1.0}
            store_events(run, {"type": "metrics", "step": step, "data": {"split": "train", "values": values}})
        """
    )
    studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    log_in()
    page.goto(f"{studio.url}/runs/1/")
    expect(page.locator("#run-tab")).to_contain_text("2×10⁻⁵")
    page.goto(f"{studio.url}/runs/1/charts/")
    chart = page.locator("[data-chart=learning_rate]")
    expect(chart.locator("[data-metric=lr]")).to_contain_text("8.157×10⁻⁹")
    expect(chart.get_by_role("img")).to_have_attribute("aria-label", "Learning rate: Learning rate 8.157×10⁻⁹")
    page.goto(f"{studio.url}/runs/new/?clone=1")
    expect(page.get_by_label("Learning rate", exact=True)).to_have_value("0.00002")
