"""Pages and API for datasets whose images have several labels: the dataset decides the label mode."""

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.helpers.library import make_entry
from tests.helpers.multi_labels import CLASSES, make_multi_label_row
from tests.helpers.world import store_events
from trainingapp.contract.config import parse_config
from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.evaluation import Column, Evaluation, ImageScore, write_evaluation
from trainingapp.models import Checkpoint, Dataset, Job, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs.change_forms import ForkForm
from trainingapp.runs.charts import charts_of
from trainingapp.runs.forms import RunForm, config_table
from trainingapp.runs.verbs import create_run
from trainingapp.weights.verbs import save_weights

pytestmark = pytest.mark.database


@pytest.fixture
def squares(user: User) -> Dataset:
    found: Dataset = make_multi_label_row(user)
    return found


def multi_run(user: User, dataset: Dataset, **config: Any) -> TrainingRun:
    values = parse_config({"label_mode": "multi", **config})
    return create_run(owner=user, name="squares", dataset=dataset, config=values)


def posted(form: RunForm, **changes: Any) -> dict[str, Any]:
    """What a browser sends of an unchanged form: no disabled fields."""
    values = {name: form[name].value() for name, field in form.fields.items() if not field.disabled}
    values = {name: value for name, value in values.items() if value is not None and value is not False}
    return {**values, "name": "new", **changes}


# The form


def test_the_form_takes_the_label_mode_of_the_dataset(user: User, squares: Dataset, dataset: Dataset) -> None:
    form = RunForm(task="classification", user=user, initial={"dataset": squares.pk})
    assert (form["label_mode"].value(), form["best_metric"].value()) == ("multi", "map")
    assert form.fields["label_mode"].disabled
    sent = RunForm(posted(form, dataset=squares.pk), task="classification", user=user)
    assert sent.is_valid(), sent.errors
    assert (sent.config.labels_per_image, sent.config.best_metric, sent.corrections) == ("multi", "map", [])
    # Another dataset was chosen: whatever is sent, the dataset decides, and the metric is corrected and reported.
    other = RunForm(
        posted(form, dataset=squares.pk, label_mode="single", best_metric="top1"), task="classification", user=user
    )
    assert other.is_valid(), other.errors
    assert (other.config.labels_per_image, other.config.best_metric) == ("multi", "map")
    assert [str(message) for message in other.corrections] == [
        "best_metric was changed from top1 to map, because label_mode is multi."
    ]
    single = RunForm(posted(form, dataset=dataset.pk, best_metric="top1"), task="classification", user=user)
    assert single.is_valid(), single.errors
    assert single.config.labels_per_image == "single"


@pytest.mark.parametrize(("name", "choice"), [("best_metric", "top5"), ("class_balance", "sampler")])
def test_settings_that_need_one_label_are_refused_at_their_fields(
    user: User, squares: Dataset, name: str, choice: str
) -> None:
    form = RunForm(task="classification", user=user, initial={"dataset": squares.pk})
    sent = RunForm(posted(form, dataset=squares.pk, **{name: choice}), task="classification", user=user)
    assert not sent.is_valid()
    assert list(sent.errors) == [name]


def test_the_form_carries_the_attributes_that_the_script_needs(
    user_client: Client, squares: Dataset, dataset: Dataset
) -> None:
    html = user_client.get(reverse("run_new"), {"dataset": squares.pk}).content.decode()
    options = {found[1]: found[0] for found in re.finditer(r'<option value="([^"]*)"[^>]*>', html)}
    assert 'data-label-mode="multi"' in options[str(squares.pk)]
    assert 'data-label-mode="single"' in options[str(dataset.pk)]
    assert 'data-choice-when="label_mode" data-choice-when-is="single"' in options["top5"]
    assert 'data-choice-when="label_mode" data-choice-when-is="multi"' in options["map"]
    assert " selected" in options["map"]


def test_a_fork_keeps_the_label_mode(user: User, squares: Dataset, run: TrainingRun) -> None:
    form = ForkForm(multi_run(user, squares), user=user)
    assert form["label_mode"].value() == "multi"
    # A run of a version without the field had one label per image.
    del run.config["label_mode"]
    old = ForkForm(run, posted(ForkForm(run, user=user, initial=run.config)), user=user)
    assert "label_mode" not in old.errors


# Runs


def test_a_run_must_suit_its_dataset(user: User, squares: Dataset, dataset: Dataset) -> None:
    with pytest.raises(VerbError, match="label_mode: the dataset “squares” needs multi"):
        create_run(owner=user, name="x", dataset=squares, config=parse_config({}))
    with pytest.raises(VerbError, match="label_mode: the dataset “pets” needs single"):
        create_run(owner=user, name="x", dataset=dataset, config=parse_config({"label_mode": "multi"}))


def test_charts_and_configuration_of_a_run(user: User, squares: Dataset) -> None:
    run = multi_run(user, squares)
    [_loss, quality, *_others] = charts_of(run.task, run.config)
    assert [(one["metric"], one["split"]) for one in quality["series"]] == [
        ("micro_f1", "train"),
        ("map", "val"),
        ("macro_f1", "val"),
        ("micro_f1", "val"),
    ]
    changed = {row.name for row in config_table(run.config) if row.is_changed}
    assert "best_metric" not in changed


# Its evaluation


def evaluated(run: TrainingRun) -> None:
    """The network finds red everywhere, and green in the first image."""
    samples = read_index(run.dataset.folder).split("val")
    found = Evaluation(
        values={"loss": 0.3, "map": 0.8, "macro_f1": 0.7, "micro_f1": 0.6},
        score="loss",
        score_higher_is_better=False,
        columns=[Column("ap", "AP"), Column("threshold", "Threshold")],
        per_class=[{"class": name, "ap": 0.8, "threshold": 0.37} for name in CLASSES],
        thresholds=[0.37, 0.5, 0.5],
        images=[ImageScore(index, 1.0 + index, sample.labels or ()) for index, sample in enumerate(samples)],
        predictions={
            index: {"classes": [[0, 0.75], [1, 0.6 if index == 0 else 0.3]], "labels": [0, 1] if index == 0 else [0]}
            for index in range(len(samples))
        },
    )
    paths = [sample.path for sample in samples]
    run.folder.mkdir(parents=True)
    write_evaluation(run.folder, found, task="classification", epoch=1, step=2, classes=CLASSES, paths=paths)
    data = {"split": "val", "values": found.values, "evaluation": "evaluations/epoch_1.json"}
    store_events(run, {"type": "metrics", "epoch": 1, "step": 2, "data": data})


def test_the_evaluation_shows_all_labels_and_the_predictions_above_their_thresholds(
    user_client: Client, user: User, squares: Dataset
) -> None:
    run = multi_run(user, squares)
    evaluated(run)
    for part in ("metrics", "classes", "confusion", "images", "notable"):
        response = user_client.get(reverse("evaluation", args=[run.pk]), {"show": part})
        assert response.status_code == 200
    data = user_client.get(reverse("evaluation_data", args=[run.pk, 1])).json()
    assert data["thresholds"] == [0.37, 0.5, 0.5]
    samples = read_index(squares.folder).split("val")
    for card in data["images"]:
        sample = samples[card["index"]]
        assert [chip["name"] for chip in card["truth"]["chips"]] == [CLASSES[label] for label in sample.labels or ()]
        guessed = ["red", "green"] if card["index"] == 0 else ["red"]
        assert [chip["name"] for chip in card["prediction"]["chips"]] == guessed
        right = {chip["name"] for chip in card["prediction"]["chips"] if chip["is_right"]}
        assert right == set(guessed) & {CLASSES[label] for label in sample.labels or ()}


def test_images_without_labels_are_among_the_worst_ones(user: User, squares: Dataset) -> None:
    run = multi_run(user, squares)
    evaluated(run)
    stored = json.loads((run.folder / "evaluations/epoch_1.json").read_text())
    bare = [index for index, sample in enumerate(read_index(squares.folder).split("val")) if not sample.labels]
    assert bare
    assert {one["index"] for one in stored["images"]} >= set(bare[:8])


# Its models


def test_a_trial_marks_the_classes_that_reach_their_threshold(user_client: Client, user: User) -> None:
    config = parse_config({"label_mode": "multi"}).model_dump(mode="json")
    entry = make_entry(user, config=config, classes=CLASSES)
    entry.report["thresholds"] = [0.9, 0.2, 0.5]
    params = {"card": entry.card()}
    result = {"images": 1, "problems": 0, "milliseconds": 3}
    job = Job.objects.create(kind=Job.Kind.PREDICT, owner=user, state=Job.State.DONE, params=params, result=result)
    image = {"name": "a.png", "number": 0, "width": 8, "height": 8, "milliseconds": 3}
    found = {**image, "classes": [[0, 0.8], [1, 0.3], [2, 0.1]], "labels": [1]}
    job.folder.mkdir(parents=True)
    (job.folder / "predictions.json").write_text(json.dumps({"weights": {}, "images": [found]}))
    html = " ".join(user_client.get(reverse("job", args=[job.pk])).content.decode().split())
    guesses = re.findall(r'<li class="guess( guess-right)?" data-share="([0-9.]+)">', html)
    assert [(css, float(share)) for css, share in guesses] == [("", 0.8), (" guess-right", 0.3), ("", 0.1)]
    assert "threshold 90" in html


def test_a_model_takes_the_thresholds_of_its_checkpoint(user: User, squares: Dataset) -> None:
    run = multi_run(user, squares)
    evaluated(run)
    place = {"attempt": 1, "epoch": 1, "step": 2, "reason": "epoch", "created_at": timezone.now()}
    Checkpoint.objects.create(run=run, file="epoch_1.pt", **place, size_bytes=1, metrics={"map": 0.8}, is_best=True)
    weights = save_weights(run, name="squares", by=user)
    assert weights.card()["thresholds"] == [0.37, 0.5, 0.5]


# Its dataset


def test_the_pages_of_the_dataset_name_all_labels(user_client: Client, squares: Dataset) -> None:
    html = user_client.get(reverse("dataset_detail", args=[squares.pk])).content.decode()
    assert "several labels per image" in html
    captions = {", ".join(CLASSES[label] for label in one.labels or ()) for one in read_index(squares.folder).samples}
    assert any(", " in caption and caption in html for caption in captions)
    of_blue = [one for one in read_index(squares.folder).samples if 2 in (one.labels or ())]
    pages = [reverse("dataset_view", args=[squares.pk, place]) for place in (len(of_blue), len(of_blue) + 1)]
    assert [user_client.get(page, {"class": 2}).status_code for page in pages] == [200, 404]
