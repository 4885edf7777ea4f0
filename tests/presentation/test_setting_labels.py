"""Choices of a configuration are shown in words of the reader's language; what is sent and stored stays as it is."""

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import translation

from trainingapp.contract.config import config_schema
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import Dataset, TrainingRun
from trainingapp.presentation.choices import CHOICES, NAMES, choice_label
from trainingapp.runs.forms import RunForm

CHINESE = {"accept-language": "zh-hans"}
#: Fields whose labels come with the descriptors of the tasks.
REGISTERED = ("task", "best_metric")


def choices() -> list[tuple[str, str]]:
    found = [(name, value) for task in TASKS for name, item in config_schema(task).items() for value in _values(item)]
    return sorted(set(found))


def _values(item: dict[str, Any]) -> list[str]:
    return [item["const"]] if "const" in item else list(item.get("enum", []))


@pytest.mark.parametrize(("field", "value"), choices())
def test_every_choice_has_a_label_or_is_a_name(field: str, value: str) -> None:
    is_labelled = field in REGISTERED or value in CHOICES.get(field, {})
    assert (field in NAMES) != is_labelled
    assert choice_label(field, value)


def test_no_label_is_left_of_a_choice_that_is_gone() -> None:
    there = {*choices(), ("device", "auto"), ("device", "cpu")}
    assert {(field, value) for field, labels in CHOICES.items() for value in labels} <= there


@pytest.mark.parametrize("task", TASKS)
def test_the_form_offers_labels_and_sends_values(task: str) -> None:
    with translation.override("zh-hans"):
        options = dict(RunForm(task=task).fields["scheduler"].choices)  # type: ignore[attr-defined]
        assert str(options["cosine"]) == "余弦"
        optimizers = dict(RunForm(task=task).fields["optimizer"].choices)  # type: ignore[attr-defined]
    assert set(options) == {"cosine", "step", "linear", "one-cycle", "constant"}
    assert optimizers["AdamW"] == "AdamW"


def test_the_page_of_the_form_in_chinese(user_client: Client, dataset: Dataset) -> None:
    page = user_client.get(reverse("run_new"), {"dataset": dataset.pk}, headers=CHINESE).content.decode()
    labels = [label.strip() for label in re.findall(r"<option value=\"[^\"]+\"[^>]*>([^<]+)<", page)]
    assert {"余弦", "轻度", "紧凑", "采样器", "Top-1 准确率"} <= set(labels)
    assert not {"cosine", "light", "none", "compact", "loss", "top1"} & set(labels)


def test_the_configuration_of_a_run_is_shown_with_labels_and_kept_with_values(
    user_client: Client, run: TrainingRun
) -> None:
    run.config = {**run.config, "scheduler": "step", "augmentation": "strong", "device": "auto"}
    run.save(update_fields=["config"])
    page = user_client.get(run.get_absolute_url(), headers=CHINESE).content.decode()
    shown = re.findall(r"<dd>\s*([^<\s]+)", page)
    assert {"阶梯", "强", "自动", "图像分类"} <= set(shown)
    assert "（默认 余弦）" in page
    page = user_client.get(run.get_absolute_url()).content.decode()
    assert "<dd>Step" in page
