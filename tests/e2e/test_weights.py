"""The models in a browser: save a trained network, try it, export it, and predict with the export."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.helpers.studio import Studio

TRAIN = """
from tests.helpers.tiny import make_run
from django.contrib.auth.models import User
from trainingapp.models import Dataset
dataset = Dataset.objects.get(name="Shapes")
result = make_run(
    User.objects.get(), dataset, "Shapes", start=True, task="detection", model="ssdlite320_mobilenet_v3_large",
    image_size=128, batch_size=8, epochs=1, warmup_epochs=0, cpu_threads=1, device="cpu", conf_thres=0.02,
).pk
"""


def test_from_a_run_to_predictions_of_the_export(
    page: Page, studio: Studio, log_in: Callable[[], None], problems: list[str], tmp_path: Path
) -> None:
    studio.manage("demo", "--name", "Shapes", "--images", "60", "--size", "96")
    run: int = studio.python(TRAIN)
    studio.start("--no-demo")
    studio.wait_for_status(run, "completed", 300)
    images = sorted((studio.data_dir / "datasets").glob("*/images/val/**/*.jpg"))[:3]
    turned, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[0x0112] = 6
    with Image.open(images[0]) as image:
        image.resize((96, 64)).save(turned, exif=exif)

    # Save
    log_in()
    page.goto(f"{studio.url}/weights/")
    expect(page.get_by_role("heading", name="No models yet")).to_be_visible()
    page.goto(f"{studio.url}/runs/{run}/")
    page.locator("#save-model").click()
    page.get_by_label("License").fill("CC0")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#entry .status", has_text="Ready")).to_be_visible()

    # Try: the sliders sift what is there already; nothing is asked of the server.
    page.get_by_role("link", name="Try").click()
    page.locator("#images").set_input_files([*images, turned])
    panel = page.locator("[data-predictions]")
    expect(panel).to_be_visible()
    expect(panel.locator("figure")).to_have_count(4)
    confidence, iou = panel.get_by_label("Confidence threshold"), panel.get_by_label("NMS IoU threshold")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "images/" not in request.url else None)
    confidence.fill("0.02")
    iou.fill("1")
    all_boxes = panel.locator("rect.box").count()
    assert all_boxes > 0
    iou.fill("0.3")
    assert panel.locator("rect.box").count() < all_boxes
    confidence.fill("1")
    expect(panel.locator("rect.box")).to_have_count(0)
    expect(panel.get_by_text("No detections above the threshold.").first).to_be_visible()
    assert not asked
    upright = panel.locator("figure").nth(3).locator("img").first
    sides = upright.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert sides[0] < sides[1]

    # What is no image is refused where it was dropped.
    page.locator("#images").set_input_files(files=[{"name": "a.txt", "mimeType": "text/plain", "buffer": b"hello"}])
    expect(page.locator("#try-result").get_by_role("alert")).to_contain_text("a.txt is not a supported image")

    # A whole split, with metrics.
    page.get_by_text("Batch prediction").click()
    page.get_by_role("button", name="Predict all").click()
    expect(page.locator("#many-result")).to_contain_text("were predicted")
    expect(page.locator("#many-result")).to_contain_text("mAP50")

    # Export, and predict with what was exported.
    page.get_by_role("link", name="Shapes v1").first.click()
    page.get_by_role("link", name="Export", exact=True).click()
    page.get_by_label("torch.export (.pt2)").uncheck()
    page.get_by_role("button", name="Export").click()
    expect(page.locator("#download-export")).to_be_visible()
    expect(page.locator(".outcomes")).to_contain_text("maximum score difference")
    with page.expect_download() as download:
        page.locator("#download-export").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path / "exported")
    command = [sys.executable, "predict.py", str(turned), "--confidence", "0.02", "--out", "drawn"]
    done = subprocess.run(command, cwd=tmp_path / "exported", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["boxes"]
    with Image.open(tmp_path / "exported" / "drawn" / "turned.png") as image:
        assert image.size == (64, 96)

    # Start a run from it, and delete it.
    page.get_by_role("link", name="Shapes v1").click()
    page.get_by_role("link", name="Start a run").click()
    expect(page.locator("[name=start_from]")).to_have_value("weights/1")
    page.goto(f"{studio.url}/weights/1/")
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete and free").click()
    expect(page.get_by_role("heading", name="No models yet")).to_be_visible()
    assert not (studio.data_dir / "weights" / "1").exists()
