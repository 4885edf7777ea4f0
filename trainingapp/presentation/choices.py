"""What the choices of a run's configuration are called on pages. What is stored, sent and typed stays the plain value.

Names of networks, optimizers and published methods are the same in every language and have no label here.
"""

from collections.abc import Mapping
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from trainingapp.contract.tasks.registry import METRICS, TASKS

Label = str | Promise

_NONE = pgettext_lazy("a choice", "None")
_BACKBONE = pgettext_lazy("a choice", "Backbone")

#: Labels by field and value.
CHOICES: dict[str, Mapping[str, Label]] = {
    "pretrained": {"none": _NONE, "backbone": _BACKBONE, "whole": pgettext_lazy("a choice", "Whole model")},
    "freeze": {"none": pgettext_lazy("to freeze", "Nothing"), "backbone": _BACKBONE},
    "scheduler": {
        "cosine": pgettext_lazy("a schedule", "Cosine"),
        "step": pgettext_lazy("a schedule", "Step"),
        "linear": pgettext_lazy("a schedule", "Linear"),
        "one-cycle": pgettext_lazy("a schedule", "One-cycle"),
        "constant": pgettext_lazy("a schedule", "Constant"),
    },
    "augmentation": {
        "none": _NONE,
        "light": pgettext_lazy("an augmentation", "Light"),
        "medium": pgettext_lazy("an augmentation", "Medium"),
        "strong": pgettext_lazy("an augmentation", "Strong"),
        "custom": pgettext_lazy("an augmentation", "Custom"),
    },
    "auto_augment": {"none": _NONE, "randaugment": "RandAugment", "trivialaugment": "TrivialAugment"},
    "class_balance": {
        "none": _NONE,
        "weights": pgettext_lazy("a balance of classes", "Weights"),
        "sampler": pgettext_lazy("a balance of classes", "Sampler"),
    },
    "class_weights": {"none": _NONE, "balanced": pgettext_lazy("weights of classes", "Balanced")},
    "loss_type": {
        "cross_entropy": pgettext_lazy("a loss", "Cross-entropy"),
        "dice": "Dice",
        "focal": "Focal",
        "combined": pgettext_lazy("a loss", "Combined"),
    },
    "checkpoint_format": {
        "compact": pgettext_lazy("a format of checkpoints", "Compact"),
        "plain": pgettext_lazy("a format of checkpoints", "Plain"),
    },
    "device": {"auto": pgettext_lazy("a device", "Automatic"), "cpu": "CPU"},
}
#: Fields whose values are names, which stay as they are.
NAMES = frozenset({"model", "optimizer", "start_from"})


def choice_label(field: str, value: Any) -> Any:
    """What a value of this field is called; the value itself where it is a name."""
    if field == "task" and value in TASKS:
        return _(TASKS[value].label)
    if field == "best_metric" and value in METRICS:
        return _(METRICS[value].label)
    return CHOICES.get(field, {}).get(value, value)
