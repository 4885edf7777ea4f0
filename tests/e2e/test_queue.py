"""The queue reordered in a browser: by keyboard, by dragging with mouse and touch, and without JavaScript."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.conftest import WAIT_MS
from tests.helpers.accessibility import violations
from tests.helpers.studio import Studio, wait_for

SCENE = """
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from tests.helpers.machines import busy_studio
from tests.helpers.tiny import make_dataset
from trainingapp.scheduling import forecast
from trainingapp.models import Host, TrainingRun
admin = User.objects.get()
busy_studio(admin, make_dataset(admin))
Host.objects.exclude(name="attic").update(seen_at=timezone.now() + timedelta(hours=1))
forecast.keep_up()
"""

NAMES = ["Leaves", "Whole", "Defects", "After", "Needs", "Small"]


@pytest.fixture(scope="module")
def studio(shared_studio: Studio) -> Studio:
    """One for all tests here; `waiting` restores its queue."""
    return shared_studio


@pytest.fixture(scope="module")
def queued(studio: Studio) -> list[dict[str, Any]]:
    """The runs of a studio at work, with what their order depends on."""
    studio.python(SCENE)
    studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    return studio.rows("SELECT id, priority, queue_rank, version FROM trainingapp_trainingrun")


@pytest.fixture
def waiting(studio: Studio, queued: list[dict[str, Any]], page: Page, log_in: Callable[[], None]) -> list[str]:
    """Six queued runs on the page of the queue; the first words of their names in order. No worker takes them."""
    with closing(sqlite3.connect(studio.data_dir / "studio.sqlite3", timeout=20)) as connection, connection:
        connection.executemany(
            "UPDATE trainingapp_trainingrun SET priority = :priority, queue_rank = :queue_rank, version = :version"
            " WHERE id = :id",
            queued,
        )
    log_in()
    page.get_by_role("link", name="Queue", exact=True).click()
    expect(page.get_by_role("heading", name="Queue", exact=True)).to_be_visible()
    assert shown(page) == NAMES
    return NAMES


def shown(page: Page) -> list[str]:
    """The first words of the names on the page, from top to bottom."""
    return [text.split()[0].rstrip(",") for text in page.locator(".queue-item .row-title").all_inner_texts()]


def stored(studio: Studio) -> list[str]:
    sql = (
        "SELECT name FROM trainingapp_trainingrun WHERE status = 'queued' ORDER BY priority DESC, queue_rank, queued_at"
    )
    return [row["name"].split()[0].rstrip(",") for row in studio.rows(sql)]


def becomes(page: Page, studio: Studio, order: list[str]) -> None:
    """Page and database both come to this order."""
    wait_for(lambda: shown(page) == order and stored(studio) == order, 30, f"the order is {order}")


def test_by_keyboard_with_an_announcement_for_screen_readers(
    page: Page, studio: Studio, waiting: list[str], problems: list[str]
) -> None:
    page.evaluate("window.untouched = true")
    up = page.get_by_role("button", name="Move Small one up")
    up.focus()
    page.keyboard.press("Enter")
    becomes(page, studio, ["Leaves", "Whole", "Defects", "After", "Small", "Needs"])
    expect(page.locator("#announcer")).to_have_text("“Small one” is at position 5 of 6.")
    expect(up).to_be_focused()
    page.keyboard.press("Enter")
    becomes(page, studio, ["Leaves", "Whole", "Defects", "Small", "After", "Needs"])
    page.get_by_role("button", name="Move Small one to the front").press("Enter")
    becomes(page, studio, ["Small", "Leaves", "Whole", "Defects", "After", "Needs"])
    expect(page.get_by_role("button", name="Move Small one down")).to_be_focused()
    page.get_by_role("button", name="Move Leaves, second try to the end").press("Enter")
    becomes(page, studio, ["Small", "Whole", "Defects", "After", "Needs", "Leaves"])
    assert page.evaluate("window.untouched")


def test_an_update_leaves_the_focus_where_the_user_put_it(page: Page, waiting: list[str]) -> None:
    held: list[Route] = []
    page.get_by_role("button", name="Move Small one up").focus()
    page.route("**/queue/", lambda route: held.append(route))
    page.evaluate(
        """() => {
            window.settled = new Promise((done) => document.addEventListener("htmx:afterSettle", () => done(true)));
            htmx.ajax("GET", location.pathname, { source: "#queue", target: "#queue", swap: "morph:outerHTML" });
        }"""
    )
    wait_for(lambda: page.evaluate("true") and held, 30, "the request is held")
    other = page.get_by_role("button", name="Move Whole", exact=False).and_(page.locator("[id^=last-]"))
    other.focus()
    for route in held:
        route.continue_()
    assert page.evaluate("window.settled")
    expect(other).to_be_focused()


def test_the_priority_counts(page: Page, studio: Studio, waiting: list[str], problems: list[str]) -> None:
    field = page.get_by_label("Priority of After the crash")
    field.fill("9")
    field.press("Enter")
    becomes(page, studio, ["After", "Leaves", "Whole", "Defects", "Needs", "Small"])


def drag(page: Page, name: str, onto: str) -> None:
    """Drag the row of one run to the upper half of another's, with the mouse."""
    row = page.locator(".queue-item", has_text=name)
    row.locator("[data-grip]").hover()
    page.mouse.down()
    box = page.locator(".queue-item", has_text=onto).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 30, box["y"] + box["height"] / 2 + 30, steps=4)
    page.mouse.move(box["x"] + 30, box["y"] + 5, steps=8)


def test_by_dragging_with_the_mouse(page: Page, studio: Studio, waiting: list[str], problems: list[str]) -> None:
    drag(page, "Needs a fourth", onto="Whole processor")
    assert shown(page) == ["Leaves", "Needs", "Whole", "Defects", "After", "Small"], "it is shown before it is dropped"
    page.mouse.up()
    becomes(page, studio, ["Leaves", "Needs", "Whole", "Defects", "After", "Small"])
    expect(page.locator("#announcer")).to_have_text("“Needs a fourth GPU” is at position 2 of 6.")


def test_escape_puts_a_dragged_row_back(page: Page, studio: Studio, waiting: list[str], problems: list[str]) -> None:
    drag(page, "Needs a fourth", onto="Whole processor")
    page.keyboard.press("Escape")
    page.mouse.up()
    assert shown(page) == NAMES
    assert stored(studio) == NAMES


def test_changes_of_other_users_appear_automatically(
    page: Page, studio: Studio, waiting: list[str], problems: list[str]
) -> None:
    page.evaluate("window.untouched = true")
    number = studio.rows("SELECT id FROM trainingapp_trainingrun WHERE name = 'Small one'")[0]["id"]
    studio.manage("queue", "move", str(number), "--first")
    becomes(page, studio, ["Small", "Leaves", "Whole", "Defects", "After", "Needs"])
    assert page.evaluate("window.untouched")


def test_by_touch_on_a_phone(browser: Browser, studio: Studio, page: Page, waiting: list[str]) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, storage_state=page.context.storage_state()
    )
    context.set_default_timeout(WAIT_MS)
    phone = context.new_page()
    phone.goto(f"{studio.url}/queue/")
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    second = phone.locator(".queue-item", has_text="Whole processor")
    second.scroll_into_view_if_needed()
    grip = second.locator("[data-grip]").bounding_box()
    first = phone.locator(".queue-item", has_text="Leaves").bounding_box()
    assert grip is not None
    assert first is not None
    touch = context.new_cdp_session(phone)
    start = {"x": grip["x"] + grip["width"] / 2, "y": grip["y"] + grip["height"] / 2}
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [start]})
    for step in range(1, 6):
        y = start["y"] + (first["y"] + 10 - start["y"]) * step / 5
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{**start, "y": y}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    becomes(phone, studio, ["Whole", "Leaves", "Defects", "After", "Needs", "Small"])
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_pages_are_accessible_and_fit_a_phone(page: Page, studio: Studio, waiting: list[str], theme: Any) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.set_viewport_size({"width": 375, "height": 812})
    for address in ("/queue/", "/devices/"):
        page.goto(studio.url + address)
        for fold in page.locator("details.fold > summary").all():
            fold.click()
        assert violations(page, address) == []
        assert page.evaluate("document.documentElement.scrollWidth") == 375


def test_without_javascript(browser: Browser, studio: Studio, page: Page, waiting: list[str]) -> None:
    context = browser.new_context(java_script_enabled=False, storage_state=page.context.storage_state())
    context.set_default_timeout(WAIT_MS)
    plain = context.new_page()
    plain.goto(f"{studio.url}/queue/")
    plain.get_by_role("button", name="Move Small one to the front").click()
    becomes(plain, studio, ["Small", "Leaves", "Whole", "Defects", "After", "Needs"])
    plain.get_by_label("Priority of Needs a fourth GPU").fill("9")
    plain.get_by_role("button", name="Set the priority of Needs a fourth GPU").click()
    becomes(plain, studio, ["Needs", "Small", "Leaves", "Whole", "Defects", "After"])
    context.close()
