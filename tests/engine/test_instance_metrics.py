"""Metrics of masks equal those of pycocotools and cases calculated by hand."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from trainingapp.contract.dataset_index import Box, Sample
from trainingapp.contract.prediction import Prepared, instances, mask_in_box
from trainingapp.contract.run_lengths import area, decoded, encoded
from trainingapp.engine.tasks.instances.metrics import InstanceRecords, InstanceResult

CLASSES = ["a", "b", "c"]
NAMES = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
SIDE = 150


def _disc(box: np.ndarray, hole: float) -> np.ndarray:
    """The ellipse in a box, with a hole of this share of its radius."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    away = ((2 * x - box[0] - box[2]) / (box[2] - box[0])) ** 2 + ((2 * y - box[1] - box[3]) / (box[3] - box[1])) ** 2
    mask: np.ndarray = (away <= 1) & (away >= hole**2)
    return mask


def _random_result(rng: np.random.Generator, index: int) -> InstanceResult:
    """Masks near some of the objects and masks anywhere, with confidences of which some are equal."""
    corners = rng.uniform(0, 120, (int(rng.integers(0, 6)), 2))
    truth = np.concatenate([corners, corners + rng.uniform(4, 5 + 100 * rng.random(), corners.shape)], axis=1)
    truth = truth.clip(0, SIDE)
    holes, labels = rng.uniform(0, 0.8, len(truth)), rng.integers(0, len(CLASSES), len(truth))
    near = truth + rng.normal(0, 3, truth.shape)
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    found = np.concatenate([near, near[::2] + 1])
    said = np.concatenate([labels, labels[::2]])
    said = np.where(rng.random(len(said)) < 0.2, rng.integers(0, len(CLASSES), len(said)), said)
    guessed_holes = np.concatenate([holes, holes[::2]]) * rng.uniform(0.8, 1.1, len(found))
    masks = [encoded(_disc(box, hole), SIDE, SIDE) for box, hole in zip(found, guessed_holes, strict=True)]
    boxes = tuple(
        Box(int(label), *box.tolist(), crowd=bool(rng.random() < 0.15))
        for label, box in zip(labels, truth, strict=True)
    )
    true_masks = [encoded(_disc(box, hole), SIDE, SIDE) for box, hole in zip(truth, holes, strict=True)]
    sample = Sample(f"{index}.png", -1, "val", SIDE, SIDE, boxes, outlines="o")
    return InstanceResult.with_masks(index, sample, true_masks, found, said, rng.random(len(found)).round(2), masks)


def _by_pycocotools(results: list[InstanceResult], kind: str) -> dict[str, float]:
    """The six APs and AR at 100 detections, -1 where undefined; from the masks as pycocotools decodes them."""
    truth, found, annotations = COCO(), [], []
    for one in results:
        masks = [text for text in one.truth_runs_B.tobytes().decode().split("\n") if text]
        for label, box, crowd, text in zip(one.truth_labels_G, one.truth_xyxy, one.crowds_G, masks, strict=True):
            rle = {"size": [SIDE, SIDE], "counts": text}
            about = {"id": len(annotations) + 1, "image_id": one.index, "category_id": int(label)}
            sides = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            area_of = float(coco_masks.area(rle))
            annotations.append(about | {"bbox": sides, "segmentation": rle, "area": area_of, "iscrowd": int(crowd)})
        for label, box, score, text in zip(one.labels_D, one.boxes_xyxy, one.scores_D, one.counts, strict=True):
            about = {"image_id": one.index, "category_id": int(label), "score": score}
            sides = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            own = {"bbox": sides} if kind == "bbox" else {"segmentation": {"size": [SIDE, SIDE], "counts": text}}
            found.append(about | own)
    images = [{"id": one.index, "height": SIDE, "width": SIDE} for one in results]
    categories = [{"id": label} for label in range(len(CLASSES))]
    truth.dataset = {"images": images, "categories": categories, "annotations": annotations}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(found), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return dict(zip(NAMES, judge.stats[:6].tolist(), strict=True)) | {"ar": float(judge.stats[8])}


@pytest.mark.parametrize("block", range(5))
def test_average_precision_of_masks_and_boxes_equals_pycocotools(block: int) -> None:
    for case in range(8):
        rng = np.random.default_rng([block, case])
        results = [_random_result(rng, index) for index in range(int(rng.integers(1, 7)))]
        results.append(_by_hand(len(results)))
        records = InstanceRecords()
        for one in results:
            records.add(one)
        values = records.evaluation(CLASSES).values
        for name, value in _by_pycocotools(results, "segm").items():
            assert values.get(name, -1.0) == pytest.approx(value, abs=1e-6), (block, case, name)
        of_boxes = _by_pycocotools(results, "bbox")
        for name in ("ap", "ap50", "ap75"):
            assert values[f"box_{name}"] == pytest.approx(of_boxes[name], abs=1e-6), (block, case, name)


def _square(left: int, top: int, side: int, height: int | None = None) -> str:
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    mask[top : top + (height or side), left : left + side] = True
    return encoded(mask, SIDE, SIDE)


def _by_hand(index: int = 0) -> InstanceResult:
    """A hit of a with IoU 1/2, the same box with a mask of another place, a wrong class, and one within a crowd."""
    boxes = (Box(0, 0, 0, 10, 10), Box(2, 50, 50, 60, 60), Box(0, 100, 100, 140, 140, crowd=True))
    truth = [_square(0, 0, 10), _square(50, 50, 10), _square(100, 100, 40)]
    sample = Sample("hand.png", -1, "val", SIDE, SIDE, boxes, outlines="o")
    found = [[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60], [101, 101, 111, 111]]
    masks = [_square(0, 8, 10, 2), _square(0, 0, 10, 5), _square(50, 50, 10), _square(101, 101, 10)]
    return InstanceResult.with_masks(index, sample, truth, found, [0, 0, 1, 0], [0.5, 0.9, 0.8, 0.7], masks)


def test_verdicts_follow_from_masks_and_not_from_boxes() -> None:
    one = _by_hand()
    assert one.scores_D.tolist() == [0.9, 0.8, 0.7, 0.5]
    assert one.counts[0] == _square(0, 0, 10, 5)  # sorted with the scores
    assert one.overlaps_DG.tolist() == [[0.5, 0, 0], [0, 1, 0], [0, 0, 1], [0.2, 0, 0]]
    assert one.verdicts_D.tolist() == [1, 0, -1, 0]
    assert one.verdicts_TD[1].tolist() == [0, 0, -1, 0]
    records = InstanceRecords()
    records.add(one)
    found = records.evaluation(CLASSES)
    assert found.values["ap50"] == pytest.approx(0.5)  # all of a, nothing of c
    assert found.values["ap75"] == 0
    assert found.values["box_ap"] == pytest.approx(0.5)
    assert found.predictions[0]["masks"] == one.counts
    assert found.confusion is not None
    assert (found.confusion[0][0], found.confusion[2][3]) == (1, 1)  # at the best confidence, 0.9


def test_ranks_join_their_results() -> None:
    rng = np.random.default_rng(0)
    results = [_random_result(rng, index) for index in range(5)] + [_by_hand(5)]
    whole, first, second = InstanceRecords(), InstanceRecords(), InstanceRecords()
    for one in results:
        whole.add(one)
        (first, second)[one.index % 2].add(one)
    first.join([second.shared()])
    assert [one.counts for one in first.results] == [one.counts for one in results]
    assert first.evaluation(CLASSES).values == whole.evaluation(CLASSES).values


def test_a_mask_is_scaled_to_its_box() -> None:
    chances = np.zeros((4, 4), dtype=np.float32)
    chances[:, :2] = 1.0  # the left half
    inside, left, top = mask_in_box(chances, [10.0, 20.0, 18.0, 28.0], 100, 100)
    assert (inside.shape, left, top) == ((8, 8), 10, 20)
    assert inside[:, 0].all()  # three quarters of the rim
    assert inside[:, 1:4].all()
    assert not inside[:, 4:].any()
    cut, left, top = mask_in_box(np.ones((28, 28), np.float32), [-5.0, -5.0, 5.0, 5.0], 8, 8)
    assert (cut.shape, left, top, cut.all()) == ((5, 5), 0, 0, True)


def test_instances_are_placed_in_the_upright_image() -> None:
    """A square of 64 shows an image of 128 x 96: scaled by a half, with 8 rows above."""
    image = Prepared(np.zeros(0, np.float32), 128, 96, 0, 8, 64, 48)
    boxes = np.array([[10, 18, 20, 28], [0, 0, 9, 7], [1, 9, 5, 12]], dtype=np.float32)
    scores, labels = np.array([0.9, 0.8, 0.1], np.float32), np.array([1, 0, 0])
    rows, counts = instances([boxes, scores, labels, np.ones((3, 28, 28), np.float32)], image, 0.5)
    [[label, score, *corners]] = rows  # the second lies in the padding, the third has too low a score
    assert (label, score, corners) == (1, pytest.approx(0.9), [20, 20, 40, 40])
    assert area(counts[0]) == pytest.approx(400, abs=8)
    assert decoded(counts[0], 96, 128)[21:39, 21:39].all()
