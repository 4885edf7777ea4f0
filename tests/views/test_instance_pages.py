"""Pages of runs that find objects with masks: outlines of the truth and of predictions."""

import json
import re
import uuid
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tests.helpers.evaluations import BOX_MASK, annotated, evaluated
from tests.helpers.library_weights import make_card
from tests.helpers.tiny import make_run
from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.run_lengths import encoded, path_of
from trainingapp.models import Dataset, Job, TrainingRun

GUESS = encoded(np.ones((10, 9)), 32, 32, 3, 4)
BOXES = [[1, 0.9, 3, 4, 12, 14], [0, 0.1, 0, 0, 8, 8]]
MASKS = [GUESS, encoded(np.ones((8, 8)), 32, 32)]


@pytest.fixture
def judged(user: User, tints: Dataset) -> TrainingRun:
    run = make_run(user, tints)
    annotated(run.dataset)
    made: Any = {0: {"boxes": BOXES, "masks": MASKS}}
    evaluated(run, 1, task="instances", predictions=made, best_confidence=0.5)
    return run


def test_outlines_of_ground_truth_and_predictions(user_client: Client, judged: TrainingRun) -> None:
    first = user_client.get(f"/runs/{judged.pk}/evaluation/1.json").json()["images"][0]
    [truth] = first["truth"]["boxes"]
    assert truth["outline"] == path_of(BOX_MASK, 32, 32)
    sure, weak = first["prediction"]["boxes"]
    assert sure["outline"] == path_of(GUESS, 32, 32)
    text = user_client.get(reverse("evaluation", args=[judged.pk]), {"show": "images"}).content.decode()
    drawn = re.findall(r'<path class="shot-outline" d="([^"]+)"[^>]*?(hidden)?/>', text)
    assert (sure["outline"], "") in drawn
    assert (weak["outline"], "hidden") in drawn
    assert 'id="confidence"' in text


def test_a_report_draws_outlines(user_client: Client, judged: TrainingRun) -> None:
    html = user_client.get(reverse("run_report", args=[judged.pk])).content.decode()
    assert f'd="{path_of(GUESS, 32, 32)}"' in html
    assert f'd="{path_of(BOX_MASK, 32, 32)}"' in html
    assert f'd="{path_of(MASKS[1], 32, 32)}"' not in html  # below the confidence


@pytest.mark.parametrize("damage", ["", "{}", '{"size": [32, 32], "counts": ["zz"]}'])
def test_missing_or_damaged_outlines_leave_the_boxes(user_client: Client, judged: TrainingRun, damage: str) -> None:
    sample = read_index(judged.dataset.folder).split("val")[0]
    file = judged.dataset.folder / sample.outlines
    file.unlink()
    if damage:
        file.write_text(damage)
    first = user_client.get(f"/runs/{judged.pk}/evaluation/1.json").json()["images"][0]
    [truth] = first["truth"]["boxes"]
    assert (truth["outline"], truth["width"]) == ("", "16")


def test_predictions_are_drawn_with_their_outlines(user_client: Client, judged: TrainingRun) -> None:
    card = make_card("instances", "maskrcnn_resnet18_fpn", 64, judged.dataset.classes)
    job = Job.objects.create(
        pk=uuid.uuid4(),
        kind=Job.Kind.PREDICT,
        owner=judged.owner,
        params={"card": card},
        state=Job.State.DONE,
        result={"images": 1, "problems": 0, "milliseconds": 5},
    )
    about = {"name": "a.png", "number": 0, "width": 32, "height": 32, "milliseconds": 5.0}
    job.folder.mkdir(parents=True)
    content = {"weights": {}, "images": [{**about, "boxes": BOXES, "masks": MASKS}]}
    (job.folder / "predictions.json").write_text(json.dumps(content))
    html = user_client.get(reverse("job", args=[job.pk])).content.decode()
    assert re.findall(r'<path class="outline" d="([^"]+)"', html) == [path_of(GUESS, 32, 32)]
    assert 'data-slider="confidence"' in html
    assert 'data-slider="iou"' not in html  # the network itself has suppressed
    data = user_client.get(reverse("job_boxes", args=[job.pk])).json()
    assert data["images"][0]["outlines"] == [path_of(mask, 32, 32) for mask in MASKS]


def test_a_dataset_of_a_version_before_says_how_to_get_outlines(user_client: Client, tints: Dataset) -> None:
    annotated(tints)
    hint = "Import this dataset again to use it for instance segmentation"
    for tasks, is_shown in ((["detection", "segmentation"], True), (["detection"], False)):
        Dataset.objects.filter(pk=tints.pk).update(tasks=tasks)
        assert (hint in user_client.get(tints.get_absolute_url()).content.decode()) == is_shown
    Dataset.objects.filter(pk=tints.pk).update(tasks=["detection", "segmentation", "instances"])
    assert hint not in user_client.get(tints.get_absolute_url()).content.decode()
