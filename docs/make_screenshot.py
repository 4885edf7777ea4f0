"""Take screenshots of a studio that trains the demo dataset. Needs Chromium.

make screenshot     docs/screenshot.png, the picture of the README
make screenshots    every page at three widths, in both themes and languages, into build/screenshots/

A part of the screenshots, of a studio that is kept for the next time:

    python docs/make_screenshot.py --all FOLDER --data FOLDER --width 390 --theme light --language en --only compare
"""

import argparse
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final, Literal

from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, ViewportSize, sync_playwright

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = REPOSITORY / "docs" / "screenshot.png"
RUN_NAME = "Demo scenes with resnet18"
EPOCHS, EPOCHS_BEFORE_THE_IMAGE = 12, 8
SETTINGS = {"model": "resnet18", "epochs": EPOCHS, "image_size": 64, "augmentation": "medium"}
DEADLINE_S = 3600
SECOND_NAME = "Demo scenes with another seed"
#: Options of `manage.py sweep create`, by name. Their trials are short.
SWEEPS = {
    "Learning rate and weight decay": (
        "--range=learning_rate=1e-4..1e-1,log",
        "--range=weight_decay=0..0.1",
        "--trials=9",
    ),
    "Three folds": ("--sampler=folds", "--folds=3"),
}
SETTINGS_OF_TRIALS = {"epochs": 2, "image_size": 32}
#: Runs that follow the sweeps, by name. The last one trains on two devices while the pictures are taken, and what is
#: queued behind it waits.
FURTHER_RUNS: Final[dict[str, dict[str, object]]] = {
    "Outlines of every object": {
        "task": "instances",
        "model": "maskrcnn_resnet18_fpn",
        "epochs": 3,
        "image_size": 96,
        "batch_size": 8,
    },
    "Boxes by our own detector": {"task": "detection", "epochs": 3, "image_size": 96, "batch_size": 16},
}
RUNS_THAT_STAY: Final[dict[str, dict[str, object]]] = {
    "Two devices at once": {**SETTINGS, "epochs": 4000, "device_count": 2, "batch_size": 32, "cpu_threads": 1},
    "Waits for a device": {**SETTINGS, "fold": 0, "folds": 5},
}
FIRST_OF_THEM = 15
WIDTHS = (390, 1280, 1920)
Theme = Literal["light", "dark"]
THEMES: Final[tuple[Theme, ...]] = ("light", "dark")
LANGUAGES = ("en", "zh-hans")
CHARTS_DRAWN_MS = 700
PAGES = {
    "home": "/",
    "runs": "/runs/",
    "new-run": "/runs/new/",
    "new-run-of-detection": "/runs/new/?task=detection",
    "new-run-of-segmentation": "/runs/new/?task=segmentation",
    "new-run-of-instances": "/runs/new/?task=instances",
    "run": "/runs/1/",
    "run-charts": "/runs/1/charts/",
    "run-evaluation": "/runs/1/evaluation/",
    "run-classes": "/runs/1/evaluation/?show=classes",
    "run-images": "/runs/1/evaluation/?show=images",
    "run-checkpoints": "/runs/1/checkpoints/",
    "run-log": "/runs/1/log/",
    "run-system": "/runs/1/system/",
    "run-config": "/runs/1/config/",
    "run-activity": "/runs/1/activity/",
    "run-of-a-fold": "/runs/12/",
    "run-of-instances": "/runs/15/",
    "run-of-instances-charts": "/runs/15/charts/",
    "run-of-instances-evaluation": "/runs/15/evaluation/",
    "run-of-instances-classes": "/runs/15/evaluation/?show=classes",
    "run-of-instances-images": "/runs/15/evaluation/?show=images",
    "run-of-detection": "/runs/16/",
    "run-of-detection-images": "/runs/16/evaluation/?show=images",
    "run-in-training": "/runs/17/",
    "run-in-the-queue": "/runs/18/",
    "compare": "/compare/?runs=1,2",
    "compare-significance": "/compare/?runs=1,2&tab=significance",
    "compare-config": "/compare/?runs=1,2&tab=config",
    "compare-classes": "/compare/?runs=1,2&tab=classes",
    "compare-images": "/compare/?runs=1,2&tab=images",
    "sweeps": "/sweeps/",
    "new-sweep": "/sweeps/new/",
    "sweep": "/sweeps/1/",
    "sweep-budgets": "/sweeps/1/edit/",
    "cross-validation": "/sweeps/2/",
    "new-run-of-a-fold": "/runs/new/?clone=12",
    "datasets": "/datasets/",
    "import": "/datasets/import/",
    "dataset": "/datasets/1/",
    "image": "/datasets/1/view/1/",
    "queue": "/queue/",
    "devices": "/devices/",
    "models": "/weights/",
    "model": "/weights/1/",
    "model-try": "/weights/1/try/",
    "model-of-instances": "/weights/2/",
    "model-of-instances-try": "/weights/2/try/",
    "published-weights": "/weights/published/",
    "published-weights-import": "/weights/published/import/",
    "model-export": "/weights/1/export/",
    "notifications": "/notifications/",
    "notification-settings": "/notifications/settings/",
    "search": "/search/?q=demo",
    "disk": "/disk/",
    "audit": "/audit/",
    "journal": "/journal/",
    "account": "/account/",
    "tokens": "/account/tokens/",
    "admin": "/admin/",
}
#: In a picture of a whole page, bars that stay in view would lie in the middle of it.
UNSTUCK = ".submit-bar, .run-bar, .side { position: static !important; }"
#: A picture of a whole page is taken without scrolling to what is loaded late.
LOAD_IMAGES = """async () => {
  const images = [...document.images];
  for (const image of images) image.loading = "eager";
  await Promise.all(images.map((image) => image.decode().catch(() => null)));
}"""
COLOURS = 128
#: Of the administrator of a studio that is used again.
SET_PASSWORD = """
import os
from django.contrib.auth.models import User
admin = User.objects.get(username="admin")
admin.set_password(os.environ["DJANGO_SUPERUSER_PASSWORD"])
admin.save()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Take screenshots of a studio that trains the demo dataset.")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="every page, instead of the picture of the README")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="make the studio in this folder, and use it again")
    for name, choices in (("width", WIDTHS), ("theme", THEMES), ("language", LANGUAGES)):
        kind = type(choices[0])
        parser.add_argument(f"--{name}", type=kind, choices=choices, action="append", help="only these (repeat it)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only pages with this text in their name")
    options = parser.parse_args()
    folder: Path | None = options.all
    with ExitStack() as stack:
        data = options.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cvstudio-screenshot-")))
        password = secrets.token_urlsafe()
        env = {
            **os.environ,
            "DATA_DIR": str(data),
            "PUBLISHED_WEIGHTS": "cache",
            "PORT": str(_free_port()),
            "MAX_TRAINING_PROCESSES": "2",
            "DJANGO_SUPERUSER_PASSWORD": password,
        }
        if (data / "made").exists():
            _manage(env, "shell", "--command", SET_PASSWORD)
        else:
            _prepare(env)
        with _studio(env) as address, sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            if folder is None:
                _take_picture_of_the_readme(chromium, env, address, password)
            else:
                if not (data / "made").exists():
                    _complete(env)
                    (data / "made").touch()
                part = options.width or WIDTHS, options.theme or THEMES, options.language or LANGUAGES
                _take_all(chromium, address, password, folder, list(itertools.product(*part)), options.only)
            chromium.close()


def _take_picture_of_the_readme(chromium: Browser, env: dict[str, str], address: str, password: str) -> None:
    page = chromium.new_page(viewport={"width": 1280, "height": 840}, device_scale_factor=1)
    _sign_in(page, address, password)
    page.goto(f"{address}/runs/1/")
    _wait_for_epoch(env, 1, EPOCHS_BEFORE_THE_IMAGE)
    page.screenshot(path=TARGET)
    Image.open(TARGET).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(TARGET, optimize=True)
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")


def _complete(env: dict[str, str]) -> None:
    """Wait for the first two runs, for the sweeps and for runs of the other tasks; save models; start what stays."""
    _create_run(env, SECOND_NAME, SETTINGS | {"seed": 1})
    _wait_for_epoch(env, 1, EPOCHS)
    _wait_for_epoch(env, 2, EPOCHS)
    _manage(env, "weights", "save", "1", "--name", "scenes")
    _complete_sweeps(env)
    for number, (name, settings) in enumerate(FURTHER_RUNS.items(), FIRST_OF_THEM):
        _create_run(env, name, settings)
        _wait_for_epoch(env, number, EPOCHS)
    _manage(env, "weights", "save", str(FIRST_OF_THEM), "--name", "outlines")
    for name, settings in RUNS_THAT_STAY.items():
        _create_run(env, name, settings)


def _complete_sweeps(env: dict[str, str]) -> None:
    given = [f"--set={key}={value}" for key, value in {**SETTINGS, **SETTINGS_OF_TRIALS}.items()]
    for number, (name, options) in enumerate(SWEEPS.items(), 1):
        place = ("--dataset", "Demo scenes", "--owner", "admin", "--start")
        _manage(env, "sweep", "create", name, *place, *given, *options)
        _wait_for_sweep(env, number)  # the numbers of the runs follow from that


def _take_all(
    chromium: Browser, address: str, password: str, folder: Path, looks: list[tuple[int, Theme, str]], only: str
) -> None:
    """One file for each page with this text in its name, and for each width, theme and language."""
    pages = {name: path for name, path in PAGES.items() if only in name}
    folder.mkdir(parents=True, exist_ok=True)
    for width, theme, language in looks:
        viewport: ViewportSize = {"width": width, "height": 900}
        # The policy of the pages forbids the style of a screenshot.
        context = chromium.new_context(viewport=viewport, color_scheme=theme, bypass_csp=True)
        page = context.new_page()
        _sign_in(page, address, password)
        context.add_cookies([{"name": "django_language", "value": language, "url": address}])
        images = _images(page, address)
        for name, path in pages.items():
            page.goto(address + path)
            page.locator("h1").last.wait_for()
            if name.endswith("-try"):
                _predict(page, images)
            page.evaluate(LOAD_IMAGES)
            page.wait_for_timeout(CHARTS_DRAWN_MS)
            page.screenshot(path=folder / f"{name}-{width}-{theme}-{language}.png", full_page=True, style=UNSTUCK)
        context.close()
        print(f"{width} pixels, {theme}, {language}: {len(pages)} pages", flush=True)


def _images(page: Page, address: str) -> list[FilePayload]:
    """The first images of the dataset."""
    files: list[FilePayload] = []
    for number in (1, 2, 3):
        page.goto(f"{address}/datasets/1/view/{number}/")
        source = page.locator(".stage img").first.get_attribute("src")
        content = page.request.get(f"{address}{source}").body()
        files.append({"name": f"scene {number}.png", "mimeType": "image/png", "buffer": content})
    return files


def _predict(page: Page, images: list[FilePayload]) -> None:
    """Have the model of the page predict these images."""
    page.locator("#images").set_input_files(images)
    page.locator("[data-predictions]").wait_for(timeout=DEADLINE_S * 1000)


def _prepare(env: dict[str, str]) -> None:
    _manage(env, "migrate", "--verbosity", "0")
    _manage(env, "createsuperuser", "--noinput", "--username", "admin", "--email", "admin@example.org")
    _manage(env, "demo", "--images", "600")
    _create_run(env, RUN_NAME, SETTINGS)


def _create_run(env: dict[str, str], name: str, settings: Mapping[str, object]) -> None:
    given = [f"--set={key}={value}" for key, value in settings.items()]
    _manage(env, "train", "create", name, "--dataset", "Demo scenes", "--start", *given)


def _manage(env: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def _studio(env: dict[str, str]) -> Iterator[str]:
    """Address of a running studio, which is stopped in the end."""
    address = f"http://127.0.0.1:{env['PORT']}"
    with subprocess.Popen([sys.executable, "manage.py", "studio", "--no-demo"], cwd=REPOSITORY, env=env) as process:
        try:
            _wait_until_it_answers(f"{address}/healthz")
            yield address
        finally:
            process.send_signal(signal.SIGINT)


def _wait_until_it_answers(url: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"{url} does not answer.")


def _sign_in(page: Page, address: str, password: str) -> None:
    page.goto(f"{address}/")
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill(password)
    page.locator("input[name=password]").press("Enter")
    page.wait_for_url(f"{address}/")


def _wait_for_epoch(env: dict[str, str], number: int, epoch: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        run = json.loads(_manage(env, "train", "show", str(number), "--json"))
        if run["epoch"] >= epoch or run["status"] not in ("queued", "running"):
            return
        time.sleep(1)
    raise TimeoutError(f"The run did not reach epoch {epoch}.")


def _wait_for_sweep(env: dict[str, str], number: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        sweep = json.loads(_manage(env, "sweep", "show", str(number), "--json"))
        if sweep["status"] != "running":
            return
        time.sleep(2)
    raise TimeoutError("The sweep did not end.")


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
