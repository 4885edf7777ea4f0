"""Configurations of version 0.1 with switches are stored with the choices that these have become."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps

from trainingapp.contract.config import parse_config
from trainingapp.models import TrainingRun

migration: Any = import_module("trainingapp.migrations.0025_precision_and_determinism")

PAIRS = [
    ({"amp": True, "deterministic": True}, {"amp": "on", "deterministic": "exact"}),
    ({"amp": False, "deterministic": False}, {"amp": "off", "deterministic": "fast"}),
]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_switches_become_choices_and_the_other_way_round(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert migration.with_choices({"epochs": 3, **old}) == {"epochs": 3, **new}
    assert migration.with_switches({"epochs": 3, **new}) == {"epochs": 3, **old}
    assert migration.with_choices({"epochs": 3, **new}) == {"epochs": 3, **new}


def test_a_configuration_without_the_fields_keeps_what_it_had() -> None:
    assert migration.with_choices({"epochs": 3}) == {"epochs": 3, "amp": "off", "deterministic": "exact"}
    assert migration.with_choices({}) == {}


def test_automatic_becomes_what_version_0_1_would_do() -> None:
    assert migration.with_switches({"amp": "auto", "deterministic": "auto"}) == {"amp": False, "deterministic": True}


@pytest.mark.django_db
def test_rows_are_rewritten(make: Callable[..., TrainingRun]) -> None:
    runs = [make(name=f"run {number}") for number in range(2)]
    for run, (old, _new) in zip(runs, PAIRS, strict=True):
        run.config = {**run.config, **old}
        run.save()
    migration.forwards(apps, None)
    for run, (_old, new) in zip(runs, PAIRS, strict=True):
        run.refresh_from_db()
        assert {name: run.config[name] for name in new} == new
        parse_config(run.config)
    migration.backwards(apps, None)
    for run, (old, _new) in zip(runs, PAIRS, strict=True):
        run.refresh_from_db()
        assert {name: run.config[name] for name in old} == old
