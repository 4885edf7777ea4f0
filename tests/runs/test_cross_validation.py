"""A cross-validation as a sweep: a trial for each fold, mean and deviation of their results, on every way in."""

import json
from io import StringIO
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils.translation import override

from tests.api.conftest import api_of, problem
from tests.helpers.studio import TINY
from tests.helpers.sweeps import make_sweep, measure, train
from tests.helpers.tiny import make_run
from trainingapp.contract.config import parse_config
from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.evaluation import image_results_path
from trainingapp.contract.folds import folded
from trainingapp.contract.image_results import paths_digest, read_image_results
from trainingapp.models import Dataset, Sweep, TrainingRun, Trial
from trainingapp.models.sweep import Origin, Sampler, SweepStatus, TrialState
from trainingapp.models.verbs import FieldError, VerbError
from trainingapp.presentation.messages import rendered_data
from trainingapp.presentation.numbers import metric
from trainingapp.runs.evaluation_images import Gallery
from trainingapp.runs.evaluations import read
from trainingapp.runs.sweeps.advance import advance
from trainingapp.runs.sweeps.page import SweepPage, spread_of
from trainingapp.runs.sweeps.space import searchable_fields
from trainingapp.runs.sweeps.verbs import change_sweep, enqueue_trial
from trainingapp.scheduling.scheduler import claim_next
from trainingapp.supervision import HOST, drop_spare, supervise, worker_id

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wake-ups go nowhere: these tests advance the sweeps themselves."""
    monkeypatch.setattr("trainingapp.worker.tasks.advance_sweeps", lambda: None)


def make_folds(user: User, dataset: Dataset, folds: int = 3, **fields: Any) -> Sweep:
    return make_sweep(user, dataset, sampler="folds", folds=folds, **fields)


def played(user: User, dataset: Dataset, values: list[float], **fields: Any) -> Sweep:
    """A cross-validation whose folds reach these values."""
    sweep = make_folds(user, dataset, len(values), **fields)
    for value in values:
        advance(sweep.pk)
        run = TrainingRun.objects.get(trial__sweep=sweep, status="queued")
        run.transition("running", attempt=1)
        measure(run, 1, value)
        run.transition("completed")
    advance(sweep.pk)
    sweep.refresh_from_db()
    return sweep


VALUES = [0.5, 0.75, 0.875]


def test_each_fold_is_a_trial_of_the_base_configuration(user: User, dataset: Dataset) -> None:
    sweep = played(user, dataset, VALUES, config={"seed": 7, "folds": 9, "fold": 4}, pruner="median", control_every=2)
    trials = list(sweep.trials.order_by("number"))
    configs = [trial.run.config for trial in trials if trial.run]
    assert [(config["folds"], config["fold"], config["seed"]) for config in configs] == [
        (3, 0, 7),
        (3, 1, 7),
        (3, 2, 7),
    ]
    assert {trial.state for trial in trials} == {TrialState.COMPLETED}
    assert [trial.origin for trial in trials] == [Origin.BASE, Origin.SUGGESTED, Origin.SUGGESTED]
    assert (sweep.status, sweep.max_trials, sweep.pruner) == (SweepStatus.COMPLETED, 3, "none")
    assert rendered_data(sweep.reason_data) == "All 3 trials are finished."


def test_mean_and_deviation_are_those_of_numpy(user: User, dataset: Dataset) -> None:
    spread = spread_of(played(user, dataset, VALUES))
    assert spread is not None
    assert spread.mean == pytest.approx(np.mean(VALUES))
    assert spread.deviation == pytest.approx(np.std(VALUES, ddof=1))


def test_a_fold_that_failed_is_left_out_and_one_result_has_no_deviation(user: User, dataset: Dataset) -> None:
    sweep = make_folds(user, dataset, 2)
    assert spread_of(sweep) is None
    for status in ("failed", "completed"):
        advance(sweep.pk)
        train(TrainingRun.objects.get(trial__sweep=sweep, status="queued"), status)
    spread = spread_of(sweep)
    assert spread is not None
    assert (len(spread.values), spread.deviation) == (1, None)
    page = SweepPage(sweep, user).repeats()
    assert page is not None
    assert (page.count, page.deviation) == (1, "–")


@pytest.mark.parametrize("folds", [0, 1, 21])
def test_the_number_of_folds_is_checked(user: User, dataset: Dataset, folds: int) -> None:
    with pytest.raises(FieldError, match="Must be 2 to 20") as caught:
        make_folds(user, dataset, folds)
    assert caught.value.field == "folds"


def test_a_dataset_with_fewer_images_than_folds_is_refused(user: User, dataset: Dataset) -> None:
    with pytest.raises(VerbError, match="fewer images than folds"):
        make_folds(user, dataset, 13)  # it has twelve images
    with pytest.raises(VerbError, match="fewer images than folds"):
        make_run(user, dataset, folds=13)
    assert make_run(user, dataset, folds=12).config["folds"] == 12


def test_the_folds_of_a_sweep_are_fixed(user: User, dataset: Dataset) -> None:
    sweep = make_folds(user, dataset)
    with pytest.raises(FieldError, match="a trial for each fold"):
        change_sweep(sweep, max_trials=4)
    change_sweep(sweep, max_trials=3, concurrency=2)
    with pytest.raises(VerbError, match="cannot be extended"):
        enqueue_trial(sweep, {"learning_rate": 0.1})


def test_folds_are_not_searched() -> None:
    assert not {"folds", "fold"} & searchable_fields("classification").keys()


def test_forecasts_know_how_many_images_are_trained(dataset: Dataset) -> None:
    assert [dataset.trained_images({"folds": folds}) for folds in (None, 0, 2, 3, 12)] == [8, 8, 6, 8, 11]


# Pages, API, command


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("en", ["Cross-validation", "Standard deviation", "divided into 3 folds", "Over the folds"]),
        ("zh-hans", ["交叉验证", "标准差", "分为 3 折", "未参与训练"]),
    ],
)
def test_the_page_shows_mean_deviation_and_each_fold(
    client: Client, user: User, dataset: Dataset, language: str, texts: list[str]
) -> None:
    sweep = played(user, dataset, VALUES)
    client.force_login(user)
    client.cookies["django_language"] = language
    page = " ".join(client.get(sweep.get_absolute_url()).content.decode().split())
    with override(language):
        shown = [metric(value, "top1") for value in (np.mean(VALUES), np.std(VALUES, ddof=1), *VALUES)]
    assert [text for text in [*texts, *shown] if text not in page] == []
    for trial in sweep.trials.all():
        assert f'href="/runs/{trial.run_id}/"' in page
    assert "chip-best" not in page
    listed = client.get("/sweeps/").content.decode()
    assert f"{shown[0]} ± {shown[1]}" in listed


def test_the_form_makes_a_cross_validation(client: Client, user: User, dataset: Dataset) -> None:
    client.force_login(user)
    form = client.get("/sweeps/new/").context["form"]
    values = {name: form[name].value() for name in form.fields if form[name].value() is not None}
    entered = {name: value for name, value in values.items() if value is not False}
    entered |= {"name": "mine", "dataset": dataset.pk, "sampler": "folds", "fold_count": "4"}
    entered |= {"pruner": "none", "control_every": "0", "search-learning_rate": "on", "low-learning_rate": "hidden"}
    response = client.post("/sweeps/new/", entered)
    assert response.status_code == 302, response.context["form"].errors
    sweep = Sweep.objects.get()
    assert (sweep.sampler, sweep.max_trials, sweep.config["folds"]) == (Sampler.FOLDS, 4, 4)
    refused = client.post("/sweeps/new/", entered | {"fold_count": "1"})
    assert refused.status_code == 422
    assert refused.context["form"].errors.keys() == {"fold_count"}
    edit = client.get(f"/sweeps/{sweep.pk}/edit/").content.decode()
    assert 'name="concurrency"' in edit
    assert 'name="max_trials"' not in edit


def test_the_api_makes_and_shows_it(user: User, dataset: Dataset) -> None:
    api = api_of(user)
    made = api.post("sweeps/", {"name": "folds", "dataset": dataset.pk, "sampler": "folds", "folds": 3}).json()
    assert (made["sampler"], made["max_trials"], made["config"]["folds"], made["mean"]) == ("folds", 3, 3, None)
    assert problem(api.put(f"sweeps/{made['id']}", {"max_trials": 5}), 422)["errors"][0]["pointer"] == "#/max_trials"
    sweep = played(user, dataset, VALUES)
    shown = api.get(f"sweeps/{sweep.pk}").json()
    assert shown["mean"] == pytest.approx(np.mean(VALUES))
    assert shown["deviation"] == pytest.approx(np.std(VALUES, ddof=1))
    assert [trial["params"] for trial in api.get(f"sweeps/{sweep.pk}/trials").json()["items"]] == [
        {"fold": 0},
        {"fold": 1},
        {"fold": 2},
    ]


def test_the_command_makes_and_shows_it(user: User, dataset: Dataset) -> None:
    options = ["--dataset", dataset.name, "--owner", user.username, "--sampler", "folds"]
    out = StringIO()
    call_command("sweep", "create", "folds", *options, "--folds", "4", "--json", stdout=out)
    (made,) = json.loads(out.getvalue())
    assert (made["sampler"], made["max_trials"], made["mean"]) == ("folds", 4, None)
    with pytest.raises(CommandError, match="folds: Must be 2 to 20"):
        call_command("sweep", "create", "folds", *options, "--folds", "1")
    sweep, out = played(user, dataset, VALUES), StringIO()
    call_command("sweep", "show", str(sweep.pk), stdout=out)
    assert "±" in out.getvalue()
    assert "fold" in out.getvalue()


# With real trainers


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_three_real_folds_to_their_end(client: Client, user: User, tints: Dataset) -> None:
    """Each run is trained by a trainer process; pages show the images of its fold, and comparisons refuse others."""
    sweep = make_folds(user, tints, config={**TINY, "epochs": 2, "batch_size": 8})
    try:
        for _fold in range(3):
            advance(sweep.pk)
            run = claim_next(HOST, worker_id())
            assert run is not None
            supervise(run)
    finally:
        drop_spare()
    advance(sweep.pk)
    sweep.refresh_from_db()
    assert sweep.status == SweepStatus.COMPLETED
    trials = list(sweep.trials.order_by("number"))
    runs = [trial.run for trial in trials if trial.run]
    assert [run.status for run in runs] == ["completed"] * 3
    values = [run.best_metric for run in runs]
    assert [trial.value for trial in trials] == values
    spread = spread_of(sweep)
    assert spread is not None
    assert spread.mean == pytest.approx(np.mean(values))  # type: ignore[arg-type]
    assert spread.deviation == pytest.approx(np.std(values, ddof=1))  # type: ignore[arg-type]
    index = read_index(tints.folder)
    validated: list[str] = []
    for fold, run in enumerate(runs):
        own = [sample.path for sample in folded(index, 3, fold).split("val")]
        assert read_image_results(image_results_path(run.folder, 2)).paths == paths_digest(own)
        validated += own
        _assert_pages_show(client, user, run, own)
    assert sorted(validated) == sorted(sample.path for sample in index.samples)
    client.force_login(user)
    compared = client.get(reverse("compare"), {"runs": f"{runs[0].pk},{runs[1].pk}", "tab": "images"}).content.decode()
    assert "validates on another fold" in compared


def _assert_pages_show(client: Client, user: User, run: TrainingRun, paths: list[str]) -> None:
    """The gallery has these images in this order, with the labels of each and a link to its page in the dataset."""
    gallery = Gallery(run, read(run, 2))
    client.force_login(user)
    for index, path in enumerate(paths):
        card = gallery.at(index)
        assert card.path == path
        assert card.truth is not None
        assert [chip.name for chip in card.truth.chips] == [path.split("/")[2]]
    assert gallery.at(len(paths)).path == ""
    page = client.get(gallery.at(0).page_url)
    assert page.status_code == 200
    assert paths[0] in page.content.decode()


def test_other_runs_keep_the_splits_of_the_dataset(user: User, tints: Dataset) -> None:
    assert parse_config({}).folds == 0
    assert make_run(user, tints).config["folds"] == 0
    assert not Trial.objects.exists()
