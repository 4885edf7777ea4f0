"""Presets of the form of a new run: how long and how thoroughly it trains, and how with a published backbone."""

from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _
from pydantic import JsonValue

from trainingapp.contract.architectures import HF
from trainingapp.contract.config import config_defaults, config_fields
from trainingapp.contract.preset_values import preset_values
from trainingapp.contract.tasks.foundation import takes_adapters
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.presentation.choices import choice_label, label_text
from trainingapp.presentation.punctuation import labelled
from trainingapp.presentation.text import Text

#: What tasks predict whose networks have a backbone and few other layers, so that a frozen backbone is of use.
OF_BACKBONES = ("classes", "mask")
OF_PUBLISHED_WEIGHTS = ("pretrained", "freeze", "lora_rank", "layer_decay")
USUAL_RANK = 8
USUAL_LAYER_DECAY = 0.75


Row = tuple[str, Text, Text, dict[str, JsonValue]]
"""Name, label, what it is for, and the values that it sets."""


@dataclass(frozen=True)
class Preset:
    """A preset for a network: the values that it sets, and what it changes from the defaults, for people."""

    name: str
    label: Text
    about: Text
    values: dict[str, JsonValue]
    changes: list[str]


def presets_of(task: str, model: str) -> list[Preset]:
    """The presets of a task for one of its networks. All set the same fields, so that one replaces another."""
    defaults = config_defaults(task, model)
    fields = config_fields(task)
    values = preset_values(task, model)
    quick, balanced, best = values["quick"], values["balanced"], values["best"]
    rows: list[Row] = [
        ("quick", _("Quick look"), _("Shows in minutes whether data and settings make sense."), quick),
        ("balanced", _("Balanced"), _("The defaults of the model."), balanced),
        ("best", _("Best quality"), _("Trains longer, with more variation of the images."), best),
    ]
    # Those of transformers have no published weights here.
    if "pretrained" in fields and TASKS[task].prediction in OF_BACKBONES and not model.startswith(HF):
        kept = {name: defaults[name] for name in OF_PUBLISHED_WEIGHTS}
        for *_words, own in rows:
            own |= kept
        rows += _of_published_weights(model, balanced | {"pretrained": _from_backbone(task)})
    return [Preset(name, label, about, own, _changes(task, defaults, own)) for name, label, about, own in rows]


def _from_backbone(task: str) -> JsonValue:
    """The value of `pretrained` that takes published weights of the backbone."""
    field = config_fields(task)["pretrained"]
    return "backbone" if "backbone" in field.choices else True


def _of_published_weights(model: str, usual: dict[str, JsonValue]) -> list[Row]:
    """The ways to train with a published backbone that this network allows."""
    probe = usual | {"freeze": "backbone", "lora_rank": 0, "layer_decay": 1.0}
    rows: list[Row] = [
        (
            "probe",
            _("Linear probe"),
            _("Keeps the published backbone and trains the layers behind it: the fastest, for few images."),
            probe,
        )
    ]
    if takes_adapters(model):
        rows += [
            (
                "lora",
                _("LoRA"),
                _("Adapts the published backbone with a few trained weights."),
                probe | {"lora_rank": USUAL_RANK},
            ),
            (
                "finetune",
                _("Fine-tuning"),
                _("Trains the published backbone, early layers least."),
                probe | {"freeze": "none", "layer_decay": USUAL_LAYER_DECAY},
            ),
        ]
    return rows


def _changes(task: str, defaults: Mapping[str, JsonValue], values: Mapping[str, JsonValue]) -> list[str]:
    fields = config_fields(task)
    return [
        labelled(label_text(fields[name].setting.label), choice_label(name, value))
        for name, value in values.items()
        if value != defaults[name]
    ]
