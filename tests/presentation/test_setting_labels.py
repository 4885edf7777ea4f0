"""Choices of a configuration are shown with labels in the reader's language; sent and stored values do not change."""

import re

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import translation

from trainingapp.contract.config import config_fields, known_label
from trainingapp.contract.setting import Unit
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import Dataset, TrainingRun
from trainingapp.presentation.choices import choice_label, unit_text
from trainingapp.runs.forms import RunForm

CHINESE = {"accept-language": "zh-hans"}


#: Fields whose values are proper names: of networks, and of optimizers.
NAMES = {"model", "optimizer"}


@pytest.mark.parametrize("task", TASKS)
def test_every_choice_has_a_label_or_is_a_name(task: str) -> None:
    for name, field in config_fields(task).items():
        labelled = {value for value in field.choices if known_label(name, value) is not None}
        assert labelled == (set() if name in NAMES else set(field.choices)), name
        assert set(field.setting.labels) <= set(field.choices) or not field.choices, name


def test_a_value_without_a_label_is_shown_as_it_is() -> None:
    assert known_label("model", "resnet18") is None
    assert choice_label("model", "resnet18") == "resnet18"
    assert choice_label("device", "cuda:1") == "cuda:1"
    assert choice_label("learning_rate", 0.1) == 0.1
    assert choice_label("device", "auto") == "Automatic"


@pytest.mark.parametrize(
    ("value", "shown"), [(1, "epoch"), (1.0, "epoch"), (0, "epochs"), (2.5, "epochs"), (None, "epochs")]
)
def test_a_unit_follows_its_number(value: float | None, shown: str) -> None:
    assert unit_text(Unit.EPOCHS, value) == shown
    assert unit_text(None, value) == ""


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
    page = user_client.get(reverse("run_config", args=[run.pk]), headers=CHINESE).content.decode()
    shown = re.findall(r"<dd>\s*([^<\s]+)", page)
    assert {"阶梯", "强", "自动", "图像分类"} <= set(shown)
    assert "（默认 余弦）" in page
    page = user_client.get(reverse("run_config", args=[run.pk])).content.decode()
    assert "<dd>Step" in page
