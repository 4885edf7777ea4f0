"""The pages of sweeps: the form makes the search space, and the page of a sweep shows what came of it."""

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.helpers.sweeps import SPACE, make_sweep, train
from trainingapp.contract.config import config_defaults, config_fields
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import Dataset, Sweep, TrainingRun
from trainingapp.runs.sweeps.advance import advance
from trainingapp.runs.sweeps.forms import PRESETS, space_rows
from trainingapp.runs.sweeps.space import SearchSpace, checked_space

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainingapp.worker.tasks.advance_sweeps", lambda: None)


@pytest.fixture
def entered(dataset: Dataset) -> dict[str, Any]:
    """The form as a person fills it in."""
    fields = config_fields("classification")
    values = {name: field.default for name, field in fields.items() if field.kind != "switch"}
    method = {"sampler": "random", "pruner": "none", "control_every": 0, "sweep_seed": 0}
    budgets = {"max_trials": 5, "concurrency": 1, "name": "mine", "dataset": dataset.pk}
    searched = {"search-learning_rate": "on", "low-learning_rate": "0.001", "high-learning_rate": "0.1"}
    return {**values, **method, **budgets, **searched, "log-learning_rate": "on"}


def finished(user: User, dataset: Dataset, **fields: Any) -> Sweep:
    sweep = make_sweep(user, dataset, **fields)
    for _count in range(fields.get("max_trials", 5)):
        advance(sweep.pk)
        train(TrainingRun.objects.get(trial__sweep=sweep, status="queued"))
    advance(sweep.pk)
    return sweep


def test_the_form_makes_a_sweep(client: Client, user: User, entered: dict[str, Any]) -> None:
    client.force_login(user)
    more = {"search-optimizer": "on", "value-optimizer": ["SGD", "AdamW"], "search-momentum": "on"}
    momentum = {"low-momentum": "0.8", "high-momentum": "0.98"}
    response = client.post("/sweeps/new/", {**entered, **more, **momentum, "start": "1"})
    sweep = Sweep.objects.get()
    assert response.headers["Location"] == sweep.get_absolute_url()
    assert sweep.is_running
    rate, optimizer, last = sorted(sweep.space["dimensions"], key=lambda one: str(one["field"]) != "learning_rate")
    assert (rate["low"], rate["high"], rate["log"]) == (0.001, 0.1, True)
    assert {optimizer["field"], last["field"]} == {"optimizer", "momentum"}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"low-learning_rate": "0.5"}, "The lowest value must be less than the highest."),
        ({"low-learning_rate": "a"}, "Enter numbers."),
        ({"search-optimizer": "on", "value-optimizer": ["SGD"]}, "Choose at least two values."),
        ({"search-learning_rate": ""}, ""),
    ],
)
def test_what_is_wrong_is_named(
    client: Client, user: User, entered: dict[str, Any], changes: dict[str, Any], text: str
) -> None:
    client.force_login(user)
    if not text:
        del entered["search-learning_rate"]
        changes, text = {}, "Choose at least one field to search."
    response = client.post("/sweeps/new/", {**entered, **changes})
    assert response.status_code == 422
    assert text in response.content.decode()
    assert not Sweep.objects.exists()


def test_a_preset_keeps_what_was_entered(client: Client, user: User, entered: dict[str, Any]) -> None:
    client.force_login(user)
    response = client.post("/sweeps/new/", {**entered, "preset": "optimizer", "epochs": "7"})
    page = response.content.decode()
    assert response.status_code == 200
    assert re.search(r'name="search-weight_decay" checked', page)
    assert re.search(r'name="epochs" value="7"', page)
    assert not Sweep.objects.exists()


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_each_preset_of_each_task_is_a_search_space(task: str, preset: str) -> None:
    model = str(config_fields(task)["model"].default)
    base = {**config_defaults(task, model), "task": task}
    rows = [row for row in space_rows(task, base, preset=preset) if row.is_on]
    space = SearchSpace.model_validate({"dimensions": [row.dimension() for row in rows]})
    assert "learning_rate" in checked_space(space, base).fields


def test_the_page_shows_the_results(client: Client, user: User, dataset: Dataset) -> None:
    client.force_login(user)
    space = {"dimensions": [*SPACE["dimensions"], {"kind": "range", "field": "weight_decay", "low": 0, "high": 0.1}]}
    sweep = finished(user, dataset, max_trials=9, space=space)
    page = client.get(sweep.get_absolute_url()).content.decode()
    history = json.loads(re.search(r'id="sweep-history" type="application/json">(.*?)</script>', page)[1])  # type: ignore[index]
    best, *others = history
    assert sum(len(line["values"]) for line in others) == 9
    assert [point["step"] for point in best["values"]] == list(range(9))
    assert page.count('<tr id="trial-') == 9
    assert 'class="parallel"' in page
    assert page.count('class="scatter-point"') == 9
    assert "from 9 completed trials" in page


def test_the_table_is_sorted_by_the_result(client: Client, user: User, dataset: Dataset) -> None:
    client.force_login(user)
    sweep = finished(user, dataset)
    page = client.get(f"{sweep.get_absolute_url()}?sort=-value").content.decode()
    shown = [int(number) for number in re.findall(r'<tr id="trial-(\d+)"', page)]
    ordered = sweep.trials.order_by("-value", "number").values_list("number", flat=True)
    assert shown == list(ordered)


def test_repeated_seeds_show_their_mean(client: Client, user: User, dataset: Dataset) -> None:
    client.force_login(user)
    page = client.get(finished(user, dataset, sampler="repeat", max_trials=3).get_absolute_url()).content.decode()
    assert "Standard deviation" in page


def test_a_cross_validation_shows_only_what_it_has(client: Client, user: User, dataset: Dataset) -> None:
    """Nothing is sampled or pruned, no fold is the base of the others, and there is none after the last."""
    client.force_login(user)
    page = client.get(finished(user, dataset, sampler="folds", folds=3, max_trials=3).get_absolute_url())
    text = page.content.decode()
    assert "Division into folds" in text
    assert re.search(r"<dt>Completed trials</dt><dd>3 <small>/ 3<", text)
    for other in ("Search space", "Pruner", "seed 0", "base configuration", "Resume"):
        assert other not in text, other
    page = client.get(finished(user, dataset, name="another").get_absolute_url())
    text = page.content.decode()
    for shown in ("Search space", "Pruner", "seed 0", "base configuration", "Resume"):
        assert shown in text, shown


def test_the_runs_of_a_sweep_are_listed_and_grouped(client: Client, user: User, dataset: Dataset, make: Any) -> None:
    client.force_login(user)
    make()
    sweep = finished(user, dataset)
    page = client.get(f"/runs/?sweep={sweep.pk}").content.decode()
    assert page.count('<tr id="run-') == 5
    page = client.get("/runs/?group=sweep").content.decode()
    assert page.count('<tr id="run-') == 6
    assert "5 runs" in page


def test_a_private_run_of_a_trial_is_not_linked(client: Client, user: User, dataset: Dataset) -> None:
    sweep = finished(user, dataset)
    TrainingRun.objects.filter(trial__number=0).update(visibility="private")
    client.force_login(User.objects.create_user("bo"))
    page = client.get(sweep.get_absolute_url()).content.decode()
    hidden, seen = (sweep.trials.get(number=number).run_id for number in (0, 1))
    assert f'href="/runs/{seen}/"' in page
    assert f'href="/runs/{hidden}/"' not in page
