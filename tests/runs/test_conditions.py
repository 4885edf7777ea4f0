"""Conditions on runs: what they find, and where a wrong one is wrong."""

from collections.abc import Callable
from typing import Any

import pytest

from trainingapp.contract.config import parse_config
from trainingapp.models import TrainingRun
from trainingapp.runs.conditions import ConditionError, conditions
from trainingapp.runs.organizing import note_run, tag_run

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


@pytest.fixture
def three(make: MAKE) -> dict[str, TrainingRun]:
    def one(name: str, status: str, rate: float, top1: float, **fields: Any) -> TrainingRun:
        config = parse_config(
            {
                "learning_rate": rate,
                "amp": "on" if name == "birds one" else "auto",
                "num_workers": 2 if name == "birds one" else "auto",
                "weight_decay": rate / 10,
            }
        )
        metrics = {"val/loss": 1 - top1, "val/top1": top1, "val/ap50": top1}
        return make(status, name=name, config=config.model_dump(mode="json"), metrics=metrics, **fields)

    found = {
        "one": one("birds one", "completed", 0.1, 0.9, elapsed_s=7200.0, best_metric=0.95),
        "two": one("birds two", "failed", 0.01, 0.6, elapsed_s=60.0, best_metric=0.6),
        "three": one("cars (copy)", "completed", 0.001, 0.3, elapsed_s=10.0),
    }
    tag_run(found["one"], add="baseline, seed 1")
    tag_run(found["two"], add="seed 2")
    note_run(found["three"], "with larger images")
    return found


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "one two three"),
        ("birds", "one two"),
        ("BIRDS one", "one"),
        ('"birds two"', "two"),
        ("cars (copy)", "three"),
        ("pets", "one two three"),  # the name of the dataset
        ("name:birds", "one two"),
        ("name=birds", ""),
        ("name != 'x'", "one two three"),
        ("lr<0.01", "three"),
        ("lr <= 0.01", "two three"),
        ("lr=0.01", "two"),
        ("learning_rate == 1e-2", "two"),
        ("lr<0.05 and mAP50>50%", "two"),
        ("lr<0.05 top1>0.5", "two"),
        ("val/top1>=0.9 or status=failed", "one two"),
        ("val_loss<0.5 and not tag=baseline", "two"),
        ("not (status=completed or lr=1)", "two"),
        ("status!=failed", "one three"),
        ("birds and status=completed or cars", "one three"),
        ("best>0.5", "one two"),
        ("best!=0.6", "one three"),
        ("tag:seed", "one two"),
        ('tag="Seed 1"', "one"),
        ("note:larger", "three"),
        ("time>1h", "one"),
        ("time<=60", "two three"),
        ("time<=1min", "two three"),
        ("amp=yes", "one"),
        ("amp!=true", "two three"),
        ("amp=auto", "two three"),
        ("num_workers=auto", "two three"),
        ("num_workers!=AUTO", "one"),
        ("num_workers>1", "one"),
        ("num_workers<=1", ""),
        ("num_workers=2", "one"),
        ("channels_last=yes", "one two three"),
        ("weight_decay>=0.001", "one two"),
        ("optimizer:adam", "one two three"),
        ("created>=2020-01-31", "one two three"),
        ("created<2020-01-31T10:00", ""),
        ("batch>1 and size<10000 and epochs>0", "one two three"),
        ("id>0", "one two three"),
        ("id=99999999999999999999", ""),
    ],
)
def test_conditions_find(three: dict[str, TrainingRun], text: str, names: str) -> None:
    found = set(TrainingRun.objects.filter(conditions(text)))
    assert {name for name, run in three.items() if run in found} == set(names.split())


@pytest.mark.parametrize(
    ("text", "wrong", "words"),
    [
        ("lr<0.01 and lrr>1", "lrr", "Did you mean “lr”?"),
        ("lr<fast", "fast", "“fast” is not a number."),
        ("lr<nan", "nan", "not a number"),
        ("lr<", "<", "A value is missing"),
        ("<3", "<", "not expected"),
        ("lr<0.1 and", "", "A condition is missing"),
        ("or lr<0.1", "or", "A condition is missing"),
        ("(lr<0.1", "(", "not closed"),
        ("lr<0.1)", ")", "not expected"),
        ("a < < b", "a", "no column “a”"),
        ('name="open', "=", "missing"),
        ("status=done", "done", "completed"),
        ("name>b", ">", "use ="),
        ("channels_last=maybe", "maybe", "yes or no"),
        ("num_workers<auto", "auto", "“auto” is not a number."),
        ("time>2weeks", "2weeks", "2h"),
        ("created>yesterday", "yesterday", "2026-01-31"),
        ("created>2026-02-31", "2026-02-31", "not a date"),
        ("(" * 40, "(", "nested"),
    ],
)
def test_an_error_names_its_place(text: str, wrong: str, words: str) -> None:
    with pytest.raises(ConditionError) as caught:
        TrainingRun.objects.filter(conditions(text)).count()
    error = caught.value
    assert words in str(error)
    assert text[error.start : error.end].startswith(wrong)
