"""manage.py sweep."""

import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from trainingapp.models import Dataset, Sweep
from trainingapp.runs.sweeps.verb_registry import SWEEP_VERBS

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainingapp.worker.tasks.advance_sweeps", lambda: None)


def sweep(*arguments: str) -> Any:
    out = StringIO()
    call_command("sweep", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue() or "null")


@pytest.fixture
def made(user: User, dataset: Dataset) -> int:
    options = ["--dataset", dataset.name, "--owner", user.username, "--set", "epochs=3", "--sampler", "random"]
    space = ["--range", "learning_rate=1e-4..0.1,log", "--choice", "optimizer=SGD,AdamW"]
    (record,) = sweep("create", "search", *options, *space, "--trials", "4")
    return int(record["id"])


def test_a_sweep_is_made_from_options(made: int) -> None:
    stored = Sweep.objects.get(pk=made)
    rate, optimizer = stored.space["dimensions"]
    assert (rate["low"], rate["high"], rate["log"]) == (0.0001, 0.1, True)
    assert optimizer["values"] == ["SGD", "AdamW"]
    assert stored.config["epochs"] == 3


def test_the_verbs_are_subcommands(made: int) -> None:
    statuses = [sweep(name, str(made))[0]["status"] for name in ("start", "pause", "resume", "stop")]
    assert statuses == ["running", "paused", "running", "stopped"]
    assert set(SWEEP_VERBS) == {"start", "pause", "resume", "stop"}


def test_values_are_entered_and_shown(made: int) -> None:
    assert sweep("enqueue", str(made), "--set", "learning_rate=0.02")["params"]["learning_rate"] == 0.02
    shown = sweep("show", str(made))
    assert [trial["origin"] for trial in shown["trials"]] == ["base", "enqueued"]
    out = StringIO()
    call_command("sweep", "show", str(made), stdout=out)
    assert "enqueued" in out.getvalue()


def test_it_is_deleted(made: int) -> None:
    sweep("delete", str(made))
    assert sweep("list") == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--range", "learning_rate=1"], "must be FIELD=LOW..HIGH"),
        (["--range", "learning_rate=a..b"], "learning_rate: "),
        (["--range", "learning_rate=1..99"], "learning_rate: 99 is outside"),
        (["--choice", "optimizer=SGD,Lion"], "optimizer: Lion is no value"),
        ([], "space: Choose at least one field"),
    ],
)
def test_a_wrong_space_is_refused(user: User, dataset: Dataset, arguments: list[str], text: str) -> None:
    with pytest.raises(CommandError) as caught:
        sweep("create", "x", "--dataset", dataset.name, "--owner", user.username, "--sampler", "random", *arguments)
    assert text in str(caught.value)


def test_an_unknown_sweep_is_named(db: None) -> None:
    with pytest.raises(CommandError, match="There is no sweep 7"):
        sweep("stop", "7")
