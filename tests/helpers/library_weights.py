"""Model files for tests: a small network with random weights, and its card."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from trainingapp.contract.config import parse_config
from trainingapp.contract.model_card import NORMALISATIONS, WEIGHTS_FILE, with_task
from trainingapp.contract.storage.durable import sha256_of
from trainingapp.engine.networks import build_network

MASK_LOGITS = "roi_heads.mask_predictor.mask_fcn_logits.weight"
"""Random ones make logits of up to 440, at which rounding of the input's last digit changes probabilities by 4e-4;
those of trained networks are within 10 or so."""


def make_card(task: str, model: str, size: int, classes: list[str], **config: Any) -> dict[str, Any]:
    values = parse_config({"task": task, "model": model, "image_size": size, "device": "cpu", **config})
    card = {
        "name": "Shapes",
        "version": 1,
        "task": task,
        "architecture": model,
        "classes": classes,
        "image_size": size,
        "normalisation": NORMALISATIONS["imagenet"],
        "confidence": 0.3,
        "iou": 0.5,
        "max_boxes": 100,
        "config": values.model_dump(mode="json"),
        "sha256": "",
        "licence": "",
        "note": "",
    }
    return with_task(card)


def make_weights(folder: Path, card: dict[str, Any], seed: int = 0) -> Path:
    """FOLDER/weights.safetensors with random weights of the card's network; the hash goes into the card."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WEIGHTS_FILE
    path.write_bytes(_random_weights(json.dumps(card["config"]), len(card["classes"]), seed))
    card["sha256"] = sha256_of(path)
    return path


@lru_cache(maxsize=4)
def _random_weights(config: str, class_count: int, seed: int) -> bytes:
    """The weights as a safetensors file; initialized once per network, since many tests use the same."""
    torch.manual_seed(seed)
    network = build_network(parse_config(json.loads(config)), class_count)
    for name, tensor in network.state_dict().items():
        if name == MASK_LOGITS:
            tensor.mul_(0.02)
    return save({name: tensor.clone().contiguous() for name, tensor in network.state_dict().items()})
