"""The demo scenes: exact ground truth, reproducible by seed, and not solvable by counting colors."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import RidgeClassifier

from trainingapp.datasets.scenes import CLASSES, draw_demo, draw_scene, instance_map, mask_boxes

SIZE = 64


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_boxes_are_the_extents_of_the_masks(label: int) -> None:
    for seed in range(12):
        scene = draw_scene(np.random.default_rng([seed, label]), label, SIZE)
        assert scene.labels[0] == scene.label == label
        assert label not in scene.labels[1:]
        assert len(scene.labels) == len(scene.boxes_xyxy) == len(scene.masks_NHW)
        assert not (scene.masks_NHW.sum(axis=0) > 1).any()
        for (left, top, right, bottom), mask_HW in zip(scene.boxes_xyxy, scene.masks_NHW, strict=True):
            inside_HW = np.zeros_like(mask_HW)
            inside_HW[top:bottom, left:right] = True
            assert not (mask_HW & ~inside_HW).any()
            assert mask_HW[top].any()
            assert mask_HW[bottom - 1].any()
            assert mask_HW[:, left].any()
            assert mask_HW[:, right - 1].any()


def test_masks_match_the_painted_objects() -> None:
    """Objects are brighter than their surroundings, in nearly every scene by a large margin."""
    brighter = []
    for seed in range(60):
        scene = draw_scene(np.random.default_rng(seed), seed % len(CLASSES), SIZE)
        grey_HW = scene.image_HWC.mean(axis=2)
        brighter.append(grey_HW[scene.masks_NHW[0]].mean() > grey_HW[~scene.masks_NHW.any(axis=0)].mean() + 15)
    assert np.mean(brighter) > 0.9


def test_same_seed_same_image() -> None:
    first, again, other = (draw_scene(np.random.default_rng(seed), 3, SIZE) for seed in (5, 5, 6))
    assert (first.image_HWC == again.image_HWC).all()
    assert (first.masks_NHW == again.masks_NHW).all()
    assert (first.image_HWC != other.image_HWC).any()


def test_files_of_a_demo_dataset(tmp_path: Path) -> None:
    draw_demo(tmp_path, images=80, seed=1, size=SIZE)
    truth = json.loads((tmp_path / "annotations.json").read_text())
    assert truth["classes"] == CLASSES
    assert len(truth["images"]) == 80
    assert sum("/val/" in record["path"] for record in truth["images"]) == 16
    for record in truth["images"]:
        with Image.open(tmp_path / record["path"]) as image, Image.open(tmp_path / record["mask"]) as mask:
            assert image.size == mask.size == (SIZE, SIZE)
            numbers_HW = np.asarray(mask)
        masks_NHW = np.stack([numbers_HW == number for number in range(1, len(record["labels"]) + 1)])
        assert mask_boxes(masks_NHW).tolist() == record["boxes_xyxy"]
        assert (instance_map(masks_NHW) == numbers_HW).all()
        assert record["path"].split("/")[2] == CLASSES[record["labels"][0]]


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 40"):
        draw_demo(tmp_path, images=39, seed=0, size=SIZE)


def test_a_linear_classifier_fails() -> None:
    labels = np.arange(640) % len(CLASSES)
    scenes = [draw_scene(np.random.default_rng([0, index]), int(label), SIZE) for index, label in enumerate(labels)]
    pixels = np.stack([scene.image_HWC.reshape(32, 2, 32, 2, 3).mean((1, 3)).ravel() for scene in scenes]) / 255
    probe = RidgeClassifier(alpha=100.0).fit(pixels[:480], labels[:480])
    assert probe.score(pixels[480:], labels[480:]) < 0.45
