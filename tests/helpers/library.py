"""Stored models for tests, with their files."""

from typing import Any

from tests.helpers.library_weights import make_card, make_weights
from trainingapp.models import Weights

CLASSES = {
    "classification": ["blue", "red"],
    "detection": ["disc", "ring"],
    "segmentation": ["disc", "ring"],
    "instances": ["disc", "ring"],
}
MODELS = {
    "classification": ("mobilenet_v3_small", 32),
    "detection": ("ssdlite320_mobilenet_v3_large", 128),
    "segmentation": ("fcn_resnet18", 64),
    "instances": ("maskrcnn_mobilenet_v3_large_fpn", 64),
}


def make_entry(owner: Any, task: str = "classification", name: str = "tints", **fields: Any) -> Weights:
    """A ready model with random weights."""
    model, size = MODELS[task]
    card = make_card(task, model, size, CLASSES[task])
    version = Weights.objects.filter(name=name).count() + 1
    values = {key: card[key] for key in ("task", "architecture", "classes", "image_size", "normalisation", "config")}
    weights = Weights.objects.create(
        name=name, version=version, owner=owner, state="ready", report={"is_whole": True}, **{**values, **fields}
    )
    path = make_weights(weights.folder, card)
    Weights.objects.filter(pk=weights.pk).update(sha256=card["sha256"], size_bytes=path.stat().st_size)
    weights.refresh_from_db()
    return weights
