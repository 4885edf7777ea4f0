"""A run on two devices in a browser, from the form to its end, beside the same run on one device."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Page, expect

from tests.helpers.studio import Studio

SCENE = """
from django.contrib.auth.models import User
from tests.helpers.tiny import make_dataset
make_dataset(User.objects.get())
"""


def open_folds(page: Page) -> None:
    """Show the advanced fields of all sections, some of which may be shown already."""
    page.locator("details.fold").evaluate_all("folds => folds.forEach((fold) => { fold.open = true; })")


def fill_in(page: Page, name: str, devices: int) -> int:
    """Name the run of the form, choose its number of devices, and create and start it; returns its number."""
    page.get_by_label("Name", exact=True).fill(name)
    open_folds(page)
    page.get_by_label("Number of devices", exact=True).fill(str(devices))
    page.get_by_role("button", name="Create and start").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    return int(page.url.partition("?")[0].rstrip("/").rsplit("/", 1)[1])


def weights_hash(page: Page, folder: Path) -> str:
    """The hash of the best weights, downloaded from the page of the run."""
    with page.expect_download() as download:
        page.get_by_role("link", name="Download best").click()
    download.value.save_as(folder / "best.pt")
    weights = torch.load(folder / "best.pt", weights_only=True)["model_state_dict"]
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def points(page: Page, studio: Studio, run: int) -> list[Any]:
    """What the API gives of each point but how fast it was computed."""
    found = page.request.get(f"{studio.url}/api/v1/training/{run}/metrics").json()["items"]
    for point in found:
        point["values"].pop("images_per_s", None)
    return [(point["split"], point["epoch"], point["step"], point["values"]) for point in found]


@pytest.mark.long
def test_two_devices_train_the_run_that_one_would(
    page: Page, studio: Studio, tmp_path: Path, log_in: Callable[[], None], problems: list[str]
) -> None:
    studio.env["MAX_TRAINING_PROCESSES"] = "2"
    studio.python(SCENE)
    studio.start("--no-demo")
    log_in()
    page.goto(f"{studio.url}/runs/new/")
    page.get_by_role("combobox", name="Model", exact=True).select_option("mobilenet_v3_small")
    page.get_by_label("Image size").fill("32")
    page.get_by_role("spinbutton", name="Epochs", exact=True).fill("6")
    page.get_by_label("Batch size", exact=True).fill("8")
    open_folds(page)
    page.get_by_label("CPU threads").fill("1")
    page.get_by_label("Log every", exact=True).fill("1")
    shared = fill_in(page, "Shared", 2)

    # A batch for each device: it was divided, and the page says so. Both ranks are shown while they train and after.
    expect(page.get_by_text("The configuration was adjusted:")).to_be_visible()
    status, ranks = page.locator("[data-run-status]"), page.locator("section[aria-labelledby=ranks-title] tbody tr")
    expect(status).to_have_text("Running")
    expect(ranks).to_have_count(2)
    expect(ranks.nth(1)).to_contain_text("cpu")
    expect(ranks.nth(1)).to_contain_text("running")
    expect(status).to_have_text("Completed")
    expect(ranks.nth(1)).to_contain_text("ended")
    of_two = weights_hash(page, tmp_path)

    page.goto(f"{studio.url}/runs/new/?clone={shared}")
    alone = fill_in(page, "Alone", 1)
    expect(status).to_have_text("Completed")
    expect(ranks).to_have_count(0)
    assert weights_hash(page, tmp_path) == of_two
    curve = points(page, studio, alone)
    assert [split for split, *_rest in curve].count("val") == 6
    assert points(page, studio, shared) == curve
