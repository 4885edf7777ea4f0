"""Metrics computed from weights of images equal reference libraries on repeated images; intervals equal direct ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from tests.engine.test_detection_metrics import CLASSES, _by_pycocotools, _random_result
from trainingapp.contract.image_results import (
    ImageResults,
    ImageResultsError,
    read_image_results,
    write_image_results,
)
from trainingapp.engine.tasks.classification.metrics import ClassificationMeter, ValidationRecord
from trainingapp.engine.tasks.classification.multi_label import MultiLabelMeter, Record
from trainingapp.engine.tasks.detection.metrics import DetectionRecords, ImageResult
from trainingapp.engine.tasks.segmentation.metrics import SegmentationMeter
from trainingapp.runs.resampling import WeightedMetric, differences, weighted_metric

pytestmark = pytest.mark.any_database
CPU = torch.device("cpu")


def metric(found: ImageResults, name: str, classes: int) -> WeightedMetric:
    made = weighted_metric(found, name, classes)
    assert made is not None
    return made


def draws(rng: np.random.Generator, images: int, count: int) -> list[np.ndarray]:
    """Indices of images, drawn with replacement."""
    return [rng.integers(0, images, images) for _ in range(count)]


def weights(drawn_N: np.ndarray) -> np.ndarray:
    return np.bincount(drawn_N, minlength=len(drawn_N))


# Detection


def boxes_of(results: list[ImageResult]) -> ImageResults:
    records = DetectionRecords()
    records.results = results
    found = records.evaluation(CLASSES).image_results
    assert found is not None
    return found


@pytest.mark.parametrize("case", range(12))
def test_average_precision_of_repeated_images_equals_pycocotools(case: int) -> None:
    rng = np.random.default_rng([7, case])
    results = [_random_result(rng, index) for index in range(8)]
    # Equal scores of several images are ranked by the order of the images, which repeating changes: make them differ.
    results = [
        replace(one, scores_D=one.scores_D - np.arange(len(one.scores_D)) * 1e-6 - one.index * 1e-4) for one in results
    ]
    found = boxes_of(results)
    for drawn_N in [np.arange(8), *draws(rng, 8, 4)]:
        repeated = [replace(results[index], index=place) for place, index in enumerate(drawn_N)]
        if not any((~one.crowds_G).any() and len(one.labels_D) for one in repeated):
            continue
        reference, _precisions = _by_pycocotools(repeated)
        for name in ("ap", "ap50", "ap75"):
            value = metric(found, name, len(CLASSES)).value(weights(drawn_N))
            assert value == pytest.approx(max(0.0, reference[name]), abs=1e-6), (name, drawn_N)


def test_detection_values_are_those_of_the_evaluation() -> None:
    rng = np.random.default_rng(3)
    records = DetectionRecords()
    records.results = [_random_result(rng, index) for index in range(30)]
    evaluation = records.evaluation(CLASSES)
    found = evaluation.image_results
    assert found is not None
    ones_N = np.ones(30, dtype=np.int64)
    for name in ("ap", "ap50", "ap75", "f1"):
        assert metric(found, name, len(CLASSES)).value(ones_N) == pytest.approx(evaluation.values[name], abs=1e-6)
    assert weighted_metric(found, "ap_small", len(CLASSES)) is None
    assert found.quality_N.tolist() == pytest.approx([one.score for one in evaluation.images])


# Classification


@pytest.mark.parametrize("name", ["top1", "top5", "macro_f1", "loss"])
def test_classification_equals_scikit_learn_on_repeated_images(name: str) -> None:
    torch.manual_seed(1)
    logits_NC, labels_N = torch.randn(40, 7), torch.randint(0, 7, (40,))
    losses_N = torch.nn.functional.cross_entropy(logits_NC, labels_N, reduction="none")
    meter = ClassificationMeter(7, CPU, validation=True)
    order_N = torch.randperm(40)  # batches may come in any order
    for part_N in order_N.split(16):
        meter.update(losses_N[part_N].mean(), logits_NC[part_N], labels_N[part_N])
        meter.record(ValidationRecord.of(part_N, labels_N[part_N], losses_N[part_N], logits_NC[part_N]))
    evaluation = meter.evaluation([str(label) for label in range(7)])
    found = evaluation.image_results
    assert found is not None
    made = metric(found, name, 7)
    assert made.value(np.ones(40, dtype=np.int64)) == pytest.approx(evaluation.values[name], rel=1e-5)
    for drawn_N in draws(np.random.default_rng(2), 40, 20):
        truth, guess = labels_N.numpy()[drawn_N], logits_NC.argmax(1).numpy()[drawn_N]
        top5 = (logits_NC.topk(5).indices == labels_N[:, None]).any(1).numpy()[drawn_N]
        expected = {
            "top1": accuracy_score(truth, guess),
            "top5": top5.mean(),
            "macro_f1": f1_score(truth, guess, average="macro"),
            "loss": losses_N.numpy()[drawn_N].mean(),
        }[name]
        assert made.value(weights(drawn_N)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["map", "macro_f1", "micro_f1", "loss"])
def test_several_labels_equal_scikit_learn_on_repeated_images(name: str) -> None:
    rng = np.random.default_rng(5)
    truth_NC = rng.random((50, 4)) < [0.5, 0.3, 0.1, 0.2]
    chance_NC = (0.5 * truth_NC + 0.7 * rng.random((50, 4))).clip(0, 1).round(2).astype(np.float32)
    losses_N = rng.random(50).astype(np.float32)
    meter = MultiLabelMeter(CPU)
    meter.record(Record(np.arange(50), truth_NC, losses_N, chance_NC))
    evaluation = meter.evaluation(list("abcd"))
    found, thresholds = evaluation.image_results, np.array(evaluation.thresholds)
    assert found is not None
    made = metric(found, name, 4)
    if name != "loss":  # the meter has no sum of losses here
        assert made.value(np.ones(50, dtype=np.int64)) == pytest.approx(evaluation.values[name])
    for drawn_N in draws(rng, 50, 20):
        truth, chance = truth_NC[drawn_N], chance_NC[drawn_N]
        shown = truth.any(0)
        options = {"y_true": truth, "y_pred": chance >= thresholds}
        expected = {
            "map": average_precision_score(truth[:, shown], chance[:, shown], average="macro"),
            "macro_f1": f1_score(**options, average="macro", zero_division=np.nan),
            "micro_f1": f1_score(**options, average="micro"),
            "loss": losses_N[drawn_N].mean(),
        }[name]
        assert made.value(weights(drawn_N)) == pytest.approx(expected, rel=1e-5)


# Segmentation


@pytest.mark.parametrize("first_class", [0, 1])
@pytest.mark.parametrize("name", ["mean_iou", "dice", "pixel_accuracy"])
def test_segmentation_equals_a_meter_on_repeated_images(name: str, first_class: int) -> None:
    torch.manual_seed(4)
    logits_NKHW, masks_NHW = torch.randn(12, 4, 6, 6), torch.randint(0, 4, (12, 6, 6))
    logits_NKHW.scatter_add_(1, masks_NHW[:, None], torch.full((12, 1, 6, 6), 1.5))
    masks_NHW[:, 0] = 255
    masks_NHW[3] = 255  # an image without any known pixel

    def measured(indices: list[int]) -> SegmentationMeter:
        meter = SegmentationMeter(4, CPU, first_class=first_class, validation=True)
        for place, index in enumerate(indices):
            one = slice(index, index + 1)
            guess, confusion = meter.update_validation(torch.zeros(()), logits_NKHW[one], masks_NHW[one])
            meter.record(place, confusion[0], guess[0])
        return meter

    found = measured(list(range(12))).evaluation(list("abc")).image_results
    assert found is not None
    assert np.isnan(found.quality_N).tolist() == [index == 3 for index in range(12)]
    for drawn_N in [np.arange(12), *draws(np.random.default_rng(6), 12, 10)]:
        expected = measured(drawn_N.tolist()).values()[name]
        assert metric(found, name, 3).value(weights(drawn_N)) == pytest.approx(expected)


# Intervals


def labeled(hits_N: np.ndarray) -> ImageResults:
    """Results of a classifier of two classes that is right where `hits_N` is 1."""
    truth_N = np.zeros(len(hits_N), dtype=np.int32)
    arrays = {"truth_N": truth_N, "guess_N": (1 - hits_N).astype(np.int32)}
    arrays |= {"in_top5_N": np.ones(len(hits_N), dtype=bool), "loss_N": np.zeros(len(hits_N), dtype=np.float32)}
    return ImageResults("classes", hits_N.astype(np.float32), arrays)


def test_the_interval_is_that_of_a_direct_computation_and_the_same_every_time() -> None:
    rng = np.random.default_rng(8)
    base, better = (rng.random(200) < 0.7).astype(int), (rng.random(200) < 0.85).astype(int)
    pair = [metric(labeled(hits_N), "top1", 2) for hits_N in (base, better)]
    found = differences(pair, 200, resamples=400)[0]
    again = np.random.default_rng(0)
    direct = []
    for _ in range(400):
        drawn_N = again.integers(0, 200, 200)
        direct.append(better[drawn_N].mean() - base[drawn_N].mean())
    assert found.difference == pytest.approx(better.mean() - base.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(direct, [2.5, 97.5])))
    assert found == differences(pair, 200, resamples=400)[0]
    # For a difference of shares of the same images, the normal approximation is close.
    spread = 1.96 * (better - base).std() / np.sqrt(200)
    assert found.high - found.low == pytest.approx(2 * spread, rel=0.15)


def test_equal_runs_have_an_interval_of_zero_and_chance_is_not_clear() -> None:
    rng = np.random.default_rng(9)
    hits_N = (rng.random(100) < 0.6).astype(int)
    other_N = hits_N.copy()
    other_N[[0, 1]] = 1 - other_N[[0, 1]]
    same, chance = differences([metric(labeled(one_N), "top1", 2) for one_N in (hits_N, hits_N, other_N)], 100)
    assert (same.difference, same.low, same.high, same.is_clear) == (0, 0, 0, False)
    assert chance.low < 0 < chance.high or not chance.is_clear


# The file


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = boxes_of([_random_result(np.random.default_rng(1), index) for index in range(5)])
    path = tmp_path / "epoch_1.npz"
    write_image_results(path, found, step=6, paths=["a", "b"])
    first = path.read_bytes()
    stored = read_image_results(path)
    assert (stored.step, stored.results.kind) == (6, "boxes")
    for name, values in found.arrays.items():
        np.testing.assert_array_equal(stored.results.arrays[name], values)
    write_image_results(path, found, step=6, paths=["a", "b"])
    assert path.read_bytes() == first  # a repeated validation writes the same bytes
    write_image_results(path, None, step=6, paths=[])
    assert not path.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"guess_N": np.zeros(3, dtype=np.int32)},
        {"truth_N": np.zeros((4, 1), dtype=np.int32)},
        {"truth_N": np.array(["a"] * 4)},
        {"other_N": np.zeros(4)},
    ],
)
def test_results_that_contradict_themselves_are_refused(change: dict[str, np.ndarray]) -> None:
    whole = labeled(np.ones(4))
    with pytest.raises(ImageResultsError):
        replace(whole, arrays={**whole.arrays, **change})


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "epoch_1.npz"
    write_image_results(path, labeled(np.ones(4)), step=1, paths=["a"])
    content = path.read_bytes()
    for damaged in (b"", b"no archive", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ImageResultsError):
            read_image_results(path)
