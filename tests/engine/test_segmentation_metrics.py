"""Pixel counts equal those of scikit-learn and cases calculated by hand."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score, precision_score, recall_score

from trainingapp.contract.dataset_index import IGNORED_PIXEL
from trainingapp.engine.tasks.segmentation.metrics import SegmentationMeter, class_table, pixel_confusion

CLASSES = ["a", "b", "c", "d"]
K = 5


def _batch(images: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are mostly right, and masks with ignored pixels and without class 4."""
    generator = torch.Generator().manual_seed(3)
    masks = torch.randint(0, K - 1, (images, 7, 9), generator=generator)
    logits = torch.randn(images, K - 1, 7, 9, generator=generator)
    logits.scatter_add_(1, masks[:, None], torch.full((images, 1, 7, 9), 1.5))
    logits = torch.cat([logits, torch.full((images, 1, 7, 9), -9.0)], 1)
    masks[torch.rand(masks.shape, generator=generator) < 0.2] = IGNORED_PIXEL
    return logits, masks.to(torch.uint8)


def _meter(logits: torch.Tensor, masks: torch.Tensor, first_class: int = 0) -> SegmentationMeter:
    meter = SegmentationMeter(K, torch.device("cpu"), first_class=first_class, validation=True)
    done = 0
    for some_logits, some_masks in zip(logits.split(4), masks.split(4), strict=True):
        guesses, confusions = meter.update_validation(torch.tensor(2.0), some_logits, some_masks)
        for guess, confusion in zip(guesses, confusions, strict=True):
            meter.record(done, confusion, guess)
            done += 1
    return meter


def test_values_and_table_equal_scikit_learn() -> None:
    logits, masks = _batch()
    known = masks != IGNORED_PIXEL
    truth, said = masks[known].numpy(), logits.argmax(1)[known].numpy()
    meter = _meter(logits, masks)
    values = meter.values()
    assert values["mean_iou"] == pytest.approx(jaccard_score(truth, said, average="macro"))
    assert values["dice"] == pytest.approx(f1_score(truth, said, average="macro"))
    assert values["pixel_accuracy"] == pytest.approx(accuracy_score(truth, said))
    assert values["loss"] == 2
    assert (meter.confusion().numpy() == confusion_matrix(truth, said, labels=range(K))).all()
    rows = meter.evaluation(CLASSES).per_class
    assert [row["class"] for row in rows] == ["background", *CLASSES]
    for name, score in (("iou", jaccard_score), ("dice", f1_score), ("precision", precision_score)):
        assert [row[name] for row in rows[:4]] == pytest.approx(score(truth, said, average=None)), name
    assert [row["recall"] for row in rows[:4]] == pytest.approx(recall_score(truth, said, average=None))
    assert [row["share"] for row in rows[:4]] == pytest.approx(np.bincount(truth) / len(truth))
    assert rows[4] == {"class": "d", "iou": None, "dice": None, "precision": None, "recall": None, "share": 0.0}


def test_an_ignored_background_is_left_out() -> None:
    logits, masks = _batch()
    masks[masks == 0] = IGNORED_PIXEL
    known = masks != IGNORED_PIXEL
    truth, said = masks[known].numpy(), logits.argmax(1)[known].numpy()
    meter = _meter(logits, masks, first_class=1)
    expected = jaccard_score(truth, said, labels=[1, 2, 3], average="macro")
    assert meter.values()["mean_iou"] == pytest.approx(expected)
    assert [row["class"] for row in meter.evaluation(CLASSES).per_class] == CLASSES


def test_images_are_scored_by_the_classes_that_they_show() -> None:
    masks = torch.tensor([[[0, 0, 1, 1]], [[255, 255, 255, 255]]], dtype=torch.uint8)
    guesses = torch.tensor([[[0, 1, 1, 2]], [[0, 0, 0, 0]]])
    logits = torch.nn.functional.one_hot(guesses, K).permute(0, 3, 1, 2).float()
    meter = _meter(logits, masks)
    found = meter.evaluation(CLASSES)
    [image] = found.images  # the other one is all ignored
    assert (image.index, image.labels) == (0, (0,))
    assert image.score == pytest.approx((1 / 2 + 1 / 3) / 2)
    # Class 2 was guessed and is not there: 0 in the mean of all.
    assert found.values["mean_iou"] == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)
    assert found.values["dice"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found.values["pixel_accuracy"] == pytest.approx(2 / 4)
    assert found.score_higher_is_better


def test_masks_are_stored_as_single_channel_pngs() -> None:
    logits, masks = _batch(1)
    png = _meter(logits, masks).evaluation(CLASSES).mask_pngs[0]
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "L"
        assert (np.asarray(image) == logits.argmax(1)[0].numpy()).all()


def test_confusion_is_by_image() -> None:
    logits, masks = _batch()
    guesses = logits.argmax(1)
    together = pixel_confusion(masks, guesses, K)
    for number in range(len(masks)):
        alone = pixel_confusion(masks[number : number + 1], guesses[number : number + 1], K)
        assert torch.equal(together[number], alone[0])


def test_without_labelled_pixels_values_are_zero_and_not_nan() -> None:
    meter = SegmentationMeter(K, torch.device("cpu"), validation=True)
    masks = torch.full((2, 4, 4), IGNORED_PIXEL, dtype=torch.uint8)
    meter.update_validation(torch.tensor(0.0), torch.zeros(2, K, 4, 4), masks)
    assert meter.values() == {"mean_iou": 0.0, "dice": 0.0, "loss": 0.0, "pixel_accuracy": 0.0}
    assert {row["iou"] for row in class_table(meter.confusion(), ["x"] * K)} == {None}


def test_the_state_of_a_training_meter_is_small_and_can_be_restored() -> None:
    logits, masks = _batch()
    meter, other = (SegmentationMeter(K, torch.device("cpu")) for _ in range(2))
    meter.update(torch.tensor(1.5), logits, masks)
    assert sum(tensor.numel() for tensor in meter.state_dict().values()) == 4
    other.load_state_dict(meter.state_dict())
    assert other.training_values() == meter.training_values()
    other.reset()
    assert other.training_values() == {"loss": 0.0, "pixel_accuracy": 0.0}
    assert meter.training_values()["loss"] == 1.5
