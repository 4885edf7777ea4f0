"""The values that the presets of the form of a new run set (no torch, no Django).

Rules for every network, and what has been measured for some of them (`presets` of their entries): see
`benchmarks/presets.py` and its results in benchmarks/README.md.
"""

from collections.abc import Mapping

from pydantic import JsonValue

from trainingapp.contract.config import config_defaults, config_fields
from trainingapp.contract.tasks.registry import TASKS

PRESETS = ("quick", "balanced", "best")

#: Sides of images are multiples of it in every task.
IMAGE_STEP = 32
LEAST_IMAGE_SIZE = 64

Values = dict[str, JsonValue]


def preset_values(task: str, model: str) -> dict[str, Values]:
    """The values of each of PRESETS for a network. All set the same fields, so that one replaces another."""
    defaults = config_defaults(task, model)
    architecture = TASKS[task].config.architectures.get(model)
    measured: Mapping[str, Mapping[str, JsonValue]] = architecture.presets if architecture else {}
    rows = {name: own | dict(measured.get(name, {})) for name, own in _by_rule(task, defaults).items()}
    names = list(dict.fromkeys(name for own in rows.values() for name in own))
    return {preset: {name: own.get(name, defaults[name]) for name in names} for preset, own in rows.items()}


def _by_rule(task: str, defaults: Mapping[str, JsonValue]) -> dict[str, Values]:
    """The presets of a network of which none has been measured."""
    fields = config_fields(task)
    balanced = {name: defaults[name] for name in ("epochs", "image_size", "augmentation") if name in fields}
    epochs = int(str(defaults["epochs"]))
    quick, best = balanced | {"epochs": max(2, epochs // 4)}, balanced | {"epochs": 3 * epochs}
    if "image_size" in fields and not fields["image_size"].is_fixed:
        size = int(str(defaults["image_size"]))
        quick["image_size"] = min(size, max(LEAST_IMAGE_SIZE, size // 2 // IMAGE_STEP * IMAGE_STEP))
    best["augmentation"] = "medium" if defaults["augmentation"] in ("none", "light") else "strong"
    return {"quick": quick, "balanced": balanced, "best": best}
