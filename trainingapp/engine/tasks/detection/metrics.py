"""Detection metrics: COCO's average precision, and the results of a model at its best confidence threshold.

Legend: D predicted boxes of an image, G ground-truth boxes, C classes; xyxy = left, top, right, bottom in pixels of
the upright image. A hit is a box of the right class whose intersection over union (IoU) with an object is at least
MATCH_IOU; each object is hit once, by the box with the highest score. A crowd is a region that is not counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from trainingapp.contract.dataset_index import Box
from trainingapp.contract.evaluation import (
    LARGEST_CONFUSION,
    ClassRow,
    Column,
    Curve,
    Evaluation,
    ImageScore,
    StoredPrediction,
)
from trainingapp.contract.image_results import BOXES_PER_CLASS, IOU_THRESHOLDS, Array, ImageResults
from trainingapp.contract.messages import gettext_noop as _
from trainingapp.engine.alternating import alternating
from trainingapp.engine.ragged import Shared, losses_tensor, put, taken

MATCH_IOU = 0.5
CURVE_CLASSES = 20
"""Number of classes up to which each class has its own curve."""

LEAST_SHOWN = 0.05
MOST_SHOWN = 50
BACKGROUND = "background"

COLUMNS = [
    Column("ap", _("mAP50-95")),
    Column("ap50", _("mAP50")),
    Column("precision", _("Precision")),
    Column("recall", _("Recall")),
    Column("f1", _("F1")),
    Column("objects", _("Objects"), is_share=False),
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CocoKind = Literal["bbox", "segm"]
"""What COCO's evaluation compares: boxes, or masks."""


class LossMeter:
    """Sums of the loss and of its parts over training batches. `update` never waits for a GPU; reading does."""

    def __init__(self, parts: Sequence[str], device: torch.device) -> None:
        self._names = ["loss", *parts]
        self._sums = torch.zeros(len(self._names), dtype=torch.float64, device=device)
        self._seen = torch.zeros((), dtype=torch.int64, device=device)

    def update(self, loss: torch.Tensor, parts: dict[str, torch.Tensor], images: int) -> None:
        """Add a batch of `images` images; `loss` and `parts` are means over it."""
        values = torch.stack([loss, *(parts[name] for name in self._names[1:])])
        self._sums += values.detach().double() * images
        self._seen += images

    def reset(self) -> None:
        self._sums.zero_()
        self._seen.zero_()

    def training_values(self) -> dict[str, float]:
        """The means since the last reset."""
        return dict(zip(self._names, (self._sums / self._seen.clamp(min=1)).tolist(), strict=True))

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"sums": self._sums, "seen": self._seen}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])


@dataclass(frozen=True)
class ImageResult:
    """A validation image: ground truth and predicted boxes, by descending score. Boxes are float64 [.., 4] xyxy."""

    index: int
    truth_xyxy: Floats
    truth_labels_G: Ints
    crowds_G: Bools
    boxes_xyxy: Floats
    labels_D: Ints
    scores_D: Floats

    @classmethod
    def of(
        cls, index: int, truth: Sequence[Box], boxes: ArrayLike, labels: ArrayLike, scores: ArrayLike
    ) -> "ImageResult":
        """`boxes` [D, 4] xyxy, `labels` [D] and `scores` [D] are anything that NumPy takes, in any order."""
        scores_D = np.asarray(scores, dtype=np.float64)
        order_D = np.argsort(-scores_D, kind="stable")
        return cls(
            index,
            np.array([(box.left, box.top, box.right, box.bottom) for box in truth], dtype=np.float64).reshape(-1, 4),
            np.array([box.label for box in truth], dtype=np.int64),
            np.array([box.crowd for box in truth], dtype=np.bool_),
            np.asarray(boxes, dtype=np.float64).reshape(-1, 4)[order_D],
            np.asarray(labels, dtype=np.int64)[order_D],
            scores_D[order_D],
        )

    @cached_property
    def overlaps_DG(self) -> Floats:
        """IoU of each box with each object; for a crowd the share of the box that lies in it, as COCO counts."""
        return overlaps(self.boxes_xyxy, self.truth_xyxy, self.crowds_G)

    @cached_property
    def verdicts_TD(self) -> Ints:
        """For each box at each of IOU_THRESHOLDS 1 where it is a hit, 0 where not, -1 where it lies in a crowd of its
        class and is not counted.

        In the order of COCO's evaluation, the box with the highest score takes the free object of its class that it
        overlaps most. The verdict on a box does not depend on boxes with lower scores, so it holds for every threshold
        of confidence.
        """
        verdicts_TD = np.zeros((len(IOU_THRESHOLDS), len(self.labels_D)), dtype=np.int64)
        free_TG = np.tile(~self.crowds_G, (len(IOU_THRESHOLDS), 1))
        fits_DG = (self.truth_labels_G == self.labels_D[:, None]) & (self.overlaps_DG >= MATCH_IOU)
        for place in np.flatnonzero(fits_DG.any(axis=1)).tolist():
            fits_TG = fits_DG[place] & (self.overlaps_DG[place] >= IOU_THRESHOLDS[:, None])
            open_TG = fits_TG & free_TG
            hit_T = open_TG.any(axis=1)
            best_T = np.where(open_TG, self.overlaps_DG[place], -1.0).argmax(axis=1)
            free_TG[hit_T, best_T[hit_T]] = False
            verdicts_TD[hit_T, place] = 1
            verdicts_TD[~hit_T & (fits_TG & self.crowds_G).any(axis=1), place] = -1
        return verdicts_TD

    @property
    def verdicts_D(self) -> Ints:
        """`verdicts_TD` at MATCH_IOU, the lowest threshold."""
        first: Ints = self.verdicts_TD[0]
        return first

    def f1(self, confidence: float) -> float:
        """F1 of the boxes of at least this confidence; 1 where there is no object and no box."""
        counted_D = (self.scores_D >= confidence) & (self.verdicts_D >= 0)
        total = int(counted_D.sum()) + int((~self.crowds_G).sum())
        return 2 * int((counted_D & (self.verdicts_D == 1)).sum()) / total if total else 1.0

    def image_row(self) -> dict[str, int]:
        """The image as COCO has it."""
        return {"id": self.index}

    def truth_rows(self) -> list[dict[str, Any]]:
        """The objects as annotations of COCO, without "id"."""
        rows = zip(self.truth_labels_G.tolist(), _xywh(self.truth_xyxy), self.crowds_G.tolist(), strict=True)
        return [
            {
                "image_id": self.index,
                "category_id": label,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(crowd),
            }
            for label, box, crowd in rows
        ]

    def found_rows(self, kind: "CocoKind") -> list[dict[str, Any]]:
        """The predictions as results of COCO."""
        rows = zip(self.labels_D.tolist(), _xywh(self.boxes_xyxy), self.scores_D.tolist(), strict=True)
        return [
            {"image_id": self.index, "category_id": label, "bbox": box, "score": score} for label, box, score in rows
        ]

    def shown_labels(self) -> tuple[int, ...]:
        return tuple(sorted(set(self.truth_labels_G.tolist())))

    def prediction(self) -> StoredPrediction:
        """The boxes as an evaluation file holds them."""
        rows = zip(self.labels_D.tolist(), self.scores_D.tolist(), self.boxes_xyxy.tolist(), strict=True)
        shown = [row for row in rows if row[1] >= LEAST_SHOWN][:MOST_SHOWN]
        return {"boxes": [[label, round(score, 4), *(round(x, 2) for x in box)] for label, score, box in shown]}


#: What an `ImageResult` holds besides its index, in its order.
ARRAYS = ("truth_xyxy", "truth_labels_G", "crowds_G", "boxes_xyxy", "labels_D", "scores_D")


def overlaps(boxes_xyxy: Floats, truth_xyxy: Floats, crowds_G: Bools) -> Floats:
    """[D, G] intersection over union; over the area of the box alone for crowds."""
    low_DG2 = np.maximum(boxes_xyxy[:, None, :2], truth_xyxy[None, :, :2])
    high_DG2 = np.minimum(boxes_xyxy[:, None, 2:], truth_xyxy[None, :, 2:])
    shared_DG = (high_DG2 - low_DG2).clip(min=0).prod(axis=2)
    own_D1 = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)[:, None]
    true_1G = (truth_xyxy[:, 2:] - truth_xyxy[:, :2]).prod(axis=1)[None, :]
    union_DG = np.where(crowds_G[None, :], own_D1, own_D1 + true_1G - shared_DG)
    return np.asarray(shared_DG / np.maximum(union_DG, 1e-12))


class DetectionRecords:
    """The results of all validation images, and the metrics computed from them."""

    result: ClassVar[type[ImageResult]] = ImageResult
    arrays: ClassVar[tuple[str, ...]] = ARRAYS
    """What a result holds besides its index, in its order."""

    def __init__(self) -> None:
        self.results: list[ImageResult] = []
        self._losses: list[torch.Tensor] = []

    def add_loss(self, loss: torch.Tensor, images: int) -> None:
        """Add the mean loss of a batch of `images` images, a scalar on any device."""
        self._losses.append(loss.detach().double() * images)

    def add(self, result: ImageResult) -> None:
        self.results.append(result)

    def shared(self) -> Shared:
        """See `SharedMeter`."""
        losses = losses_tensor(self._losses)
        given = {"losses": losses, "index": torch.tensor([one.index for one in self.results], dtype=torch.int64)}
        for name in self.arrays:
            put(given, name, [getattr(one, name) for one in self.results])
        return given

    def join(self, others: Sequence[Shared]) -> None:
        """See `SharedMeter`."""
        device = self._losses[0].device if self._losses else None
        losses = alternating([self._losses, *(list(given["losses"]) for given in others)])
        self._losses = [loss.to(device) for loss in losses]
        for given in others:
            columns = [given["index"].tolist(), *(taken(given, name) for name in self.arrays)]
            self.results += [self.result(*row) for row in zip(*columns, strict=True)]
        self.results.sort(key=lambda one: one.index)

    def evaluation(self, classes: list[str]) -> Evaluation:
        """Metrics, table, matrix, curves, and the images' scores and boxes. At least one image has an object."""
        coco, sweep = self.coco(len(classes)), Sweep.of(self.results, len(classes))
        best, best_f1 = sweep.best()
        least = np.inf if best is None else best
        few = len(classes) <= LARGEST_CONFUSION
        return Evaluation(
            values=self._loss() | coco.values() | {"f1": best_f1} | self.further_values(len(classes)),
            score="f1",
            score_higher_is_better=True,
            columns=COLUMNS,
            per_class=class_table(coco, sweep, least, classes),
            confusion_names=[*classes, BACKGROUND],
            confusion=confusion(self.results, least, len(classes)).tolist() if few else None,
            curves=[_precision_recall(coco, classes), _f1_confidence(sweep, classes)],
            best_confidence=best,
            images=[ImageScore(one.index, one.f1(least), one.shown_labels()) for one in self.results],
            predictions={one.index: one.prediction() for one in self.results},
            image_results=image_results(self.results, best),
        )

    def coco(self, class_count: int) -> "CocoScores":
        """COCO's evaluation that gives the metrics their names."""
        return CocoScores.of(self.results, class_count)

    def further_values(self, class_count: int) -> dict[str, float]:
        """Further metrics, for other tasks."""
        return {}

    def _loss(self) -> dict[str, float]:
        """The mean over the images, where their losses were added."""
        return {"loss": float(torch.stack(self._losses).sum()) / len(self.results)} if self._losses else {}


def image_results(results: Sequence[ImageResult], best: float | None) -> ImageResults:
    """The results of all images in the order of their indices; `best` is the confidence of the best F1."""
    ordered = sorted(results, key=lambda one: one.index)
    kept = [_counted_boxes(one.labels_D) for one in ordered]
    bits_T1 = (1 << np.arange(len(IOU_THRESHOLDS)))[:, None]
    hits, ignored = (
        [
            ((one.verdicts_TD[:, kept_D] == verdict) * bits_T1).sum(axis=0)
            for one, kept_D in zip(ordered, kept, strict=True)
        ]
        for verdict in (1, -1)
    )
    truth = [one.truth_labels_G[~one.crowds_G] for one in ordered]
    images = np.arange(len(ordered), dtype=np.int32)
    arrays: dict[str, Array] = {
        "truth_image_G": np.repeat(images, [len(labels) for labels in truth]),
        "truth_label_G": np.concatenate(truth).astype(np.int32),
        "image_D": np.repeat(images, [int(kept_D.sum()) for kept_D in kept]),
        "label_D": np.concatenate([one.labels_D[kept_D] for one, kept_D in zip(ordered, kept, strict=True)]).astype(
            np.int32
        ),
        "score_D": np.concatenate([one.scores_D[kept_D] for one, kept_D in zip(ordered, kept, strict=True)]).astype(
            np.float32
        ),
        "hits_D": np.concatenate(hits).astype(np.uint16),
        "ignored_D": np.concatenate(ignored).astype(np.uint16),
        "confidence": np.asarray(np.nan if best is None else best),
    }
    quality = [one.f1(np.inf if best is None else best) for one in ordered]
    return ImageResults("boxes", np.array(quality, dtype=np.float32), arrays)


def _counted_boxes(labels_D: Ints) -> Bools:
    """Whether a box is among the first BOXES_PER_CLASS of its class."""
    kept_D = np.ones(len(labels_D), dtype=np.bool_)
    for label, count in zip(*np.unique(labels_D, return_counts=True), strict=True):
        if count > BOXES_PER_CLASS:
            kept_D[np.flatnonzero(labels_D == label)[BOXES_PER_CLASS:]] = False
    return kept_D


@dataclass(frozen=True)
class CocoScores:
    """The result of COCO's evaluation, -1 where there is no object.

    `precision_TRCA`: at each of T IoU thresholds 0.5 to 0.95 and R = 101 recalls 0 to 1, for each class and A = 4
    ranges of area (all, small, medium, large; bounds at 32 x 32 and 96 x 96 pixels); `recall_TCA`: the largest
    reached. At most 100 boxes of an image count.
    """

    precision_TRCA: Floats
    recall_TCA: Floats

    @classmethod
    def of(cls, results: Sequence[ImageResult], class_count: int, kind: CocoKind = "bbox") -> "CocoScores":
        from faster_coco_eval import COCO, COCOeval_faster  # here: the trainer of another task need not load it

        truth = COCO(
            {
                "images": [one.image_row() for one in results],
                "annotations": [
                    {"id": number, **row}
                    for number, row in enumerate((row for one in results for row in one.truth_rows()), start=1)
                ],
                "categories": [{"id": label, "name": str(label)} for label in range(class_count)],
            }
        )
        found = [row for one in results for row in one.found_rows(kind)]
        judge = COCOeval_faster(truth, truth.loadRes(found), kind)
        judge.evaluate()  # type: ignore[no-untyped-call]
        judge.accumulate()  # type: ignore[no-untyped-call]
        return cls(np.asarray(judge.eval["precision"])[..., -1], np.asarray(judge.eval["recall"])[..., -1])

    def values(self) -> dict[str, float]:
        """COCO's summary as shares of one; what is not defined, such as AP of large objects, is left out."""
        areas = {"ap": 0, "ap_small": 1, "ap_medium": 2, "ap_large": 3}
        values = {name: _mean(self.precision_TRCA[..., area]) for name, area in areas.items()}
        values |= {"ap50": _mean(self.precision_TRCA[0, ..., 0]), "ap75": _mean(self.precision_TRCA[5, ..., 0])}
        values["ar"] = _mean(self.recall_TCA[..., 0])
        return {name: value for name, value in values.items() if value is not None}

    def of_class(self, label: int) -> dict[str, float | None]:
        own_TR = self.precision_TRCA[:, :, label, 0]
        return {"ap": _mean(own_TR), "ap50": _mean(own_TR[0])}


def _mean(values: Floats) -> float | None:
    """The mean of what is defined."""
    defined = values[values > -1]
    return float(defined.mean()) if len(defined) else None


def _xywh(boxes_xyxy: Floats) -> list[list[float]]:
    rows: list[list[float]] = np.concatenate(
        [boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1
    ).tolist()
    return rows


@dataclass(frozen=True)
class Counts:
    """At a confidence threshold: hits, counted boxes, and objects."""

    hits: int
    boxes: int
    objects: int

    @property
    def precision(self) -> float | None:
        return self.hits / self.boxes if self.boxes else None

    @property
    def recall(self) -> float | None:
        return self.hits / self.objects if self.objects else None

    @property
    def f1(self) -> float | None:
        """2 hits / (boxes + objects), the harmonic mean of the two."""
        total = self.boxes + self.objects
        return 2 * self.hits / total if total else None


@dataclass(frozen=True)
class Sweep:
    """All counted boxes by descending score, to evaluate every confidence threshold. `objects_C` are objects without
    crowds."""

    scores_D: Floats
    labels_D: Ints
    hits_D: Ints
    objects_C: Ints

    @classmethod
    def of(cls, results: Sequence[ImageResult], class_count: int) -> "Sweep":
        scores_D, labels_D, verdicts_D = (
            np.concatenate([getattr(one, name) for one in results]) for name in ("scores_D", "labels_D", "verdicts_D")
        )
        truth = np.concatenate([one.truth_labels_G[~one.crowds_G] for one in results])
        order_D = np.argsort(-scores_D, kind="stable")
        order_D = order_D[verdicts_D[order_D] >= 0]
        objects_C = np.bincount(truth, minlength=class_count)
        return cls(scores_D[order_D], labels_D[order_D], verdicts_D[order_D], objects_C)

    def of_class(self, label: int) -> "Sweep":
        own_D = self.labels_D == label
        own = self.objects_C[label : label + 1]
        return Sweep(self.scores_D[own_D], self.labels_D[own_D], self.hits_D[own_D], own)

    def counts(self, least: float) -> Counts:
        """The counts of the boxes of at least this confidence."""
        boxes = int(np.searchsorted(-self.scores_D, -least, side="right"))
        return Counts(int(self.hits_D[:boxes].sum()), boxes, int(self.objects_C.sum()))

    def best(self) -> tuple[float | None, float]:
        """The threshold with the largest F1 over all objects (of equal ones the highest) and that F1; (None, 0) without
        hits."""
        if not self.hits_D.any():
            return None, 0.0
        hits_D, boxes_D = self.hits_D.cumsum(), np.arange(1, len(self.hits_D) + 1)
        f1_D = 2 * hits_D / (boxes_D + self.objects_C.sum())
        is_last_D = np.append(
            self.scores_D[1:] < self.scores_D[:-1], True
        )  # a threshold includes all boxes of the same score
        place = int(np.where(is_last_D, f1_D, -1.0).argmax())
        return float(self.scores_D[place]), float(f1_D[place])


def class_table(coco: CocoScores, sweep: Sweep, least: float, classes: list[str]) -> list[ClassRow]:
    """AP of each class and its metrics at the threshold `least`; None where a metric is not defined."""
    rows = []
    for label, name in enumerate(classes):
        counts = sweep.of_class(label).counts(least)
        shares = {"precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
        rows.append({"class": name, **coco.of_class(label), **shares, "objects": counts.objects})
    return rows


def confusion(results: Sequence[ImageResult], least: float, class_count: int) -> Ints:
    """int64 [C + 1, C + 1], true classes in rows, predicted ones in columns; the last of each is the background.

    Boxes of at least this confidence and objects are matched regardless of their classes, by descending IoU down to
    MATCH_IOU. Unmatched ones count against the background, except boxes of which half lies in a crowd.
    """
    cells_CC = np.zeros((class_count + 1, class_count + 1), dtype=np.int64)
    for one in results:
        sure = int((one.scores_D >= least).sum())
        overlaps_DG, objects = one.overlaps_DG[:sure], np.flatnonzero(~one.crowds_G)
        pairs = _pairs(overlaps_DG[:, objects])
        in_crowd_D = (overlaps_DG[:, one.crowds_G] >= MATCH_IOU).any(axis=1)
        for box, place in pairs:
            cells_CC[one.truth_labels_G[objects[place]], one.labels_D[box]] += 1
        for place in set(range(len(objects))) - {place for _box, place in pairs}:
            cells_CC[one.truth_labels_G[objects[place]], class_count] += 1
        for box in set(np.flatnonzero(~in_crowd_D).tolist()) - {box for box, _place in pairs}:
            cells_CC[class_count, one.labels_D[box]] += 1
    return cells_CC


def _pairs(overlaps_DG: Floats) -> list[tuple[int, int]]:
    """Rows and columns of a matrix matched one to one, by descending entry down to MATCH_IOU."""
    rows, columns = np.nonzero(overlaps_DG >= MATCH_IOU)
    order = np.argsort(-overlaps_DG[rows, columns], kind="stable")
    by_row: dict[int, int] = {}
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in by_row and column not in by_row.values():
            by_row[row] = column
    return list(by_row.items())


def _precision_recall(coco: CocoScores, classes: list[str]) -> Curve:
    """COCO's interpolated precision at IoU 0.5; the mean over the classes first."""
    precision_RC = coco.precision_TRCA[0, :, :, 0]
    defined = [label for label in range(len(classes)) if precision_RC[0, label] > -1]
    lines = [(_("All classes"), precision_RC[:, defined].mean(axis=1))] if defined else []
    if len(classes) <= CURVE_CLASSES:
        lines += [(classes[label], precision_RC[:, label]) for label in defined]
    recalls = np.linspace(0, 1, len(precision_RC))
    series = [(name, _points(recalls, line_R)) for name, line_R in lines]
    return Curve("precision_recall", _("Precision and recall at IoU 0.5"), _("Recall"), _("Precision"), series)


def _f1_confidence(sweep: Sweep, classes: list[str]) -> Curve:
    """F1 by confidence threshold; the curve of all objects first."""
    lines = [(_("All classes"), sweep)]
    if len(classes) <= CURVE_CLASSES:
        lines += [(name, sweep.of_class(label)) for label, name in enumerate(classes) if sweep.objects_C[label]]
    steps = np.linspace(0, 1, 101)
    series = [(name, _points(steps, np.array([one.counts(t).f1 or 0.0 for t in steps]))) for name, one in lines]
    return Curve("f1_confidence", _("F1 by confidence"), _("Confidence"), _("F1"), series)


def _points(xs: Floats, ys: Floats) -> list[tuple[float, float]]:
    return [(round(x, 4), round(y, 4)) for x, y in zip(xs.tolist(), ys.tolist(), strict=True)]
