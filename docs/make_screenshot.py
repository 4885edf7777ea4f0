"""Make docs/screenshot.png from a studio that trains the demo dataset: `make screenshot`. Needs Chromium."""

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
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = REPOSITORY / "docs" / "screenshot.png"
RUN_NAME = "Demo scenes with resnet18"
EPOCHS, EPOCHS_BEFORE_THE_IMAGE = 12, 8
DEADLINE_S = 600
COLOURS = 128


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cvstudio-screenshot-") as folder:
        password = secrets.token_urlsafe()
        env = {**os.environ, "DATA_DIR": folder, "PORT": str(_free_port()), "DJANGO_SUPERUSER_PASSWORD": password}
        _prepare(env)
        with _studio(env) as address, sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = chromium.new_page(viewport={"width": 1280, "height": 840}, device_scale_factor=1)
            _sign_in(page, address, password)
            page.goto(f"{address}/runs/1/")
            _wait_for_epoch(env, EPOCHS_BEFORE_THE_IMAGE)
            page.screenshot(path=TARGET)
            chromium.close()
    Image.open(TARGET).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(TARGET, optimize=True)
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")


def _prepare(env: dict[str, str]) -> None:
    _manage(env, "migrate", "--verbosity", "0")
    _manage(env, "createsuperuser", "--noinput", "--username", "admin", "--email", "admin@example.org")
    _manage(env, "demo", "--images", "600")
    settings = {"model": "resnet18", "epochs": EPOCHS, "image_size": 64, "augmentation": "medium"}
    options = [f"--set={name}={value}" for name, value in settings.items()]
    _manage(env, "train", "create", RUN_NAME, "--dataset", "Demo scenes", "--start", *options)


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


def _wait_for_epoch(env: dict[str, str], epoch: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        run = json.loads(_manage(env, "train", "show", "1", "--json"))
        if run["epoch"] >= epoch or run["status"] not in ("queued", "running"):
            return
        time.sleep(1)
    raise TimeoutError(f"The run did not reach epoch {epoch}.")


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
