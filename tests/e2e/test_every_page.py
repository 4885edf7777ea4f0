"""Every page, in both themes and languages: no violation of WCAG 2.2 AA, nothing wider than a phone."""

import re
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.conftest import WAIT_MS
from tests.helpers.accessibility import CONTRAST_ALONE, OPEN_MENUS, violations
from tests.helpers.studio import PATIENCE, Studio, wait_for

SCENE = """
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from tests.helpers.tiny import make_dataset, make_run
from tests.helpers.annotated_pages import make_proposed, make_scenes
from tests.helpers.evaluations import evaluated, results
from tests.helpers.machines import hold, machine
from tests.helpers.sweeps import SPACE, make_sweep
from tests.helpers.world import line, point, started, store_events
from tests.helpers.preflights import result as preflight_result
from trainingapp.models import AuditEntry, Checkpoint, Dataset, Job, JournalEntry, RunShare, TrainingRun, Trial, Weights
from trainingapp.accounts.notifications.events import RUN_FAILED
from trainingapp.accounts.notifications.outbox import announce
from trainingapp.accounts.notifications.webhooks import WebhookValues, create_webhook
from trainingapp.accounts.tokens import create_token
from trainingapp.contract.messages import notifications as notices
from trainingapp.models import Delivery
from trainingapp.contract.messages.published import MATCHES_NOTHING
from trainingapp.weights import published

PREFLIGHT = preflight_result(disk={"short_by_bytes": 10**9}, loader={"is_slower": True})
admin = User.objects.get()
dataset = make_dataset(admin, "A dataset with quite a long name that must not widen the page")
runs = {}
long_ago = timezone.now() - timedelta(hours=1)
for status in ("pending", "queued", "running", "paused", "completed", "failed", "stopped"):
    name = f"{status}_with_a_name_that_has_no_blank_to_break_the_line_at"
    run = runs[status] = make_run(admin, dataset, name, epochs=3, batch_size=2 + len(runs))
    fields = {"status": status, "step": 9, "total_steps": 18, "epoch": 2, "elapsed_s": 90, "best_metric": 0.91}
    fields |= {"best_metric_name": "top1", "device": "cpu", "host": "studio", "heartbeat_at": long_ago}
    TrainingRun.objects.filter(pk=run.pk).update(**fields)
run = runs["completed"]
TrainingRun.objects.filter(pk=run.pk).update(corrections=["image_size 60 became 64, a multiple of 32."])
failure = {"error_class": "out_of_memory", "error_message": "No room.", "error_lines": ["x" * 300]}
TrainingRun.objects.filter(status="failed").update(**failure)
values = {"loss": 0.4, "top1": 0.9, "top5": 1.0, "macro_f1": 0.9}
validation = {"split": "val", "values": values, "confusion": [[5, 1], [0, 6]]}
store_events(run, started(0, 1), line("hello " * 60), line("careful", level="warning"), line("x" * 400, level="error"))
store_events(run, *[point(step) for step in range(9)], {"type": "metrics", "step": 9, "data": validation})
[evaluated(run, epoch) for epoch in (1, 2)]
measured = {"cpu_utilization": 0.5, "machine_memory_bytes": 2**33, "loader_wait_s": 0.01, "compute_s": 0.2}
store_events(run, *({"type": "metrics", "data": {"split": "system", "values": measured}} for _number in range(3)))
for number, best in ((1, False), (2, True)):
    Checkpoint.objects.create(
        run=run, file=f"epoch_{number}.pt", attempt=1, epoch=number, step=9, reason="epoch", size_bytes=10**8,
        sha256="ab" * 32, metrics={"top1": 0.9}, is_best=best, is_last=best, created_at=timezone.now(),
    )
report = [{"level": "error", "code": "broken", "file": "train/" + "long" * 60 + ".jpg", "message": "It is cut short."}]
refused = Dataset.objects.create(name="refused", owner=admin, source="/x", status="refused", report=report)
far = timezone.now() + timedelta(days=1)
job = Job.objects.create(kind="import_dataset", owner=admin, state="working", done=1, total=9, heartbeat_at=far)
importing = Dataset.objects.create(name="importing", owner=admin, source="/x", job=job)
scenes = make_scenes(admin, "scenes with boxes and masks")
proposed = make_proposed(admin, "a proposal with a long name")
pages = ["/login/", "/", "/runs/", "/runs/?status=failed&q=nothing", "/runs/new/", "/nothing/"]
pages += ["/datasets/", "/datasets/import/"]
create_token(admin, name="a token with_a_name_that_has_no_blank_to_break_the_line_at", scopes=["read"])
pages += ["/account/tokens/"]
pages += [each.get_absolute_url() for each in [*runs.values(), dataset, refused, importing, scenes, proposed]]
pages += [f"/runs/{run.pk}/evaluation/", f"/runs/{runs['pending'].pk}/evaluation/"]
pages += [f"/runs/{run.pk}/evaluation/?show={part}" for part in ("classes", "confusion", "images", "notable")]
pages += [f"/runs/{run.pk}/{tab}/" for tab in ("charts", "log", "system", "config", "activity")]
pages += [f"/runs/{run.pk}/config/?show=changed&against={runs['paused'].pk}"]
pages += [f"/runs/{run.pk}/delete/", f"/datasets/{dataset.pk}/delete/"]
evaluated(runs["stopped"], 1, image_results=results([0, 1] * 6))
evaluated(run, 2, image_results=results([0, 0] * 6))
three = ",".join(str(runs[status].pk) for status in ("completed", "stopped", "failed"))
pages += [f"/compare/?runs={three}&tab={tab}" for tab in ("", "significance", "config", "classes", "images")]
nodes = [machine(f"node-{name}.cluster.example.org", gpus=2) for name in "ab"]
machine("node-c.cluster.example.org", gpus=2, state="leaving")
machine("node-d.cluster.example.org", gpus=4, state="left")
gang = runs["running"]
split = {**gang.config, "device_count": 4, "hosts_at_most": 2, "accumulation_steps": 4}
TrainingRun.objects.filter(pk=gang.pk).update(config=split)
for number, node in enumerate(nodes):
    RunShare.objects.create(run=gang, attempt=0, node_rank=number, host=node.name, heartbeat_at=long_ago)
    [hold(gang, device) for device in node.devices.filter(kind="gpu")]
pages += ["/compare/", "/queue/", "/devices/", "/sweeps/", "/sweeps/new/"]
dimensions = [*SPACE["dimensions"], {"kind": "choice", "field": "optimizer", "values": ["SGD", "AdamW"]}]
searching = make_sweep(admin, dataset, name="A search", space={"dimensions": dimensions}, max_trials=12, start=False)
folds = make_sweep(admin, dataset, name="Cross_validation_of_" + "x" * 60, sampler="folds", folds=3, start=False)
for sweep in (searching, folds):
    for number in range(1, 10 if sweep is searching else 3):
        values = {"learning_rate": 0.001 * number, "optimizer": "SGD"} if sweep is searching else {"fold": number}
        Trial.objects.create(sweep=sweep, number=number, params=values, origin="suggested")
    sweep.trials.update(state="completed", value=0.5, finished_at=timezone.now())
    type(sweep).objects.filter(pk=sweep.pk).update(status="completed")
    pages += [f"{sweep.get_absolute_url()}{page}" for page in ("", "edit/", "delete/")]
open_sweep = make_sweep(admin, dataset, name="Not started", start=False)
pages += [open_sweep.get_absolute_url(), f"{open_sweep.get_absolute_url()}trial/"]
pages += [f"/runs/{run.pk}/checkpoints/", f"/runs/{runs['pending'].pk}/checkpoints/", "/disk/"]
pages += [f"/datasets/{scenes.pk}/view/2/", f"/datasets/{dataset.pk}/view/1/"]
pages += [f"/runs/{runs[name].pk}/epochs/?epochs=9" for name in ("running", "completed")]
pages += [f"/runs/{run.pk}/{page}/" for page in ("fork", "edit", "force-stop")] + [f"/runs/new/?clone={run.pk}"]
job = Job.objects.create(kind="preflight", owner=admin, state="done", result=PREFLIGHT)
pages += [f"/jobs/{job.pk}/"]
evidence = {"process": "gone", "checkpoint": {"file": "epoch_" + "1" * 60 + ".pt", "step": 9, "sound": True}}
evidence |= {"heartbeat_at": long_ago.isoformat(), "last_event": None, "steps_lost": 3}
found = {"found_by": "studio:1:1764064800.0", "found_at": timezone.now(), "done_at": timezone.now()}
found |= {"run_name": run.name, "evidence": evidence, "message": "x" * 200, "action": "requeued"}
JournalEntry.objects.create(run=run, **found)
soon = {"not_before": timezone.now() + timedelta(hours=1), "error_class": "hang", "error_message": "It hung."}
TrainingRun.objects.filter(status="queued").update(**soon)
pages += ["/journal/"]
long_name = "weights_with_a_name_that_has_no_blank_to_break_the_line_at"
about = {"owner": admin, "task": "classification", "architecture": "resnet18", "classes": ["blue", "red"] * 9}
about |= {"normalisation": {"mean": [0.5] * 3, "std": [0.5] * 3}, "metrics": {"top1": 0.9}, "image_size": 64}
about |= {"run": run, "run_name": run.name, "checkpoint_file": "epoch_2.pt", "epoch": 2, "size_bytes": 10**7}
whole = {"state": "ready", "report": {"is_whole": True, "matched": 9, "missing": [], "unexpected": []}}
entry = None
for version in (1, 2, 3):
    entry = Weights.objects.create(name=long_name, version=version, parent=entry, **whole, **about)
Weights.objects.create(name="refused", version=1, state="failed", problem="It is " + "x" * 200, **about)
formats = {"model.onnx": {"difference": 3e-7}, "weights.pt": {"difference": 0}}
exported = Job.objects.create(
    kind="export", owner=admin, state="done", params={"weights": entry.pk},
    result={"formats": formats, "images": 10, "are_drawn": False, "size_bytes": 10**7},
)
pages += [f"/weights/{entry.pk}/{page}" for page in ("", "try/", "export/", "edit/", "delete/")]
pages += ["/weights/", "/weights/upload/", f"/runs/{run.pk}/save/", f"/weights/{entry.pk}/export/?job={exported.pk}"]
resnet = published.entry("resnet18-f37072fd.pth").published
cached = published.cache_folder() / resnet.place
cached.parent.mkdir(parents=True)
cached.write_bytes(b"PK")
refused = MATCHES_NOTHING(path="x" * 200).as_data()
imported = Job.objects.create(
    kind="import_published", owner=admin, state="done", params={"folder": ""},
    result={"imported": [resnet.name], "refused": [{**refused, "message": ""}], "more_refused": 2},
)
pages += ["/weights/published/", "/weights/published/?q=nothing_like_this", "/weights/published/import/"]
pages += [f"/weights/published/delete/?name={resnet.name}", f"/jobs/{imported.pk}/"]
AuditEntry.objects.create(verb="import", kind="run", object_id=run.pk, object_name=run.name, source="page",
                          username="x" * 60, address="2001:db8:1234:5678:9abc:def0:1234:5678", details={"upload": True})
pages += ["/audit/", "/account/", "/api/v1/docs"]
message = notices.RUN_FAILED(run=run.name, reason=notices.NO_MAIL_SERVER())
occurrence = announce(RUN_FAILED, message, run=run)
webhook = create_webhook(admin, WebhookValues(name=long_name, url="https://hooks.example.org/" + "x" * 200))
Delivery.objects.create(occurrence=occurrence, webhook=webhook, state="failed", tries=7, due_at=None, status_code=500,
                        response="x" * 900, error_data=notices.ANSWERED(status=500).as_data())
pages += [f"/search/?from=/runs/{run.pk}/", "/search/?q=nothing_like_this"]
pages += ["/notifications/", "/notifications/?event=disk_low", "/notifications/settings/"]
pages += ["/notifications/webhooks/new/", f"/notifications/webhooks/{webhook.pk}/"]
pages += [f"/notifications/webhooks/{webhook.pk}/delete/"]
result = pages
"""


@pytest.fixture(scope="module")
def studio(shared_studio: Studio) -> Studio:
    """One for all tests here. What one of them changes, no other looks at."""
    return shared_studio


@pytest.fixture(scope="module")
def pages(studio: Studio) -> list[str]:
    """Addresses of every page, with something to show on each."""
    addresses: list[str] = studio.python(SCENE)
    studio.spawn("web")  # without a worker the state does not change
    wait_for(studio.answers, 60, "the web server answers")
    return addresses


def visit(browser: Browser, studio: Studio, width: int, language: str = "en") -> tuple[BrowserContext, Page]:
    context = browser.new_context(
        color_scheme="light", viewport={"width": width, "height": 812}, reduced_motion="reduce"
    )
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.goto(f"{studio.url}/login/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    context.add_cookies([{"name": "django_language", "value": language, "url": studio.url}])
    return context, page


@pytest.mark.long
@pytest.mark.parametrize("language", ["zh-hans", "en"], ids=["Chinese", "English"])
def test_every_page_is_accessible_translated_and_fits_a_phone(
    browser: Browser, studio: Studio, pages: list[str], language: str
) -> None:
    context, page = visit(browser, studio, 375, language)
    problems: list[str] = []
    seen_menus: set[str] = set()
    page.on("pageerror", lambda error: problems.append(f"{page.url} {error}"))
    page.on(
        "console",
        lambda message: problems.append(f"{page.url} {message.text}") if is_fault(message.text) else None,
    )
    for address in [*pages, "/admin/", "/admin/trainingapp/trainingrun/"]:
        page.goto(studio.url + address)
        expect(page.locator("h1").last).to_be_visible()
        shown, title, scrolled = page.evaluate("[document.documentElement.lang, document.title, window.scrollY]")
        if scrolled:
            problems.append(f"{address} does not open at its top but at {scrolled} pixels")
        if shown != language or not title.strip().partition("·")[0]:
            problems.append(f"{address} is in {shown}, its title is {title}")
        problems += violations(page, address)
        page.emulate_media(color_scheme="dark")
        if address.startswith("/admin/"):
            page.reload()  # its colors fade to those of the other theme
        else:
            expect(page.locator("html[data-bs-theme=dark]")).to_be_attached()
        problems += violations(page, f"{address} in the dark theme", CONTRAST_ALONE)
        page.emulate_media(color_scheme="light")
        menus = page.locator("details.menu:visible")
        kinds = set(menus.evaluate_all(MENU_KINDS)) - seen_menus
        seen_menus |= kinds
        if kinds:  # an open one covers parts of the page, so that it is looked at by itself
            menus.evaluate_all("menus => menus.forEach((menu) => (menu.open = true))")
            problems += violations(page, f"{address} with open menus", context=OPEN_MENUS)
        problems += too_wide(page, (1600, 1024, 375))
        hidden = [*page.evaluate(CUT_LINKS), *page.evaluate(LOST_LINKS)]
        problems += [f"{address} hides {link} of the main menu" for link in hidden]
    context.close()
    assert not problems, "\n".join(problems)


#: What menus hold, without the numbers of rows: those of the top bar are the same on every page.
MENU_KINDS = r"menus => menus.map((menu) => menu.outerHTML.replace(/\d+/g, ''))"

#: The links of the main menu that do not fit between its edges.
CUT_LINKS = """() => {
  const menu = document.querySelector(".topbar nav");
  const edge = menu ? menu.getBoundingClientRect().right + 1 : 0;
  const links = menu ? [...menu.querySelectorAll("a")] : [];
  return links.filter((link) => link.getBoundingClientRect().right > edge).map((link) => link.textContent);
}"""

#: The links that the main menu has no room for, and that the user menu does not have instead.
LOST_LINKS = """() => {
  const isShown = (link) => getComputedStyle(link).display !== "none";
  const instead = [...document.querySelectorAll(".topbar .menu-panel a")].filter(isShown).map((link) => link.pathname);
  const links = [...document.querySelectorAll(".topbar nav a")];
  return links.filter((link) => !isShown(link) && !instead.includes(link.pathname)).map((link) => link.textContent);
}"""


#: The elements that reach farthest to the right, where nothing around them scrolls.
WIDEST = """() => [...document.querySelectorAll("main *")]
  .filter((one) => !one.closest(".scroll-x"))
  .map((one) => [Math.round(one.getBoundingClientRect().right), one.outerHTML.slice(0, 120)])
  .sort((one, other) => other[0] - one[0]).slice(0, 3)"""


def too_wide(page: Page, widths: tuple[int, ...]) -> list[str]:
    """The widths of the window that the page does not fit; it is left at the last."""
    found = []
    for width in widths:
        page.set_viewport_size({"width": width, "height": 812})
        needed = settled_width(page, width)
        if needed > width:
            found.append(f"{page.url} is {needed} pixels wide in a window of {width}: {page.evaluate(WIDEST)}")
    return found


def settled_width(page: Page, most: int) -> int:
    """The width that the page needs: charts follow the window some frames later.

    Asked again and again from here: the pages' policy forbids the eval by which playwright's own waiting asks.
    """
    deadline = time.monotonic() + PATIENCE * 15
    while (needed := int(page.evaluate("document.documentElement.scrollWidth"))) > most:
        if time.monotonic() > deadline:
            break
        page.wait_for_timeout(50)
    return needed


def is_fault(text: str) -> bool:
    """The browser also reports pages that are not found, which are neither script errors nor policy violations."""
    return "Content Security Policy" in text or "rror:" in text


def test_keyboard_users_can_skip_to_the_content(
    page: Page, studio: Studio, log_in: Callable[[], None], pages: list[str]
) -> None:
    log_in()
    page.goto(f"{studio.url}/datasets/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_the_focus_is_always_visible(page: Page, studio: Studio, log_in: Callable[[], None], pages: list[str]) -> None:
    log_in()
    unseen, buttons = [], 0
    for address in ("/", "/runs/", "/runs/new/", "/runs/5/", "/runs/5/checkpoints/", "/weights/1/"):
        page.goto(studio.url + address)
        for _press in range(40):
            page.keyboard.press("Tab")
            focused, outline = page.evaluate(FOCUS)
            buttons += 'class="btn ' in focused
            if outline == "none":
                unseen.append(f"{address} {focused}")
    assert buttons > 20
    assert not unseen, "\n".join(unseen)


#: What has the focus, and what shows it: of a hidden radio button, its label.
FOCUS = """() => {
  const element = document.activeElement;
  const shown = getComputedStyle(element.matches(".btn-check") ? element.nextElementSibling : element);
  const outline = shown.outlineStyle === "none" ? shown.boxShadow : shown.outlineStyle;
  return [element.outerHTML.slice(0, 120), element === document.body ? "the window" : outline];
}"""


# What fits where


@pytest.fixture(scope="module")
def wide(browser: Browser, studio: Studio, pages: list[str]) -> Iterator[Page]:
    """A window of 1,280 pixels, signed in, for tests that only look."""
    context, page = visit(browser, studio, 1280)
    yield page
    context.close()


def number_of(pages: list[str], part: str) -> str:
    """The number in the first address with this part, such as "/epochs/"."""
    return next(address for address in pages if part in address).split("/")[2]


@pytest.mark.parametrize("height", [640, 900])
def test_no_focused_field_is_hidden_behind_a_bar(wide: Page, studio: Studio, height: int) -> None:
    wide.set_viewport_size({"width": 1280, "height": height})
    wide.goto(f"{studio.url}/runs/new/")
    hidden, fields = [], 0
    for _press in range(70):
        wide.keyboard.press("Tab")
        about, is_field, is_hidden = wide.evaluate(UNDER_A_BAR)
        fields += is_field
        hidden += [about] if is_hidden else []
    assert fields > 15
    assert not hidden, "\n".join(hidden)
    assert wide.evaluate(PAINTED_OVER) == "submit-bar", "the bar is above the field that has the focus"


#: What has the focus, whether it is a field, and whether a bar covers it in whole.
UNDER_A_BAR = """() => {
  const one = document.activeElement, box = one.getBoundingClientRect();
  const bars = [...document.querySelectorAll(".topbar, .submit-bar")].filter((bar) => !bar.contains(one));
  const covers = (bar, over = bar.getBoundingClientRect()) => over.top <= box.top && over.bottom >= box.bottom;
  // A link that lies over a bar is seen.
  const seen = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
  const is_hidden = box.height > 1 && !one.contains(seen) && bars.some((bar) => covers(bar));
  return [one.outerHTML.slice(0, 120), one.matches("input, select, textarea"), is_hidden];
}"""
#: What is seen where the bar lies over a field that has the focus and is scrolled behind it.
PAINTED_OVER = """() => {
  const bar = document.querySelector(".submit-bar").getBoundingClientRect();
  const field = document.querySelector(".input-group .form-control");
  field.focus({ preventScroll: true });
  window.scrollBy({ top: field.getBoundingClientRect().top - bar.top - 10, behavior: "instant" });
  const box = field.getBoundingClientRect();
  const seen = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
  return seen.closest(".submit-bar") ? "submit-bar" : seen.outerHTML.slice(0, 120);
}"""


def test_tables_are_not_cut_at_1280_pixels(wide: Page, studio: Studio, pages: list[str]) -> None:
    wide.set_viewport_size({"width": 1280, "height": 900})
    run = number_of(pages, "/evaluation/?show=classes")
    datasets = [address for address in pages if re.fullmatch(r"/datasets/\d+/", address)]
    cut = []
    for address in (f"/runs/{run}/checkpoints/", f"/runs/{run}/evaluation/?show=classes", *datasets):
        wide.goto(studio.url + address)
        cut += [f"{address} {table}" for table in wide.evaluate(CUT_TABLES)]
    assert not cut, "\n".join(cut)
    wide.goto(f"{studio.url}/runs/{run}/checkpoints/")
    for name in ("Save as model", "Fork"):
        box = wide.locator(".row-actions a", has_text=name).first.bounding_box()
        assert box is not None, name
        assert box["x"] + box["width"] <= 1280, name


#: Tables that need more than the width of what they scroll in.
CUT_TABLES = """() => [...document.querySelectorAll("main .scroll-x")]
  .filter((box) => box.scrollWidth > box.clientWidth + 1)
  .map((box) => `${box.scrollWidth} in ${box.clientWidth}: ${box.outerHTML.slice(0, 120)}`)"""


def test_the_user_menu_is_reached_in_a_low_window(wide: Page, studio: Studio) -> None:
    wide.set_viewport_size({"width": 390, "height": 500})
    wide.goto(f"{studio.url}/queue/")
    wide.get_by_label("User menu: admin").click()
    button = wide.get_by_role("button", name="Sign out")
    button.scroll_into_view_if_needed()
    box = button.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 500


def test_tables_fit_a_phone(wide: Page, studio: Studio, pages: list[str]) -> None:
    wide.set_viewport_size({"width": 390, "height": 844})
    cut = []
    for address in ("/disk/", "/devices/", "/sweeps/", "/queue/", f"/runs/{number_of(pages, '/epochs/?epochs=9')}/"):
        wide.goto(studio.url + address)
        assert wide.locator("main table").count() > 0, address
        cut += [f"{address} {table}" for table in wide.evaluate(CUT_TABLES)]
        cut += [f"{address} {cell}" for cell in wide.evaluate(BROKEN_CELLS)]
    assert not cut, "\n".join(cut)


@pytest.mark.long
def test_no_page_scrolls_sideways_on_a_phone(wide: Page, studio: Studio, pages: list[str]) -> None:
    """Nor does a table: what is a plane, such as a matrix, scrolls in a box that takes the focus and has a name."""
    wide.set_viewport_size({"width": 390, "height": 844})
    cut, planes = [], 0
    for address in [*pages, "/admin/", "/admin/trainingapp/trainingrun/"]:
        wide.goto(studio.url + address)
        expect(wide.locator("h1").last).to_be_visible()
        needed = settled_width(wide, 390)
        cut += [f"{address} is {needed} pixels wide: {wide.evaluate(WIDEST)}"] if needed > 390 else []
        if address.startswith("/admin/"):
            continue
        for about, is_plane, is_reached in wide.evaluate(SCROLLED_SIDEWAYS):
            planes += is_plane and is_reached
            cut += [] if is_plane and is_reached else [f"{address} scrolls {about}"]
    assert planes, "a matrix and the axes of a sweep"
    assert not cut, "\n".join(cut)


#: Visible boxes that scroll sideways; whether they hold a plane, and whether the keyboard reaches them by a name.
SCROLLED_SIDEWAYS = """() => [...document.querySelectorAll("body *")]
  .filter((box) => box.clientWidth && box.scrollWidth > box.clientWidth + 1 && box.checkVisibility())
  .filter((box) => ["auto", "scroll"].includes(getComputedStyle(box).overflowX))
  .filter((box) => !box.matches(".tabs, .pills, .topbar nav, textarea, pre"))
  .map((box) => [
    `${box.scrollWidth} in ${box.clientWidth}: ${box.outerHTML.slice(0, 150)}`,
    box.matches(":has(> .matrix, > .parallel)"),
    box.tabIndex === 0 && (box.hasAttribute("aria-label") || box.hasAttribute("aria-labelledby")),
  ])"""


#: Cells that are so narrow that a name is broken into more than four lines.
BROKEN_CELLS = """() => [...document.querySelectorAll("main table tbody th")]
  .filter((cell) => cell.getBoundingClientRect().height > 8 * parseFloat(getComputedStyle(cell).fontSize))
  .map((cell) => cell.outerHTML.slice(0, 120))"""


def test_a_phone_shows_every_metric_of_a_class(wide: Page, studio: Studio, pages: list[str]) -> None:
    wide.set_viewport_size({"width": 390, "height": 844})
    wide.goto(f"{studio.url}/runs/{number_of(pages, '/evaluation/?show=classes')}/evaluation/?show=classes")
    numbers = wide.locator("#classes tbody tr").first.locator("td.number")
    assert numbers.count() > 0
    boxes = [numbers.nth(place).bounding_box() for place in range(numbers.count())]
    assert all(box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes), boxes


@pytest.mark.parametrize("address", ["/runs/new/", "/runs/{run}/"])
def test_the_bars_leave_a_phone_its_height(wide: Page, studio: Studio, pages: list[str], address: str) -> None:
    wide.set_viewport_size({"width": 390, "height": 844})
    wide.goto(studio.url + address.format(run=number_of(pages, "/epochs/?epochs=9")))
    heights = wide.evaluate(STUCK)
    assert heights, "the menu stays in view"
    assert sum(heights) <= 844 / 6


#: The heights of all that stays in view while the page scrolls.
STUCK = """() => [...document.querySelectorAll("body *")]
  .filter((one) => ["sticky", "fixed"].includes(getComputedStyle(one).position) && one.checkVisibility())
  .map((one) => one.getBoundingClientRect())
  .filter((box) => box.width > 200)
  .map((box) => box.height)"""


def test_the_new_run_uses_a_wide_window(wide: Page, studio: Studio) -> None:
    wide.set_viewport_size({"width": 1920, "height": 1000})
    wide.goto(f"{studio.url}/runs/new/")
    form, side = wide.locator("#run-form").bounding_box(), wide.locator("aside.side").bounding_box()
    assert form is not None
    assert side is not None
    assert side["x"] + side["width"] - form["x"] > 1500
    assert side["y"] == form["y"], "the panel is beside the form"


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desktop", "phone"])
def test_the_result_of_a_check_is_in_view(wide: Page, studio: Studio, size: tuple[int, int]) -> None:
    wide.set_viewport_size({"width": size[0], "height": size[1]})
    wide.goto(f"{studio.url}/runs/new/")
    wide.get_by_role("button", name="Run preflight check").click()
    expect(wide.locator("#preflight > *").first).to_be_in_viewport()


def test_the_charts_of_a_row_share_their_axis(wide: Page, studio: Studio, pages: list[str]) -> None:
    wide.set_viewport_size({"width": 1280, "height": 900})
    wide.goto(f"{studio.url}/runs/{number_of(pages, '/evaluation/?show=classes')}/charts/")
    expect(wide.locator("[data-chart] .u-over").nth(1)).to_be_visible()
    rows: dict[int, list[list[int]]] = {}
    for top, *plot in wide.evaluate(PLOTS):
        rows.setdefault(top, []).append(plot)
    shared = [plots for plots in rows.values() if len(plots) > 1]
    assert shared
    assert all(plot == plots[0] for plots in shared for plot in plots), rows


#: The top of each box with a chart, and the top and the bottom of what is drawn in it.
PLOTS = """() => [...document.querySelectorAll(".grid-charts .chart-box")]
  .filter((box) => box.querySelector(".u-over"))
  .map((box) => [box.getBoundingClientRect(), box.querySelector(".u-over").getBoundingClientRect()])
  .map(([box, plot]) => [box.top, plot.top, plot.bottom].map(Math.round))"""


# What the pages do


def test_the_theme_is_stored(page: Page, studio: Studio, log_in: Callable[[], None], pages: list[str]) -> None:
    page.emulate_media(color_scheme="light")
    log_in()
    page.get_by_role("button", name="Switch between light and dark theme").click()
    expect(page.locator("html[data-bs-theme=dark]")).to_be_attached()
    page.reload()
    expect(page.locator("html[data-bs-theme=dark]")).to_be_attached()


def test_the_list_filters_without_a_reload_and_keeps_the_focus(
    page: Page, studio: Studio, log_in: Callable[[], None], pages: list[str], problems: list[str]
) -> None:
    log_in()
    page.goto(f"{studio.url}/runs/")
    expect(page.locator(".row-title")).to_have_count(7)
    page.evaluate("window.untouched = true")
    page.get_by_role("searchbox").fill("paus")
    expect(page.locator(".row-title")).to_have_count(1)
    expect(page.get_by_role("searchbox")).to_be_focused()
    assert "q=paus" in page.url
    page.get_by_role("searchbox").fill("")
    page.get_by_role("link", name="Failed 1").click()
    expect(page.locator(".row-title")).to_have_count(1)
    assert "status=failed" in page.url
    page.get_by_role("searchbox").fill("line")
    expect(page.get_by_role("link", name="All 7")).to_be_visible()
    expect(page.locator(".row-title")).to_have_count(1)
    assert "status=failed" in page.url
    studio.python(
        "from trainingapp.models import TrainingRun\n"
        "from django.utils import timezone\n"
        "TrainingRun.objects.filter(status='failed').update(name='renamed online', updated_at=timezone.now())\n"
    )
    expect(page.locator(".row-title")).to_have_text("renamed online")
    assert page.evaluate("window.untouched")


def test_the_buttons_work_without_javascript(browser: Browser, studio: Studio, pages: list[str]) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.goto(f"{studio.url}/login/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.goto(f"{studio.url}/runs/")
    page.get_by_role("link", name="pending_with").click()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("[data-run-status]")).to_have_text("Queued")
    context.close()


def test_signing_out_elsewhere_is_reported(
    page: Page, studio: Studio, log_in: Callable[[], None], pages: list[str]
) -> None:
    log_in()
    page.goto(f"{studio.url}/runs/")
    page.get_by_role("link", name="pending_with").click()
    expect(page.locator("#run-tab")).to_be_visible()
    studio.python("from django.contrib.sessions.models import Session\nSession.objects.all().delete()")
    expect(page.locator("#connection")).to_contain_text("You have been signed out.")
    expect(page.locator("#connection").get_by_role("link", name="Sign in")).to_be_visible()
