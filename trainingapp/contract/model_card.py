"""The description of a model for jobs and exports (no torch).

A card is a JSON object: name, version, task, architecture, classes, image_size, normalisation {"mean", "std"} for
pixels from 0 to 1, confidence and iou (thresholds that suit it), max_boxes, thresholds (of each class, where an image
can have several), conversion (of images of more than 8 bits or of many bands, as the dataset has them; see
`deep_images.py`), config (the RunConfig that the network is built from), sha256 of the weights, and what is known of
their making: metrics, run, epoch, dataset, dataset_fingerprint, licence, note, created.
"""

from typing import Any

from trainingapp.contract.tasks.registry import TASKS

WEIGHTS_FILE = "weights.safetensors"

NORMALISATIONS: dict[str, dict[str, list[float]]] = {
    "imagenet": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "centred": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    "plain": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
    "clip": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]},
}
"""Usual ones. The studio trains with the first, and networks of timm with their own."""

EXPORT_FILES: dict[str, str] = {
    "onnx": "model.onnx",
    "openvino": "model.xml",
    "pt2": "model.pt2",
    "safetensors": "weights.safetensors",
    "pt": "weights.pt",
}
"""The file of each export format."""

OPENVINO_WEIGHTS = "model.bin"
"""The second file of OpenVINO, beside its `model.xml`."""


def export_files(name: str) -> tuple[str, ...]:
    """All files of an export format."""
    return (EXPORT_FILES[name], OPENVINO_WEIGHTS) if name == "openvino" else (EXPORT_FILES[name],)


TOLERANCE = 1e-4
"""Largest difference of scores up to which an exported network counts as the same."""

BOX_TOLERANCE_PIXELS = 0.5
"""The same for the edges of boxes."""

HALF_TOLERANCE = 0.02
"""Largest difference of scores that rounding the weights to float16 may make.

float16 has a significand of 11 bits: each weight changes by at most 2^-11 = 0.05 % of its value, and over some dozens
of layers these errors add up to about 1 % of a logit. The exported network must equal PyTorch with the same rounded
weights within `TOLERANCE`; this limit is about the rounding alone.
"""

Card = dict[str, Any]


def with_task(card: Card) -> Card:
    """The card with what `contract/prediction.py` must know about its task: "prediction", "image_fit", "label_mode" and
    "decoding".

    That script is part of exports and has no registry of tasks.
    """
    task = TASKS[card["task"]]
    config = card.get("config", {})
    of_config = {"label_mode": config.get("label_mode", "single"), "decoding": config.get("decoding", "auto")}
    return {**card, "prediction": task.prediction, "image_fit": task.image_fit, **of_config}
