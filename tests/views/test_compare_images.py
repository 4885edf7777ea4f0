"""Comparing runs image by image: intervals, repeats, newly wrong and newly right images, and classes."""

import re
from html import unescape
from io import StringIO
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from tests.api.conftest import api_of, problem
from tests.helpers.evaluations import evaluated, results
from tests.helpers.tiny import make_run
from trainingapp.contract.evaluation import image_results_path
from trainingapp.models import Dataset, Job, TrainingRun
from trainingapp.runs import significance
from trainingapp.runs.interval_jobs import intervals

TRUTH = [0, 1] * 6
#: The first is wrong about images 0 to 5, the second about image 0 alone, the third about image 11.
FIRST = [1, 0, 1, 0, 1, 0, *TRUTH[6:]]
SECOND = [1, *TRUTH[1:]]
THIRD = [*TRUTH[:11], 0]


@pytest.fixture(autouse=True)
def _no_stored_intervals() -> None:
    cache.clear()


def judge(run: TrainingRun, epoch: int, guesses: list[int], **changes: Any) -> None:
    """Store a validation that made these guesses; this epoch is the best."""
    found = results(guesses)
    top1 = float(found.quality_N.mean())
    options: dict[str, Any] = {"values": {"loss": 1 - top1, "top1": top1}, "image_results": found}
    evaluated(run, epoch, **(options | changes))
    TrainingRun.objects.filter(pk=run.pk).update(best_epoch=epoch)


@pytest.fixture
def runs(user: User, tints: Dataset) -> list[TrainingRun]:
    """Three runs on twelve validation images."""
    made = [make_run(user, tints, name, seed=seed) for seed, name in enumerate(("first", "second", "third"))]
    for run, guesses in zip(made, (FIRST, SECOND, THIRD), strict=True):
        judge(run, 1, guesses)
    return made


def page(client: Client, runs: list[TrainingRun], tab: str, **query: Any) -> str:
    response = client.get(reverse("compare"), {"runs": ",".join(str(run.pk) for run in runs), "tab": tab, **query})
    assert response.status_code == 200
    return " ".join(str(response.content.decode()).split())


def images(text: str) -> list[int]:
    return [int(index) for index in re.findall(r'id="image-(\d+)"', text)]


# Intervals


def test_a_clear_difference_is_stated_with_its_interval(user_client: Client, runs: list[TrainingRun]) -> None:
    rng = np.random.default_rng(0)
    gains = np.array(SECOND) == TRUTH
    losses = np.array(FIRST) == TRUTH
    drawn = [(gains[one].mean() - losses[one].mean()) for one in (rng.integers(0, 12, 12) for _ in range(1000))]
    low, high = np.quantile(drawn, [0.025, 0.975]) * 100
    expected = f"second is better than first by 41.7 percentage points, 95 % interval {low:.1f} to {high:.1f}."
    assert expected in page(user_client, runs, "significance")
    turned = page(user_client, runs, "significance", base=runs[1].pk)
    assert f"first is worse than second by 41.7 percentage points, 95 % interval {low:.1f} to {high:.1f}." in turned
    assert "third: no clear difference from second (+0.0 percentage points" in turned
    assert "the 12 validation images were drawn 1000 times" in turned


def test_a_loss_is_better_when_it_is_lower(user_client: Client, user: User, tints: Dataset) -> None:
    pair = [make_run(user, tints, name, best_metric="loss") for name in ("high", "low")]
    for run, loss in zip(pair, (2.0, 1.0), strict=True):
        found = results(TRUTH)
        found.arrays["loss_N"][:] = loss  # type: ignore[index]
        judge(run, 1, TRUTH, image_results=found, values={"loss": loss, "top1": 1.0})
    assert "low is better than high by 1, 95 % interval 1 to 1." in page(user_client, pair, "significance")


def test_repeats_have_mean_and_deviation(user_client: Client, user: User, runs: list[TrainingRun]) -> None:
    text = page(user_client, runs, "significance")
    mean, deviation = np.mean([0.5, 11 / 12, 11 / 12]) * 100, np.std([0.5, 11 / 12, 11 / 12], ddof=1) * 100
    assert f"<dt>Top-1 accuracy</dt><dd>{mean:.1f} % <small>± {deviation:.1f}</small></dd>" in text
    assert "of 3 runs of one configuration with different seeds" in text
    other = make_run(user, runs[0].dataset, "other", seed=7, learning_rate=0.5)
    judge(other, 1, TRUTH)
    same_seed = make_run(user, runs[0].dataset, "same", seed=0)
    judge(same_seed, 1, TRUTH)
    assert "None of these runs repeats another one" in page(user_client, [runs[0], other, same_seed], "significance")


def without_file(run: TrainingRun) -> None:
    image_results_path(run.folder, 1).unlink()


def damaged(run: TrainingRun) -> None:
    image_results_path(run.folder, 1).write_bytes(b"nothing")


def of_another_step(run: TrainingRun) -> None:
    content = image_results_path(run.folder, 1).read_bytes()
    judge(run, 1, TRUTH, at_step=99)
    image_results_path(run.folder, 1).write_bytes(content)


def with_other_truth(run: TrainingRun) -> None:
    judge(run, 1, TRUTH, image_results=results(TRUTH, [0] * 12), values={"top1": 0.5, "loss": 0.5})


def with_other_images(run: TrainingRun) -> None:
    judge(run, 1, TRUTH, image_results=results(TRUTH[:6]), values={"top1": 1.0, "loss": 0.0})


def with_another_report(run: TrainingRun) -> None:
    judge(run, 1, TRUTH, values={"top1": 0.123, "loss": 0.5})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (without_file, "second: The validation of epoch 1 stored no results of single images."),
        (damaged, "second: The file of the results of single images of epoch 1 is corrupted."),
        (of_another_step, "second: The results of single images of epoch 1 belong to another validation."),
        (with_other_truth, "second: The ground truth of the validation images is not that of the baseline."),
        (with_other_images, "second: The validation images are not those of the baseline."),
        (with_another_report, "second: The results of single images do not give the reported Top-1 accuracy."),
    ],
)
def test_the_page_says_why_there_is_no_interval(
    spoil: Any, reason: str, user_client: Client, runs: list[TrainingRun]
) -> None:
    spoil(runs[1])
    text = page(user_client, runs, "significance")
    assert reason in text
    assert "third is better than first" in text or "third: no clear difference" in text
    assert "No intervals: the baseline" in page(user_client, runs, "significance", base=runs[1].pk) or spoil in (
        with_other_truth,
        with_other_images,
    )


def test_a_job_computes_what_takes_too_long_for_a_page(
    user_client: Client, runs: list[TrainingRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(significance, "MOST_WORK", 500 * 3 * (2 * 12 + 12))
    assert "were drawn 500 times" in page(user_client, runs, "significance")
    assert not Job.objects.exists()
    monkeypatch.setattr(significance, "MOST_WORK", 1000)
    text = page(user_client, runs, "significance")
    assert "too many results for a page" in text
    (action,) = re.findall(r'action="(/compare/intervals/[^"]+)"', text)
    for _turn in range(2):  # a second request finds the job of the first
        response = user_client.post(unescape(action))
        (job,) = Job.objects.all()
        assert response.headers["Location"] == reverse("job", args=[job.pk])
    assert "Waiting for a worker" in page(user_client, runs, "significance")
    reports: list[tuple[int, int]] = []
    result = intervals(job, lambda done, total, phase: reports.append((done, total)))
    assert reports[-1] == (1000, 1000)
    Job.objects.update(state=Job.State.DONE, result=result)
    done = user_client.get(reverse("job", args=[job.pk])).content.decode()
    (link,) = re.findall(r'href="(/compare/[^"]+)"', done)
    text = user_client.get(unescape(link)).content.decode()
    assert "were drawn 1000 times" in text
    assert "second is better than first by 41.7 percentage points" in text
    # The button of a page that was opened before: htmx would put the page that it is redirected to into the form.
    late = user_client.post(unescape(action), headers={"HX-Request": "true"})
    assert (late.status_code, late.headers.get("HX-Redirect")) == (200, unescape(link))
    assert Job.objects.count() == 1
    judge(runs[1], 2, TRUTH)
    assert "too many results for a page" in page(user_client, runs, "significance"), "a new validation is not covered"


def test_the_command_computes_without_a_limit(runs: list[TrainingRun], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "MOST_WORK", 1000)
    out = StringIO()
    call_command("compare_runs", *[run.pk for run in runs], "--intervals", stdout=out)
    assert "- second is better than first by 41.7 percentage points" in out.getvalue()


# Images


def test_newly_wrong_and_newly_right_images(user_client: Client, runs: list[TrainingRun]) -> None:
    worse = page(user_client, runs, "images", **{"from": runs[1].pk, "to": runs[2].pk})
    assert images(worse) == [11]
    assert 'Newly wrong<span class="count">1</span>' in worse
    better = page(user_client, runs, "images", change="better")  # from the baseline to the next run
    assert sorted(images(better)) == [1, 2, 3, 4, 5]
    only_red = page(user_client, runs, "images", **{"change": "better", "class": 1})
    assert sorted(images(only_red)) == [1, 3, 5]
    # By class: blue has 0, 2 and 4, red 1, 3 and 5; image 0 stays wrong.
    rows = re.findall(r'<th scope="row"><a [^>]+>(\w+)</a></th>.*?>(\d+)</td>.*?>(\d+)</td>.*?>(\d+)</td>', better)
    assert rows == [("red", "0", "3", "6"), ("blue", "0", "2", "6")]


def test_two_epochs_of_one_run(user_client: Client, runs: list[TrainingRun]) -> None:
    judge(runs[0], 2, TRUTH)
    query = {"from": runs[0].pk, "to": runs[0].pk, "from_epoch": 1, "to_epoch": 2, "change": "better"}
    assert sorted(images(page(user_client, runs[:1], "images", **query))) == [0, 1, 2, 3, 4, 5]
    query["to_epoch"] = 1
    assert "Choose two runs, or two epochs of one run." in page(user_client, runs[:1], "images", **query)


def test_each_image_shows_every_run(user_client: Client, runs: list[TrainingRun]) -> None:
    judge(runs[2], 1, THIRD, image_results=results(THIRD, [1] * 12))  # judged on another ground truth
    text = page(user_client, runs, "images", change="better", **{"class": 1})
    card = re.search(r'id="image-1".*?</li> </ul>', text)
    assert card
    words = " ".join(re.sub(r"<[^>]+>", " ", card[0]).split())
    assert "first, epoch 1: wrong: blue" in words
    assert "second, epoch 1: correct: red" in words
    assert "third: The ground truth of the validation images is not that of the baseline." in text


def test_long_lists_of_images_have_pages(user_client: Client, user: User, dataset: Dataset) -> None:
    pair = [make_run(user, dataset, name) for name in ("a", "b")]
    judge(pair[0], 1, [0] * 60, image_results=results([0] * 60, [0] * 60), values={"top1": 1.0})
    judge(pair[1], 1, [1] * 60, image_results=results([1] * 60, [0] * 60), values={"top1": 0.0})
    assert len(images(page(user_client, pair, "images"))) == 24
    assert len(images(page(user_client, pair, "images", page=3))) == 12
    assert images(page(user_client, pair, "images", page="x")) == list(range(24))


def test_runs_without_results_say_so(user_client: Client, user: User, runs: list[TrainingRun]) -> None:
    young = make_run(user, runs[0].dataset, "young")
    assert "young: The run has no validation yet." in page(user_client, [runs[0], young], "images")
    without_file(runs[1])
    assert "second: The validation of epoch 1 stored no results" in page(user_client, runs, "images")


# Classes


def test_classes_with_the_largest_difference_first(user_client: Client, runs: list[TrainingRun]) -> None:
    for run, red in zip(runs, (0.5, 0.9, 0.4), strict=True):
        table = [{"class": "blue", "recall": 0.8, "images": 6}, {"class": "red", "recall": red, "images": None}]
        judge(run, 2, TRUTH, per_class=table)
    text = page(user_client, runs, "classes")
    assert re.findall(r'<th scope="row" class="cell-wide">(\w+)</th>', text) == ["red", "blue"]
    red = re.search(r'<th scope="row" class="cell-wide">red</th>(.*?)</tr>', text)
    assert red
    assert " ".join(re.sub(r"<[^>]+>", " ", red[1]).split()) == "50.0 % 90.0 % +40.0 40.0 % -10.0"
    assert "change-better" in red[1]
    by_class = page(user_client, runs, "classes", order="class")
    assert re.findall(r'<th scope="row" class="cell-wide">(\w+)</th>', by_class) == ["blue", "red"]
    counts = page(user_client, runs, "classes", column="images")
    assert re.search(r'compare-heat heat-0" data-label="first">6', counts)
    assert re.search(r'compare-heat heat-0" data-label="first">–', counts)


# API


def test_the_api_gives_intervals_and_images(user: User, runs: list[TrainingRun]) -> None:
    api = api_of(user)
    numbers = ",".join(str(run.pk) for run in runs)
    assert api.get(f"training/compare?runs={numbers}").json()["intervals"] is None
    found = api.get(f"training/compare?runs={numbers}&intervals=true").json()["intervals"]
    assert [(one["run"], one["metric"], one["resamples"]) for one in found] == [
        (runs[1].pk, "top1", 1000),
        (runs[2].pk, "top1", 1000),
    ]
    assert found[0]["difference"] == pytest.approx(5 / 12)
    assert found[0]["low"] < 5 / 12 < found[0]["high"]
    body = api.get(f"training/compare/images?before={runs[1].pk}&after={runs[2].pk}").json()
    assert (body["newly_wrong"], body["newly_right"]) == (1, 1)
    assert body["worse"] == [{"index": 11, "truth": "red", "before": "red", "after": "blue"}]
    assert body["classes"] == [
        {"name": "red", "newly_wrong": 1, "newly_right": 0, "images": 6},
        {"name": "blue", "newly_wrong": 0, "newly_right": 1, "images": 6},
    ]
    without_file(runs[1])
    problem(api.get(f"training/compare/images?before={runs[1].pk}&after={runs[2].pk}"), 409, "not-possible")
    assert (
        "stored no results" in api.get(f"training/compare?runs={numbers}&intervals=true").json()["intervals"][0]["text"]
    )
