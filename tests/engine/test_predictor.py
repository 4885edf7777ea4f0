"""Predictions of single images, and networks that stay in memory for a while."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.library_weights import make_card, make_weights
from trainingapp.contract.errors import WeightsUnavailable
from trainingapp.contract.prediction import suppressed
from trainingapp.engine import predictor
from trainingapp.engine.networks import load_network
from trainingapp.engine.predictor import network_of, predicted
from trainingapp.engine.tasks.detection.task import MOST_BOXES

CLASSES = ["disc", "ring"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_network_stays_in_memory_until_others_replace_it(tmp_path: Path) -> None:
    predictor._kept.clear()
    cards = [make_card("classification", "timm/resnet10t", 32, CLASSES) for _ in range(3)]
    paths = [make_weights(tmp_path / str(number), card, seed=number) for number, card in enumerate(cards)]
    first = network_of(cards[0], paths[0])
    assert network_of(cards[0], paths[0]) is first
    for card, path in zip(cards[1:], paths[1:], strict=True):
        network_of(card, path)
    assert network_of(cards[0], paths[0]) is not first
    assert len(predictor._kept) == predictor.MOST_KEPT


def test_missing_weights_and_those_of_another_network_are_reported(tmp_path: Path) -> None:
    card = make_card("classification", "timm/resnet10t", 32, CLASSES)
    with pytest.raises(WeightsUnavailable, match="no longer exist"):
        load_network(card, tmp_path / "gone" / "weights.safetensors")
    path = make_weights(tmp_path / "entry", card)
    with pytest.raises(WeightsUnavailable, match="do not fit the network"):
        load_network({**card, "classes": ["a", "b", "c"]}, path)


def test_probabilities_are_those_of_the_network(tmp_path: Path, image: Path) -> None:
    card = make_card("classification", "timm/resnet10t", 32, CLASSES)
    path = make_weights(tmp_path / "entry", card)
    values = predicted(network_of(card, path), card, image).values
    shares = dict(values["classes"])
    assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
    assert (values["width"], values["height"]) == (60, 30)
    from trainingapp.contract.prediction import prepared

    with torch.inference_mode():
        logits = load_network(card, path)(torch.from_numpy(prepared(image, card).image_NCHW))
    assert shares[int(logits.argmax())] == pytest.approx(float(logits.softmax(1).max()), abs=1e-4)


def test_a_mask_has_the_aspect_ratio_of_the_image_and_confidences(tmp_path: Path, image: Path) -> None:
    card = make_card("segmentation", "fcn_resnet18", 64, CLASSES)
    found = predicted(network_of(card, make_weights(tmp_path / "entry", card)), card, image)
    assert found.mask_HW is not None
    assert found.sureness_HW is not None
    assert found.mask_HW.shape == found.sureness_HW.shape == (32, 64)
    assert set(np.unique(found.mask_HW)) <= {0, 1, 2}
    assert found.sureness_HW.min() >= 255 // 3
    for number, name in enumerate(CLASSES, start=1):
        share = float((found.mask_HW == number).mean())
        assert found.values["shares"].get(name, 0) == pytest.approx(share, abs=1e-5)


def test_boxes_are_within_the_image_and_not_yet_suppressed(tmp_path: Path, image: Path) -> None:
    card = make_card("detection", "retinanet_resnet18_fpn", 64, CLASSES)
    path = make_weights(tmp_path / "entry", card)
    boxes = np.array(predicted(network_of(card, path), card, image).values["boxes"]).reshape(-1, 6)
    assert (boxes[:, 2:] >= 0).all()
    assert (boxes[:, [2, 4]] <= 60).all()
    assert (boxes[:, [3, 5]] <= 30).all()
    assert (np.diff(boxes[:, 1]) <= 0).all()
    assert len(boxes) <= MOST_BOXES


def test_nms_keeps_the_most_confident_box_of_a_class() -> None:
    rows = [
        [0, 0.9, 0, 0, 10, 10],
        [0, 0.8, 1, 0, 11, 10],  # overlaps the first by 9/11
        [1, 0.7, 1, 0, 11, 10],  # of another class
        [0, 0.6, 20, 0, 30, 10],
    ]
    assert suppressed(rows, 0.5, 10) == [rows[0], rows[2], rows[3]]
    assert suppressed(rows, 0.9, 10) == rows
    assert suppressed(rows, 0.5, 1) == rows[:1]
