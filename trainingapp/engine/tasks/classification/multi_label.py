"""Several labels per image, or none: a sigmoid and binary cross-entropy for each class.

Legend: N images, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from trainingapp.contract.dataset_index import LabelMode, Sample
from trainingapp.contract.errors import BadData
from trainingapp.contract.evaluation import ClassRow, Column, Curve, Evaluation, ImageScore, StoredPrediction
from trainingapp.contract.image_results import ImageResults
from trainingapp.contract.messages import gettext_noop as _
from trainingapp.contract.messages.tasks import IMAGE_WITHOUT_LABELS
from trainingapp.contract.prediction import USUAL_THRESHOLD, likely_classes
from trainingapp.engine.alternating import add_in_order, alternating
from trainingapp.engine.ragged import Shared, losses_tensor, put, taken
from trainingapp.engine.tasks.classification.objective import ClassMeter, Objective

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MOST_CURVES = 8
"""Classes that have a line of their own in the curves; more could not be distinguished."""
CURVE_POINTS = 101
STORED_CLASSES = 10
"""Classes of an image in the evaluation file beside those that reach their threshold."""

COLUMNS = [
    Column("ap", _("AP")),
    Column("f1", _("F1")),
    Column("precision", _("Precision")),
    Column("recall", _("Recall")),
    Column("threshold", _("Threshold")),
    Column("images", _("Images"), is_share=False),
]


class MultiLabel(Objective):
    """Any number of labels per image. Targets are float32 [N, C] of zeros and ones.

    Class weights are the `pos_weight` of torch.nn.BCEWithLogitsLoss: a class that n of N images show counts
    (N - n) / n times where it is shown, as its documentation suggests. Label smoothing moves targets towards 0.5:
    y (1 - e) + e / 2, as in Keras' BinaryCrossentropy. Both keep the loss linear in the targets, so mixup and CutMix
    mix the losses of both images as they do with one label.
    """

    mode: LabelMode = "multi"
    _pos_weight_C: torch.Tensor | None = None

    def targets(self, samples: Sequence[Sample]) -> torch.Tensor:
        targets_NC = torch.zeros(len(samples), self._class_count)
        for row, sample in enumerate(samples):
            if sample.labels is None:
                raise BadData(IMAGE_WITHOUT_LABELS())
            targets_NC[row, list(sample.labels)] = 1
        return targets_NC

    def prepare(self, targets: torch.Tensor) -> torch.Tensor | None:
        if self._config.class_balance == "weights":
            self._pos_weight_C = positive_weights(targets).to(self._device)
        return None

    def loss(self, logits_NC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        smoothing = self._config.label_smoothing
        smoothed_NC = targets * (1 - smoothing) + smoothing / 2
        # In float32 also under autocast: a sigmoid of 16 bits is 0 or 1 too early.
        return F.binary_cross_entropy_with_logits(logits_NC.float(), smoothed_NC, pos_weight=self._pos_weight_C)

    def losses(self, logits_NC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(logits_NC, targets, reduction="none").mean(dim=1)

    def training_meter(self) -> "MultiLabelMeter":
        return MultiLabelMeter(self._device)

    def validation_meter(self) -> "MultiLabelMeter":
        return MultiLabelMeter(self._device)

    def record(
        self,
        meter: ClassMeter,
        indices_N: torch.Tensor,
        targets: torch.Tensor,
        losses_N: torch.Tensor,
        logits_NC: torch.Tensor,
    ) -> None:
        assert isinstance(meter, MultiLabelMeter)
        parts = (indices_N, targets.bool(), losses_N, logits_NC.sigmoid())
        meter.record(Record(*(part.detach().cpu().numpy() for part in parts)))

    def labels(self, target: torch.Tensor) -> list[int]:
        return target.nonzero()[:, 0].tolist()


def positive_weights(targets_NC: torch.Tensor) -> torch.Tensor:
    """float32 [C]: images without the class by images with it; 1 for a class that no image has."""
    counts_C = targets_NC.sum(dim=0)
    return torch.where(counts_C > 0, (len(targets_NC) - counts_C) / counts_C.clamp(min=1), 1.0).float()


@dataclass(frozen=True)
class Record:
    """The results of a validation batch: truth and probability of each class, and the loss of each image."""

    indices_N: NDArray[np.int64]
    truth_NC: Bools
    losses_N: NDArray[np.float32]
    chances_NC: NDArray[np.float32]


class MultiLabelMeter:
    """Sums over batches. `update` never waits for a GPU; reading a value does."""

    def __init__(self, device: torch.device) -> None:
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        #: images, and of all their labels the true positives, false positives and false negatives at probability 0.5
        self._counts = torch.zeros(4, dtype=torch.int64, device=device)
        self._records: list[Record] = []
        #: Of each batch of a validation; and of the last batch.
        self._loss_sums: list[torch.Tensor] = []
        self._newest_loss_sum = self._loss_sum

    def update(self, loss: torch.Tensor, logits_NC: torch.Tensor, targets: torch.Tensor) -> None:
        """Add a batch; `loss` is the mean over its N images."""
        guessed_NC, true_NC = logits_NC.detach() >= 0, targets > 0.5
        self._newest_loss_sum = loss.detach().double() * len(targets)
        self._loss_sum += self._newest_loss_sum
        images = torch.ones_like(true_NC[:, 0]).sum()
        hits, wrong, missed = (
            part.sum() for part in (guessed_NC & true_NC, guessed_NC & ~true_NC, ~guessed_NC & true_NC)
        )
        self._counts += torch.stack([images, hits, wrong, missed])

    def record(self, record: Record) -> None:
        """Keep the results of a validation batch."""
        self._records.append(record)
        self._loss_sums.append(self._newest_loss_sum)

    def shared(self) -> Shared:
        """See `SharedMeter`."""
        loss_sums = losses_tensor(self._loss_sums)
        given = {"counts": self._counts.cpu(), "loss_sums": loss_sums}
        for field in fields(Record):
            put(given, field.name, [getattr(record, field.name) for record in self._records])
        return given

    def join(self, others: Sequence[Shared]) -> None:
        """See `SharedMeter`."""
        records = [self._records]
        for given in others:
            self._counts += given["counts"].to(self._counts.device)
            columns = [taken(given, field.name) for field in fields(Record)]
            records.append([Record(*row) for row in zip(*columns, strict=True)])
        self._records = alternating(records)
        add_in_order(self._loss_sum, [self._loss_sums, *(given["loss_sums"] for given in others)])

    def reset(self) -> None:
        for tensor in self.state_dict().values():
            tensor.zero_()

    def training_values(self) -> dict[str, float]:
        """loss of the images since the last reset, and micro_f1 with the threshold 0.5 for each class: better
        thresholds are known from validation alone."""
        # One read of the device; float64 holds counts exactly.
        sums: list[float] = torch.cat([self._loss_sum.view(1), self._counts.double()]).tolist()
        loss_sum, seen, hits, wrong, missed = sums
        return {"loss": loss_sum / max(1, seen), "micro_f1": f1_of(int(hits), int(wrong), int(missed)) or 0.0}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"loss_sum": self._loss_sum, "counts": self._counts}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])

    def evaluation(self, classes: list[str]) -> Evaluation:
        """Metrics at the best thresholds, table, curves, and the images' losses and probabilities."""
        truth_NC = np.concatenate([record.truth_NC for record in self._records])
        chances_NC = np.concatenate([record.chances_NC for record in self._records]).astype(np.float64)
        indices_N = np.concatenate([record.indices_N for record in self._records]).tolist()
        losses_N = np.concatenate([record.losses_N for record in self._records]).tolist()
        scores = MultiLabelScores.of(truth_NC, chances_NC)
        return Evaluation(
            values={"loss": self.training_values()["loss"], **scores.values()},
            score="loss",
            score_higher_is_better=False,
            columns=COLUMNS,
            per_class=scores.table(classes),
            curves=_curves(truth_NC, chances_NC, classes),
            thresholds=scores.thresholds_C,
            images=[
                ImageScore(index, loss, tuple(np.flatnonzero(truth_C).tolist()))
                for index, loss, truth_C in zip(indices_N, losses_N, truth_NC, strict=True)
            ],
            predictions={
                index: _prediction(chances_C, scores.thresholds_C)
                for index, chances_C in zip(indices_N, chances_NC, strict=True)
            },
            image_results=self._image_results(scores.thresholds_C),
        )

    def _image_results(self, thresholds: list[float]) -> ImageResults:
        order_N = np.concatenate([record.indices_N for record in self._records]).argsort()
        truth_NC = np.concatenate([record.truth_NC for record in self._records])[order_N]
        chance_NC = np.concatenate([record.chances_NC for record in self._records])[order_N]
        loss_N = np.concatenate([record.losses_N for record in self._records])[order_N]
        thresholds_C = np.array(thresholds)
        exact_N = ((chance_NC >= thresholds_C) == truth_NC).all(axis=1)
        arrays = {"truth_NC": truth_NC, "chance_NC": chance_NC, "loss_N": loss_N, "thresholds_C": thresholds_C}
        return ImageResults("labels", exact_N.astype(np.float32), arrays)


@dataclass(frozen=True)
class MultiLabelScores:
    """The metrics of a validation. AP is None for a class that no image has: it has no precision at any recall."""

    ap_C: list[float | None]
    thresholds_C: list[float]
    hits_C: list[int]
    wrong_C: list[int]
    missed_C: list[int]

    @classmethod
    def of(cls, truth_NC: Bools, chances_NC: Floats) -> "MultiLabelScores":
        pairs = list(zip(truth_NC.T, chances_NC.T, strict=True))
        thresholds = [best_threshold(truth_N, chances_N) for truth_N, chances_N in pairs]
        guessed_NC = chances_NC >= np.array(thresholds)
        counts = (guessed_NC & truth_NC, guessed_NC & ~truth_NC, ~guessed_NC & truth_NC)
        return cls([average_precision(*pair) for pair in pairs], thresholds, *(part.sum(0).tolist() for part in counts))

    def values(self) -> dict[str, float]:
        """map, macro_f1 and micro_f1, from 0 to 1: scikit-learn's average_precision_score(average="macro") over the
        classes that occur, and f1_score at the thresholds with zero_division=nan, which leaves out classes that neither
        occur nor are predicted."""
        defined = [ap for ap in self.ap_C if ap is not None]
        f1s = [f1 for f1 in map(f1_of, self.hits_C, self.wrong_C, self.missed_C) if f1 is not None]
        return {
            "map": float(np.mean(defined)) if defined else 0.0,
            "macro_f1": float(np.mean(f1s)) if f1s else 0.0,
            "micro_f1": f1_of(sum(self.hits_C), sum(self.wrong_C), sum(self.missed_C)) or 0.0,
        }

    def table(self, classes: list[str]) -> list[ClassRow]:
        rows = zip(classes, self.ap_C, self.thresholds_C, self.hits_C, self.wrong_C, self.missed_C, strict=True)
        return [
            {
                "class": name,
                "ap": ap,
                "f1": f1_of(hits, wrong, missed),
                "precision": hits / (hits + wrong) if hits + wrong else None,
                "recall": hits / (hits + missed) if hits + missed else None,
                "threshold": threshold,
                "images": hits + missed,
            }
            for name, ap, threshold, hits, wrong, missed in rows
        ]


def f1_of(hits: int, wrong: int, missed: int) -> float | None:
    """F1 = 2 tp / (2 tp + fp + fn); None where the class neither occurs nor is predicted."""
    total = 2 * hits + wrong + missed
    return 2 * hits / total if total else None


@dataclass(frozen=True)
class _Cuts:
    """For each distinct probability, from the highest: images that reach it, and those of them that have the class."""

    scores_K: Floats
    guessed_K: NDArray[np.int64]
    hits_K: NDArray[np.int64]

    @classmethod
    def of(cls, truth_N: Bools, chances_N: Floats) -> "_Cuts":
        order_N = np.argsort(-chances_N, kind="stable")
        ranked_N = chances_N[order_N]
        last_K = np.append(np.flatnonzero(np.diff(ranked_N)), len(ranked_N) - 1)
        return cls(ranked_N[last_K], last_K + 1, np.cumsum(truth_N[order_N])[last_K])

    @property
    def precision_K(self) -> Floats:
        return self.hits_K / self.guessed_K

    def f1_K(self, positives: int) -> Floats:
        return 2 * self.hits_K / (self.guessed_K + positives)


def average_precision(truth_N: Bools, chances_N: Floats) -> float | None:
    """The sum of precision times gain in recall over all cuts, as scikit-learn's average_precision_score, without
    interpolation; None where no image has the class."""
    positives = int(truth_N.sum())
    if not positives:
        return None
    cuts = _Cuts.of(truth_N, chances_N)
    gains_K = np.diff(cuts.hits_K, prepend=0) / positives
    return float((cuts.precision_K * gains_K).sum())


def best_threshold(truth_N: Bools, chances_N: Floats) -> float:
    """The threshold of the highest F1 of the class (Lipton et al., arXiv:1402.1892); of equal ones the highest.

    It lies in the middle between the lowest probability that reaches it and the next lower one, so that rounding in
    another format of the network rarely crosses it. USUAL_THRESHOLD where no image has the class.
    """
    positives = int(truth_N.sum())
    if not positives:
        return USUAL_THRESHOLD
    cuts = _Cuts.of(truth_N, chances_N)
    best = int(cuts.f1_K(positives).argmax())
    below = cuts.scores_K[best + 1] if best + 1 < len(cuts.scores_K) else 0.0
    return float((cuts.scores_K[best] + below) / 2)


def _prediction(chances_C: Floats, thresholds_C: list[float]) -> StoredPrediction:
    found = likely_classes(chances_C, thresholds_C, STORED_CLASSES)
    reached = [label for label, chance in found if chance >= thresholds_C[label]]
    return {"classes": [[label, round(chance, 4)] for label, chance in found], "labels": reached}


def _curves(truth_NC: Bools, chances_NC: Floats, classes: list[str]) -> list[Curve]:
    """Precision by recall and F1 by threshold: lines of the most frequent classes, in the order of the classes."""
    counts_C = truth_NC.sum(axis=0)
    frequent = np.argsort(-counts_C, kind="stable")[:MOST_CURVES]
    shown = [label for label in sorted(frequent.tolist()) if counts_C[label]]
    if not shown:
        return []
    recall, by_threshold = [], []
    for label in shown:
        truth_N, chances_N = truth_NC[:, label], chances_NC[:, label]
        cuts, positives = _Cuts.of(truth_N, chances_N), int(counts_C[label])
        recall.append(
            (
                classes[label],
                _thinned(list(zip((cuts.hits_K / positives).tolist(), cuts.precision_K.tolist(), strict=True))),
            )
        )
        by_threshold.append((classes[label], _f1_points(truth_N, chances_N)))
    return [
        Curve("precision_recall", _("Precision and recall"), _("Recall"), _("Precision"), recall),
        Curve("f1_threshold", _("F1 by threshold"), _("Threshold"), _("F1"), by_threshold),
    ]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most CURVE_POINTS points, the first and the last among them."""
    if len(points) <= CURVE_POINTS:
        return points
    return [points[round(place)] for place in np.linspace(0, len(points) - 1, CURVE_POINTS)]


def _f1_points(truth_N: Bools, chances_N: Floats) -> list[tuple[float, float]]:
    """F1 at thresholds from 0 to 1."""
    thresholds_T = np.linspace(0, 1, CURVE_POINTS)
    ranked_N, positives = np.sort(chances_N), int(truth_N.sum())
    guessed_T = len(chances_N) - np.searchsorted(ranked_N, thresholds_T)
    hits_T = positives - np.searchsorted(np.sort(chances_N[truth_N]), thresholds_T)
    f1_T = 2 * hits_T / (guessed_T + positives)
    return list(zip(thresholds_T.tolist(), f1_T.tolist(), strict=True))
