"""The report of a run: one file that needs no server, and Markdown with its drawings."""

import io
import re
import zipfile
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from PIL import Image

from tests.api.conftest import api_of
from tests.helpers.evaluations import annotated, evaluated
from tests.helpers.tiny import make_run
from tests.helpers.world import point, store_events
from trainingapp.contract.evaluation import evaluation_path
from trainingapp.models import Dataset, TrainingRun


@pytest.fixture
def run(user: User, tints: Dataset) -> TrainingRun:
    """A finished run of two epochs, the first the best."""
    run = make_run(user, tints, "my <run> | one", learning_rate=0.123)
    store_events(run, *[point(step, 1 / step) for step in range(1, 13)])
    for epoch, top1 in ((1, 0.9), (2, 0.7)):
        evaluated(run, epoch, values={"loss": 1 / epoch, "top1": top1})
    best = {"best_epoch": 1, "best_metric": 0.9, "best_metric_name": "top1"}
    TrainingRun.objects.filter(pk=run.pk).update(status="completed", epoch=2, total_epochs=2, elapsed_s=61, **best)
    return run


def html_of(client: Client, run: TrainingRun) -> str:
    response = client.get(reverse("run_report", args=[run.pk]))
    assert response.status_code == 200
    assert response.headers["Content-Disposition"] == f'attachment; filename="my-run-one-{run.pk}-report.html"'
    return str(response.content.decode())


def words(html: str) -> str:
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL).split())


class Links(HTMLParser):
    """Collects what a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        values = dict(attrs)
        self.found += [values[name] for name in ("src", "href", "action") if values.get(name)]
        self.found += [tag] if tag in ("script", "link", "iframe", "form") else []
        self.found += [name for name in values if name.startswith("on")]


def test_the_file_holds_everything_and_fetches_nothing(user_client: Client, run: TrainingRun) -> None:
    html = html_of(user_client, run)
    links = Links()
    links.feed(html)
    assert links.found, "the images are in the file"
    assert [link[:22] for link in links.found if not link.startswith("data:image/webp;base64")] == []
    assert "url(" not in html
    text = words(html)
    assert "my &lt;run&gt; | one" in text
    assert "Metrics after epoch 1" in text
    assert "Top-1 accuracy 90.0 % epoch 2: 70.0 %" in text
    assert "Training time 1 min 1 s" in text
    assert "red 50.0 % 1234" in text  # by class, of the best epoch
    assert "Learning rate 0.123 (default 0.001)" in text
    assert "Ground truth: blue Prediction: blue 75.0 %" in text
    assert html.count("<polyline") >= 4  # loss of both splits, top1, reliability


def test_boxes_are_drawn_over_the_images(user_client: Client, run: TrainingRun) -> None:
    annotated(run.dataset)
    box = [0, 0.9, 2, 2, 20, 20]
    predictions = {index: {"boxes": [box, [1, 0.1, 5, 5, 9, 9]]} for index in range(12)}
    evaluated(run, 1, task="detection", predictions=predictions, best_confidence=0.45)
    html = html_of(user_client, run)
    assert '<rect x="2" y="2" width="18" height="18"' in html
    assert '<rect x="5" y="5" width="4" height="4"' not in html  # below the confidence
    assert '<rect x="4" y="5" width="16" height="25"' in html  # the ground truth


def test_masks_are_drawn_over_the_images(user_client: Client, run: TrainingRun) -> None:
    annotated(run.dataset)
    folder = run.folder / "evaluations" / "epoch_1"
    folder.mkdir(parents=True)
    Image.new("L", (32, 32), 1).save(folder / "0.png")
    evaluated(run, 1, task="segmentation", predictions={0: {"mask": "epoch_1/0.png"}})
    html = html_of(user_client, run)
    assert html.count('image-rendering="pixelated"') == 13  # twelve of the ground truth, one predicted


def test_markdown_with_drawings_in_a_zip(user_client: Client, run: TrainingRun) -> None:
    response = user_client.get(reverse("run_report_markdown", args=[run.pk]))
    assert response.headers["Content-Type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    stem = f"my-run-one-{run.pk}-report"
    names = archive.namelist()
    assert len(names) == len(set(names))
    text = archive.read(f"{stem}/report.md").decode()
    assert text.startswith("# my &lt;run> | one\n")
    assert "| Top-1 accuracy | 90.0 % |" in text
    assert "| red | 50.0 % | 1234 |" in text
    assert "| Optimizer | Learning rate | **0.123** |" in text
    drawings = {f"{stem}/{name}" for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)}
    assert drawings == set(names) - {f"{stem}/report.md"}
    for name in drawings:
        assert ElementTree.fromstring(archive.read(name)).tag == "{http://www.w3.org/2000/svg}svg"


def test_a_run_before_its_first_validation(user_client: Client, user: User, tints: Dataset) -> None:
    young = make_run(user, tints, "my run one")
    text = words(html_of(user_client, young))
    assert "No validation yet." in text
    assert "Learning rate" in text
    assert user_client.get(reverse("run_report_markdown", args=[young.pk])).status_code == 200


def test_a_missing_evaluation_file_is_mentioned(user_client: Client, run: TrainingRun) -> None:
    evaluation_path(run.folder, 1).unlink()
    text = words(html_of(user_client, run))
    assert "The evaluation file of epoch 1 is missing." in text
    assert "Top-1 accuracy 90.0 %" in text


def test_images_of_a_hidden_dataset_are_left_out(run: TrainingRun, other_user: User) -> None:
    Dataset.objects.filter(pk=run.dataset_id).update(visibility="private")
    client = Client()
    client.force_login(other_user)
    html = html_of(client, run)
    assert "data:image" not in html
    assert "Top-1 accuracy" in html


def test_the_report_is_in_the_language_of_the_reader(user_client: Client, run: TrainingRun) -> None:
    user_client.cookies["django_language"] = "zh-hans"
    html = html_of(user_client, run)
    assert '<html lang="zh-hans">' in html
    assert "学习率" in html


def test_the_api_has_both_forms(user: User, run: TrainingRun) -> None:
    api = api_of(user)
    html = api.get(f"training/{run.pk}/report")
    assert html.headers["Content-Type"].startswith("text/html")
    assert b"<svg" in html.content
    packed = api.get(f"training/{run.pk}/report?format=markdown")
    assert zipfile.is_zipfile(io.BytesIO(packed.content))
    assert api.get(f"training/{run.pk}/report?format=pdf").status_code == 422
