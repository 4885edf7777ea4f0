"""The comparison of runs: what is shown side by side, what is refused, and what nobody learns of hidden runs."""

import json
import re
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import translation

from tests.api.conftest import api_of, problem
from tests.helpers.evaluations import evaluated
from tests.helpers.tiny import make_run
from tests.helpers.world import point, store_events
from trainingapp.models import Dataset, TrainingRun


@pytest.fixture
def runs(user: User, dataset: Dataset) -> list[TrainingRun]:
    """Three runs: the first is best at epoch 1, the others at their last epoch; the third differs in two settings."""
    made = [
        make_run(user, dataset, "slow", learning_rate=0.01),
        make_run(user, dataset, "fast", learning_rate=0.1),
        make_run(user, dataset, "third | <b>", learning_rate=0.1, batch_size=4),
    ]
    for run, best, top1 in zip(made, (1, 2, 2), ((0.9, 0.5), (0.6, 0.8), (0.7, 0.95)), strict=True):
        for epoch, value in enumerate(top1, start=1):
            evaluated(run, epoch, values={"loss": 1 - value, "top1": value})
        TrainingRun.objects.filter(pk=run.pk).update(best_epoch=best, total_steps=12, total_epochs=2, elapsed_s=61)
    return made


def numbers(runs: list[TrainingRun]) -> str:
    return ",".join(str(run.pk) for run in runs)


def page(client: Client, status: int = 200, **query: Any) -> str:
    response = client.get(reverse("compare"), query)
    assert response.status_code == status
    return str(response.content.decode())


def row_of(text: str, run: TrainingRun) -> str:
    """The row of the run in the table of metrics, as text."""
    row = re.search(rf'<tr id="metrics-{run.pk}">.*?</tr>', text, re.DOTALL)
    assert row
    return " ".join(re.sub(r"<[^>]+>", " ", row[0]).split())


# The page


def test_metrics_of_the_best_epochs_with_differences_from_the_first_run(
    user_client: Client, runs: list[TrainingRun]
) -> None:
    text = page(user_client, runs=numbers(runs))
    assert row_of(text, runs[0]) == "slow baseline 1 0.1 90.0 % 1 min 1 s"
    assert row_of(text, runs[1]) == "fast 2 0.2 worse: +0.1 80.0 % worse: -10.0 1 min 1 s"
    assert "better: -0.05 best: 95.0 % better: +5.0" in row_of(text, runs[2])
    assert "<b>" not in text.replace("<b></b>", "")


def test_another_baseline_and_the_newest_validations(user_client: Client, runs: list[TrainingRun]) -> None:
    text = page(user_client, runs=numbers(runs), base=runs[1].pk, at="newest")
    assert row_of(text, runs[0]).startswith("slow 2 0.5 worse: +0.3 50.0 % worse: -30.0")
    assert "fast baseline 2" in row_of(text, runs[1])


def test_settings_and_result_are_parallel_coordinates(user_client: Client, runs: list[TrainingRun]) -> None:
    text = page(user_client, runs=numbers(runs), tab="config")
    labels = re.findall(r'class="parallel-label"[^>]*>([^<]+)<', text)
    assert labels == ["Batch size", "Learning rate", "Top-1 accuracy"]
    lines = [
        re.findall(r'<polyline class="compare-\d" points="(.+?)"', line) for line in text.split("parallel-line")[1:]
    ]
    slow, fast, third = ([float(place.split(",")[1]) for place in line[0].split()] for line in lines if line)
    assert slow[1] > fast[1] == third[1]  # a lower rate is further down
    assert fast[2] > slow[2] > third[2]  # 80, 90 and 95 per cent
    assert 'aria-label="slow: Batch size' in text
    assert "parallel-line" not in page(user_client, runs=numbers(runs[:1]), tab="config")


def test_a_form_sends_the_runs_one_by_one(user_client: Client, runs: list[TrainingRun]) -> None:
    text = page(user_client, runs=[runs[0].pk, runs[1].pk])
    assert row_of(text, runs[1])
    # The other run of the task is offered, those that are shown are not.
    select = re.search(r"<select.*?</select>", text, re.DOTALL)
    assert select
    assert re.findall(r'value="(\d+)"', select[0]) == [str(runs[2].pk)]


def test_a_hidden_run_keeps_its_chip_and_leaves_the_tables(user_client: Client, runs: list[TrainingRun]) -> None:
    text = page(user_client, runs=numbers(runs), hide=runs[2].pk)
    assert f'id="metrics-{runs[2].pk}"' not in text
    assert f"Show {runs[2].name.replace('<', '&lt;').replace('>', '&gt;')}" in text
    assert "best: 90.0 %" in row_of(text, runs[0])  # the best of those that are shown


def test_the_baseline_cannot_be_hidden(user_client: Client, runs: list[TrainingRun]) -> None:
    assert row_of(page(user_client, runs=numbers(runs), hide=runs[0].pk), runs[0])


def test_settings_that_differ(user_client: Client, runs: list[TrainingRun]) -> None:
    text = page(user_client, runs=numbers(runs), tab="config")
    heads = re.findall(r'<th scope="row" class="cell-wide">(.*?)</th>', text)
    assert heads == ["Batch size", "Learning rate"]  # as in the form
    assert re.search(r"compare-differs[^>]*>\s*0\.1\s*<", text)
    assert "settings are the same in all runs" in text
    same = page(user_client, runs=numbers(runs[:1] * 2), tab="config")
    assert "The configuration is identical." in same


def test_a_run_before_its_first_validation(user_client: Client, user: User, runs: list[TrainingRun]) -> None:
    young = make_run(user, runs[0].dataset, "young")
    assert row_of(page(user_client, runs=numbers([*runs, young])), young) == "young No validation yet. – – – –"


def test_tasks_are_not_mixed(user_client: Client, user: User, runs: list[TrainingRun]) -> None:
    other = make_run(user, runs[0].dataset, "boxes")
    TrainingRun.objects.filter(pk=other.pk).update(task="detection")
    text = page(user_client, 422, runs=numbers([runs[0], other]))
    assert "Classification: slow; Detection: boxes" in text
    assert "Choose runs of one task" in text


def test_at_most_twenty(user_client: Client, db: None) -> None:
    assert "At most 20 runs can be compared; 21 were requested." in page(
        user_client, 422, runs=",".join(map(str, range(1, 22)))
    )


@pytest.mark.parametrize("asked", ["", "x", "999999", "1,,;<>", "9" * 40])
def test_no_runs(user_client: Client, asked: str) -> None:
    assert "No runs selected" in page(user_client, runs=asked)


def test_one_run_alone_offers_others(user_client: Client, runs: list[TrainingRun]) -> None:
    text = page(user_client, runs=runs[0].pk)
    assert "There is only one run to see here." in text
    assert runs[1].name in text


def test_runs_that_the_reader_may_not_see_do_not_exist(runs: list[TrainingRun], other_user: User) -> None:
    TrainingRun.objects.filter(pk=runs[0].pk).update(visibility="private", name="secret-name", task="detection")
    client = Client()
    client.force_login(other_user)
    text = page(client, runs=numbers(runs), base=runs[0].pk)
    assert "secret-name" not in text
    assert "fast baseline" in row_of(text, runs[1])
    for route in ("compare_curves", "compare_markdown"):
        response = client.get(reverse(route), {"runs": numbers(runs)})
        assert response.status_code == 200
        assert b"secret-name" not in response.content
    body = api_of(other_user).get(f"training/compare?runs={numbers(runs)}").json()
    assert [one["id"] for one in body["runs"]] == [runs[1].pk, runs[2].pk]


def test_the_number_of_queries_does_not_grow(
    user_client: Client, user: User, runs: list[TrainingRun], django_assert_max_num_queries: Any
) -> None:
    more = [make_run(user, runs[0].dataset, f"run {number}") for number in range(17)]
    for run in more:
        evaluated(run, 1)
    with django_assert_max_num_queries(12):
        page(user_client, runs=numbers([*runs, *more]))


def test_the_run_page_offers_runs_of_the_task(user_client: Client, runs: list[TrainingRun]) -> None:
    text = user_client.get(reverse("run_charts", args=[runs[0].pk])).content.decode()
    assert f'<option value="{runs[1].pk}">' in text
    assert f'name="runs" value="{runs[0].pk}"' in text


# Curves, Markdown, API and command


def test_curves_of_the_shown_runs(user_client: Client, runs: list[TrainingRun]) -> None:
    store_events(runs[0], point(1, 2.0), point(2, 1.5))
    store_events(runs[1], point(1, 3.0))
    query = {"runs": numbers(runs), "hide": runs[2].pk}
    curves = json.loads(user_client.get(reverse("compare_curves"), query).content)["curves"]
    lines = {(one["chart"], one["run"]): one for one in curves}
    assert [(step, value) for step, _time, value in lines["loss-train", runs[0].pk]["points"]] == [(1, 2.0), (2, 1.5)]
    assert [(step, value) for step, _time, value in lines["loss-train", runs[1].pk]["points"]] == [(1, 3.0)]
    top1 = lines["top1-val", runs[1].pk]
    assert [(step, value) for step, _time, value in top1["points"]] == [(6, 0.6), (12, 0.8)]
    assert (top1["is_share"], top1["per_epoch"]) == (True, 6.0)
    assert runs[2].pk not in {one["run"] for one in curves}
    # Each curve has a chart on the page.
    boxes = set(re.findall(r'data-chart="([^"]+)"', page(user_client, **query)))
    assert {one["chart"] for one in curves} <= boxes


def test_markdown_holds_the_tables_and_escapes_names(user_client: Client, runs: list[TrainingRun]) -> None:
    response = user_client.get(reverse("compare_markdown"), {"runs": numbers(runs)})
    assert response.headers["Content-Type"].startswith("text/markdown")
    lines = response.content.decode().splitlines()
    assert "| Run | Epoch | Loss | Top-1 accuracy | Training time |" in lines
    assert "| slow | 1 | 0.1 | 90.0 % | 1 min 1 s |" in lines
    assert r"| third \| &lt;b> | 2 | **0.05** (-0.05) | **95.0 %** (+5.0) | 1 min 1 s |" in lines
    assert "| Learning rate | 0.01 | 0.1 | 0.1 |" in lines


def test_the_api_has_the_same_numbers(user: User, runs: list[TrainingRun]) -> None:
    api = api_of(user)
    body = api.get(f"training/compare?runs={numbers(runs)}&base={runs[1].pk}").json()
    assert (body["task"], body["base"], body["at"]) == ("classification", runs[1].pk, "best")
    assert [one["epoch"] for one in body["runs"]] == [1, 2, 2]
    assert body["runs"][2]["changes"]["top1"] == pytest.approx(0.15)
    top1 = next(metric for metric in body["metrics"] if metric["name"] == "top1")
    assert (top1["best"], top1["best_runs"]) == (0.95, [runs[2].pk])
    rates = next(one for one in body["settings"] if one["name"] == "learning_rate")["values"]
    assert rates == {str(runs[0].pk): 0.01, str(runs[1].pk): 0.1, str(runs[2].pk): 0.1}


@pytest.mark.parametrize("asked", ["", "x", "1;2", "0", "9" * 30, ",".join(map(str, range(1, 22)))])
def test_the_api_refuses_what_is_no_list_of_runs(user: User, asked: str) -> None:
    response = api_of(user).get(f"training/compare?runs={asked}")
    assert response.status_code == (404 if not asked else 422)
    problem(response, response.status_code)


def test_the_command_prints_the_markdown(runs: list[TrainingRun], user_client: Client) -> None:
    out = StringIO()
    call_command("compare_runs", *[run.pk for run in runs], stdout=out)
    with translation.override("en"):
        sent = user_client.get(reverse("compare_markdown"), {"runs": numbers(runs)}).content.decode()
    assert out.getvalue() == sent
    with pytest.raises(CommandError, match="None of these runs exists"):
        call_command("compare_runs", 999)
