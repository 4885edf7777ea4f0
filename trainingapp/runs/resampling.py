"""Metrics of a validation as functions of how often each image counts, and paired bootstrap intervals of differences.

The bootstrap draws as many validation images as there are, with replacement, and computes the metric of both runs from
the same draw; the interval of the difference lies between the 2.5th and the 97.5th percentile (B. Efron, R. Tibshirani,
An Introduction to the Bootstrap, 1993, chapter 13; paired over test items as P. Koehn, Statistical Significance Tests
for Machine Translation Evaluation, EMNLP 2004). It says how much the difference depends on the images that happen to be
in the validation split. It does not say how much another seed would change it.

A draw is a vector of weights: image i counts weights_N[i] times. All metrics, mAP included, are computed from weights,
which gives the same as a validation split in which the images are repeated.

Legend: N images, C classes, D boxes, P hits of all IoU thresholds together, S pairs of an IoU threshold and a class.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainingapp.contract.image_results import IOU_THRESHOLDS, Array, ImageResults

Weights = NDArray[np.int64]
#: The metric of the images that count so often, from 0 to 1 or as the metric is.
Metric = Callable[[Weights], float]

RESAMPLES = 1000
SEED = 0
RECALLS = np.linspace(0, 1, 101)
"""COCO's recall thresholds."""

_BOX_METRICS: dict[str, Sequence[int]] = {"ap": range(len(IOU_THRESHOLDS)), "ap50": (0,), "ap75": (5,)}


@dataclass(frozen=True)
class Interval:
    """A difference of two runs with its 95 % interval, in the unit of the metric."""

    difference: float
    low: float
    high: float
    resamples: int
    images: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class WeightedMetric:
    """A metric of one validation; `work` is about the number of numbers that an evaluation of it touches."""

    value: Metric
    work: int


def weighted_metric(found: ImageResults, name: str, class_count: int) -> WeightedMetric | None:
    """The metric `name` of these results; None where it does not follow from them."""
    arrays = found.arrays
    if found.kind == "classes":
        return _of_classes(arrays, name, class_count)
    if found.kind == "labels":
        return _of_labels(arrays, name)
    if found.kind == "boxes":
        if name in _BOX_METRICS:
            precision = AveragePrecision(found, _BOX_METRICS[name], class_count)
            return WeightedMetric(precision.value, precision.work)
        return _box_f1(found) if name == "f1" else None
    return _of_masks(found, name, class_count)


def differences(
    metrics: Sequence[WeightedMetric],
    images: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    on_draw: Callable[[int], None] | None = None,
) -> list[Interval]:
    """The interval of each of `metrics[1:]` against `metrics[0]`, all over the same draws of `images` images.

    The same seed gives the same intervals. Memory does not grow with the number of draws. `on_draw` is called with the
    number of draws so far.
    """
    ones_N = np.ones(images, dtype=np.int64)
    exact = np.array([metric.value(ones_N) for metric in metrics])
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, len(metrics)))
    for number in range(resamples):
        weights_N = np.bincount(rng.integers(0, images, images), minlength=images)
        drawn[number] = [metric.value(weights_N) for metric in metrics]
        if on_draw:
            on_draw(number + 1)
    low, high = np.quantile(drawn[:, 1:] - drawn[:, :1], [0.025, 0.975], axis=0)
    return [
        Interval(float(value - exact[0]), float(least), float(most), resamples, images)
        for value, least, most in zip(exact[1:], low, high, strict=True)
    ]


def _ratio(above_N: Array, below_N: Array | None = None) -> WeightedMetric:
    """sum(w above) / sum(w below), `below_N` being one for each image by default; 0 where that is 0."""
    above_N = above_N.astype(np.float64)
    below_N = np.ones_like(above_N) if below_N is None else below_N.astype(np.float64)

    def value(weights_N: Weights) -> float:
        # Not by @, which gives such short vectors to threads that wait for each other.
        below = float((weights_N * below_N).sum())
        return float((weights_N * above_N).sum()) / below if below else 0.0

    return WeightedMetric(value, 2 * len(above_N))


def _of_classes(arrays: Mapping[str, Array], name: str, class_count: int) -> WeightedMetric | None:
    truth_N, guess_N = arrays["truth_N"].astype(np.int64), arrays["guess_N"].astype(np.int64)
    hits_N = truth_N == guess_N
    if name == "macro_f1":
        right_N = truth_N[hits_N]

        def macro_f1(weights_N: Weights) -> float:
            hits_C = np.bincount(right_N, weights_N[hits_N], class_count)
            return _mean_f1(
                hits_C, _counted(truth_N, weights_N, class_count) + _counted(guess_N, weights_N, class_count)
            )

        return WeightedMetric(macro_f1, 3 * len(truth_N))
    simple = {"loss": arrays["loss_N"], "top1": hits_N, "top5": arrays["in_top5_N"]}
    return _ratio(simple[name]) if name in simple else None


def _of_labels(arrays: Mapping[str, Array], name: str) -> WeightedMetric | None:
    """F1 is at the thresholds of the validation, which belong to the model."""
    truth_NC, chance_NC = arrays["truth_NC"].astype(bool), arrays["chance_NC"]
    guess_NC = chance_NC >= arrays["thresholds_C"]
    total_NC, right_NC = truth_NC.astype(np.int64) + guess_NC, truth_NC & guess_NC
    if name == "loss":
        return _ratio(arrays["loss_N"])
    if name == "micro_f1":
        return _ratio(2 * right_NC.sum(axis=1), total_NC.sum(axis=1))
    if name == "macro_f1":
        return WeightedMetric(lambda w_N: _mean_f1(w_N @ right_NC, w_N @ total_NC), 2 * truth_NC.size)
    if name == "map":
        ranked = [_Ranked.of(truth_NC[:, label], chance_NC[:, label]) for label in range(truth_NC.shape[1])]
        return WeightedMetric(
            lambda w_N: _mean(np.array([one.average_precision(w_N) for one in ranked])), 4 * truth_NC.size
        )
    return None


@dataclass(frozen=True)
class _Ranked:
    """The images by descending probability of a class; `last_K` are the last of each group of equal ones."""

    order_N: Array
    truth_N: Array
    last_K: Array

    @classmethod
    def of(cls, truth_N: Array, chance_N: Array) -> "_Ranked":
        order_N = np.argsort(-chance_N, kind="stable")
        last_K = np.append(np.flatnonzero(np.diff(chance_N[order_N])), len(order_N) - 1)
        return cls(order_N, truth_N[order_N], last_K)

    def average_precision(self, weights_N: Weights) -> float:
        """As scikit-learn's average_precision_score with sample_weight; NaN where no image has the class."""
        ranked_N = weights_N[self.order_N]
        hits_K = np.cumsum(ranked_N * self.truth_N)[self.last_K]
        if not hits_K[-1]:
            return float("nan")
        seen_K = np.cumsum(ranked_N)[self.last_K]
        gains_K = np.diff(hits_K, prepend=0) / hits_K[-1]
        return float((hits_K / np.maximum(seen_K, 1) * gains_K).sum())


def _box_f1(found: ImageResults) -> WeightedMetric:
    """F1 over all objects at the confidence of the validation: 2 hits / (boxes + objects)."""
    arrays = found.arrays
    sure_D = arrays["score_D"] >= arrays["confidence"].astype(np.float32)  # as the scores are stored
    counted_D, hits_D = sure_D & (arrays["ignored_D"] & 1 == 0), sure_D & (arrays["hits_D"] & 1 == 1)
    hits_N, boxes_N = (
        np.bincount(arrays["image_D"][chosen_D], minlength=found.count) for chosen_D in (hits_D, counted_D)
    )
    return _ratio(2 * hits_N, boxes_N + np.bincount(arrays["truth_image_G"], minlength=found.count))


def _of_masks(found: ImageResults, name: str, class_count: int) -> WeightedMetric | None:
    arrays, values = found.arrays, class_count + 1
    image_M, value_M = arrays["image_M"], arrays["value_M"].astype(np.int64)
    hit_M, true_M, guessed_M = (arrays[part].astype(np.float64) for part in ("hit_M", "true_M", "guessed_M"))
    if name == "pixel_accuracy":
        hit_N, true_N = (np.bincount(image_M, part, found.count) for part in (hit_M, true_M))
        return _ratio(hit_N, true_N)
    if name not in ("mean_iou", "dice"):
        return None
    first = int(arrays["first_value"])

    def value(weights_N: Weights) -> float:
        weights_M = weights_N[image_M]
        hit_K, total_K = (
            np.bincount(value_M, weights_M * part, values)[first:] for part in (hit_M, true_M + guessed_M)
        )
        below_K = total_K if name == "dice" else total_K - hit_K
        with np.errstate(invalid="ignore"):
            return _mean((2 if name == "dice" else 1) * hit_K / below_K)

    return WeightedMetric(value, 4 * len(image_M))


class AveragePrecision:
    """COCO's average precision over all areas from the stored verdicts, for any weights of the images.

    A hit of an image that counts w times adds w to the hits. Within such a step the precision rises, so that its last
    point is what COCO's envelope takes; boxes that are no hits never reach a recall first. Precision at hits is
    therefore all that is needed. Checked against pycocotools on repeated images by tests/runs/test_resampling.py.
    """

    def __init__(self, found: ImageResults, thresholds: Sequence[int], class_count: int) -> None:
        """`thresholds` are places in IOU_THRESHOLDS."""
        arrays = found.arrays
        order_D = np.lexsort((np.arange(len(arrays["score_D"])), -arrays["score_D"], arrays["label_D"]))
        label_D = arrays["label_D"][order_D].astype(np.int64)
        self._image_D = arrays["image_D"][order_D]
        self._truth_image_G = arrays["truth_image_G"]
        self._truth_label_G = arrays["truth_label_G"].astype(np.int64)
        self._classes, self._segments = class_count, len(thresholds) * class_count
        start_C = np.searchsorted(label_D, np.arange(class_count))
        hits: list[Array] = []
        segments: list[Array] = []
        skipped: list[Array] = []
        before: list[Array] = []
        at_start: list[Array] = []
        for number, threshold in enumerate(thresholds):
            hit_P = np.flatnonzero(arrays["hits_D"][order_D] >> threshold & 1)
            ignored_I = np.flatnonzero(arrays["ignored_D"][order_D] >> threshold & 1)
            offset = sum(len(part) for part in skipped)
            hits.append(hit_P)
            segments.append(number * class_count + label_D[hit_P])
            skipped.append(ignored_I)
            before.append(offset + np.searchsorted(ignored_I, hit_P))
            at_start.append(offset + np.searchsorted(ignored_I, start_C[label_D[hit_P]]))
        self._hits_P = np.concatenate(hits)
        self._segments_P = np.concatenate(segments)
        self._class_P = self._segments_P % class_count
        self._start_P = start_C[label_D[self._hits_P]]
        self._ignored_I = np.concatenate(skipped)
        self._before_P, self._at_start_P = np.concatenate(before), np.concatenate(at_start)
        bounds = np.searchsorted(self._segments_P, np.arange(self._segments + 1))
        self._first_S, self._end_S = bounds[:-1], bounds[1:]
        self._lift_P = 2.0 * (self._segments - self._segments_P)
        self.work = len(self._image_D) + 4 * len(self._hits_P)

    def value(self, weights_N: Weights) -> float:
        """The mean precision over IoU thresholds, classes that occur and 101 recalls; 0 where no class occurs."""
        objects_C = np.bincount(self._truth_label_G, weights_N[self._truth_image_G], self._classes).astype(np.int64)
        if not objects_C.any() or not len(self._hits_P):
            return 0.0
        weights_D = weights_N[self._image_D]
        seen_D = _sums(weights_D)
        ignored_I = _sums(weights_D[self._ignored_I])
        counted_P = seen_D[self._hits_P + 1] - seen_D[self._start_P]
        counted_P = counted_P - (ignored_I[self._before_P] - ignored_I[self._at_start_P])
        total_P = _sums(weights_D[self._hits_P])
        hits_P = total_P[1:] - total_P[self._first_S[self._segments_P]]
        precision_P = hits_P / np.maximum(counted_P, 1)
        # The greatest precision at this recall or a higher one, within each segment: later segments are lifted less.
        envelope_P = np.maximum.accumulate((precision_P + self._lift_P)[::-1])[::-1] - self._lift_P
        # A hit is the first to reach the recalls between the share of the objects before it and that with it.
        share_P = hits_P / np.maximum(objects_C, 1)[self._class_P]
        reached_P = np.searchsorted(RECALLS, share_P, side="right")
        before_P = np.concatenate([[0], reached_P[:-1]])
        before_P[self._first_S[self._first_S < self._end_S]] = 0
        cells = len(RECALLS) * (self._segments // self._classes) * np.count_nonzero(objects_C)
        return float((envelope_P * (reached_P - before_P)).sum() / cells)


def _sums(values: Array) -> Array:
    """Cumulative sums with 0 in front."""
    return np.concatenate([[0], np.cumsum(values)])


def _counted(labels_N: Array, weights_N: Weights, class_count: int) -> Array:
    return np.bincount(labels_N, weights_N, class_count)


def _mean_f1(hits_C: Array, total_C: Array) -> float:
    """The mean F1, 2 hits / total, of the classes that occur as truth or as a guess."""
    occurs_C = total_C > 0
    return float((2 * hits_C[occurs_C] / total_C[occurs_C]).mean()) if occurs_C.any() else 0.0


def _mean(values: Array) -> float:
    """The mean of what is defined; 0 where nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else 0.0
