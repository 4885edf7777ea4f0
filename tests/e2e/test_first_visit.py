"""What a browser transfers: little on the first visit, and no static file on later ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import WAIT_MS
from tests.helpers.studio import Studio, wait_for

#: Bytes, headers included, that the first visit of the runs may transfer.
MOST_BYTES = 250_000


@dataclass
class Transfers:
    """Transferred bytes by address, and the addresses that the browser took from its cache."""

    sizes: dict[str, int]
    cached: set[str]


def watched(page: Page) -> Transfers:
    """What the page transfers from now on, as the browser's own network log counts it."""
    found, addresses = Transfers({}, set()), dict[str, str]()
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")

    def sent(event: dict[str, Any]) -> None:
        addresses[event["requestId"]] = event["request"]["url"]

    def cached(event: dict[str, Any]) -> None:
        found.cached.add(addresses[event["requestId"]])

    def received(event: dict[str, Any]) -> None:
        if event["response"]["fromDiskCache"]:
            found.cached.add(addresses[event["requestId"]])

    def finished(event: dict[str, Any]) -> None:
        address = addresses[event["requestId"]]
        if address not in found.cached:
            found.sizes[address] = found.sizes.get(address, 0) + int(event["encodedDataLength"])

    session.on("Network.requestWillBeSent", sent)
    session.on("Network.requestServedFromCache", cached)
    session.on("Network.responseReceived", received)
    session.on("Network.loadingFinished", finished)
    return found


def opened(page: Page, studio: Studio) -> Transfers:
    """What opening the runs transfers, until the page is live."""
    found = watched(page)
    page.goto(f"{studio.url}/runs/")
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
    page.wait_for_load_state("load")
    page.evaluate("document.fonts.ready")
    return found


def test_the_first_visit_is_small_and_the_second_fetches_no_static_file(
    page: Page, browser: Browser, studio: Studio, log_in: Callable[[], None]
) -> None:
    studio.python(
        """
        from django.contrib.auth.models import User
        from tests.helpers.tiny import make_dataset, make_run
        admin = User.objects.get()
        dataset = make_dataset(admin)
        for number in range(30):
            make_run(admin, dataset, name=f"run {number}")
        """
    )
    studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    log_in()
    visitor = browser.new_context(storage_state=page.context.storage_state())  # signed in, with an empty cache
    visitor.set_default_timeout(WAIT_MS)
    visited = visitor.new_page()
    first = opened(visited, studio)
    static = {address for address in first.sizes if "/static/" in address}
    assert len(static) > 15
    assert any(".woff2" in address for address in static)
    assert sum(first.sizes.values()) < MOST_BYTES, sorted(first.sizes.items(), key=lambda item: -item[1])
    second = opened(visited, studio)
    assert [address for address in second.sizes if "/static/" in address] == []
    assert static <= second.cached
    visitor.close()
