"""Detection metrics equal those of pycocotools and cases calculated by hand."""

import contextlib
import io
import math

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from trainingapp.contract.dataset_index import Box
from trainingapp.engine.tasks.detection.metrics import (
    CocoScores,
    DetectionRecords,
    ImageResult,
    LossMeter,
    Sweep,
    class_table,
    confusion,
)

CLASSES = ["a", "b", "c"]
COCO_NAMES = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]


def _random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.uniform(0, 150, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(4, 5 + 120 * rng.random(), (count, 2))], axis=1)


def _random_result(rng: np.random.Generator, index: int) -> ImageResult:
    """Boxes near some of the objects and boxes anywhere, with confidences of which some are equal."""
    truth = _random_boxes(rng, int(rng.integers(0, 6)))
    labels = rng.integers(0, len(CLASSES), len(truth))
    near = truth + rng.normal(0, 6, truth.shape)
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    found = np.concatenate([near, near[::2] + 1, _random_boxes(rng, int(rng.integers(0, 5)))])
    said = np.concatenate([labels, labels[::2], rng.integers(0, len(CLASSES), len(found) - len(near) - len(near[::2]))])
    said = np.where(rng.random(len(said)) < 0.2, rng.integers(0, len(CLASSES), len(said)), said)
    objects = [
        Box(int(label), *box.tolist(), crowd=bool(rng.random() < 0.15))
        for label, box in zip(labels, truth, strict=True)
    ]
    return ImageResult.of(index, objects, found, said, rng.random(len(found)).round(2))


def _by_pycocotools(results: list[ImageResult]) -> tuple[dict[str, float], np.ndarray]:
    """The six APs and AR at 100 boxes, -1 where undefined, and the precisions."""
    truth, found = COCO(), []
    rows = [
        (one.index, *row)
        for one in results
        for row in zip(one.truth_labels_G, one.truth_xyxy, one.crowds_G, strict=True)
    ]
    truth.dataset = {
        "images": [{"id": one.index} for one in results],
        "categories": [{"id": label} for label in range(len(CLASSES))],
        "annotations": [
            {
                "id": number,
                "image_id": index,
                "category_id": int(label),
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "area": (box[2] - box[0]) * (box[3] - box[1]),
                "iscrowd": int(crowd),
            }
            for number, (index, label, box, crowd) in enumerate(rows, start=1)
        ],
    }
    for one in results:
        for label, box, score in zip(one.labels_D, one.boxes_xyxy, one.scores_D, strict=True):
            corner_and_sides = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            found.append({"image_id": one.index, "category_id": int(label), "bbox": corner_and_sides, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    values = dict(zip(COCO_NAMES, judge.stats[:6].tolist(), strict=True)) | {"ar": float(judge.stats[8])}
    return values, judge.eval["precision"][..., -1]


@pytest.mark.parametrize("block", range(10))
def test_average_precision_equals_pycocotools_on_200_random_cases(block: int) -> None:
    for case in range(20):
        rng = np.random.default_rng([block, case])
        results = [_random_result(rng, index) for index in range(int(rng.integers(1, 9)))]
        has_boxes = any(len(one.labels_D) for one in results)
        if not has_boxes or not any((~one.crowds_G).any() for one in results):
            results.append(ImageResult.of(len(results), [Box(0, 1, 1, 9, 9)], [[1, 1, 9, 8]], [0], [0.5]))
        reference, precisions = _by_pycocotools(results)
        scores = CocoScores.of(results, len(CLASSES))
        assert np.abs(scores.precision_TRCA - precisions).max() < 1e-6, (block, case)
        values = scores.values()
        for name, value in reference.items():
            assert values.get(name, -1.0) == pytest.approx(value, abs=1e-6), (block, case, name)


def _by_hand() -> list[ImageResult]:
    """Two images: a hit, a second box on the same object, a wrong class, one in a crowd, one missed, one of nothing.

    Confidences 0.9 hit a; 0.8 again a (too much); 0.7 predicted b at c; 0.6 in a crowd of a; 0.5 hit b; 0.1 nothing.
    """
    crowd = Box(0, 100, 100, 200, 200, crowd=True)
    first = ImageResult.of(
        0,
        [Box(0, 0, 0, 10, 10), Box(2, 50, 50, 60, 60), crowd],
        [[0, 0, 10, 9], [0, 0, 9, 10], [50, 50, 60, 61], [110, 110, 130, 130]],
        [0, 0, 1, 0],
        [0.9, 0.8, 0.7, 0.6],
    )
    second = ImageResult.of(1, [Box(1, 20, 20, 40, 40)], [[0, 0, 5, 5], [20, 20, 40, 38]], [2, 1], [0.1, 0.5])
    return [first, second]


def test_verdicts() -> None:
    first, second = _by_hand()
    assert first.verdicts_D.tolist() == [1, 0, 0, -1]
    assert second.scores_D.tolist() == [0.5, 0.1]
    assert second.verdicts_D.tolist() == [1, 0]


def test_best_confidence_and_f1_by_hand() -> None:
    """Counted boxes, the surest first: 1 0 0 1 0, of three objects. F1: 2/4, 2/5, 2/6, 4/7, 4/8."""
    sweep = Sweep.of(_by_hand(), 3)
    assert sweep.hits_D.tolist() == [1, 0, 0, 1, 0]
    best, f1 = sweep.best()
    assert best == 0.5
    assert f1 == pytest.approx(4 / 7)
    counts = sweep.counts(0.5)
    assert (counts.hits, counts.boxes, counts.objects) == (2, 4, 3)
    assert counts.precision == pytest.approx(2 / 4)
    assert counts.recall == pytest.approx(2 / 3)


def test_boxes_of_equal_confidence_count_together() -> None:
    objects = [Box(0, 0, 0, 10, 10)]
    result = ImageResult.of(0, objects, [[0, 0, 10, 10], [50, 50, 60, 60]], [0, 0], [0.5, 0.5])
    assert Sweep.of([result], 1).best() == (0.5, pytest.approx(2 / 3))


def test_confusion_by_hand() -> None:
    """The second box on a is unmatched, b is predicted at c, the box in the crowd is not counted."""
    assert confusion(_by_hand(), 0.5, 3).tolist() == [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 1, 0, 0],
        [1, 0, 0, 0],
    ]
    assert confusion(_by_hand(), 0.95, 3).tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_table_by_class() -> None:
    results = _by_hand()
    rows = class_table(CocoScores.of(results, 3), Sweep.of(results, 3), 0.5, CLASSES)
    assert [row["class"] for row in rows] == CLASSES
    assert [row["objects"] for row in rows] == [1, 1, 1]
    assert [row["precision"] for row in rows] == [0.5, 0.5, None]
    assert [row["recall"] for row in rows] == [1, 1, 0]
    assert [row["f1"] for row in rows] == [pytest.approx(2 / 3), pytest.approx(2 / 3), 0]


def test_evaluation_is_whole_and_finite() -> None:
    records = DetectionRecords()
    for result in _by_hand():
        records.add(result)
    found = records.evaluation(CLASSES)
    assert found.best_confidence == 0.5
    assert found.values["f1"] == pytest.approx(4 / 7)
    assert "ap_large" not in found.values  # the only large one is a crowd
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in found.values.values())
    assert found.confusion_names == [*CLASSES, "background"]
    assert [curve.name for curve in found.curves] == ["precision_recall", "f1_confidence"]
    assert [label for label, _points in found.curves[0].series] == ["All classes", *CLASSES]
    assert dict(found.curves[1].series)["All classes"][50] == (0.5, pytest.approx(0.5714))
    scores = {one.index: (one.score, one.labels) for one in found.images}
    assert scores == {0: (pytest.approx(2 / 5), (0, 2)), 1: (1.0, (1,))}
    assert found.predictions[1] == {"boxes": [[1, 0.5, 20, 20, 40, 38], [2, 0.1, 0, 0, 5, 5]]}


def test_a_model_that_finds_nothing() -> None:
    records = DetectionRecords()
    records.add(ImageResult.of(0, [Box(0, 0, 0, 10, 10)], [], [], []))
    records.add(ImageResult.of(1, [], [], [], []))
    found = records.evaluation(CLASSES)
    assert found.values["ap"] == found.values["ap50"] == found.values["f1"] == 0
    assert found.best_confidence is None
    assert [one.score for one in found.images] == [0.0, 1.0]
    assert found.confusion
    assert found.confusion[0] == [0, 0, 0, 1]


def test_images_without_objects_of_a_class() -> None:
    records = DetectionRecords()
    records.add(ImageResult.of(0, [Box(1, 0, 0, 50, 50)], [[0, 0, 50, 50]], [1], [0.9]))
    found = records.evaluation(CLASSES)
    assert found.values["ap"] == pytest.approx(1)
    assert [row["ap"] for row in found.per_class] == [None, pytest.approx(1), None]


def test_losses_are_means_over_images_and_continue_in_a_restored_meter() -> None:
    meter = LossMeter(["loss_class", "loss_box"], torch.device("cpu"))
    for value, images in ((1.0, 4), (3.0, 1)):
        part = torch.tensor(value)
        meter.update(2 * part, {"loss_box": part, "loss_class": part}, images)
    expected = {"loss": pytest.approx(2.8), "loss_class": pytest.approx(1.4), "loss_box": pytest.approx(1.4)}
    assert meter.training_values() == expected
    other = LossMeter(["loss_class", "loss_box"], torch.device("cpu"))
    other.load_state_dict(meter.state_dict())
    assert other.training_values() == expected
    meter.reset()
    assert set(meter.training_values().values()) == {0}
    assert other.training_values() == expected
