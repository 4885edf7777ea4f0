"""Classification metrics, accumulated on the device and read once at the end.

Legend: N images of a batch, C classes, K most likely classes of an image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch

from trainingapp.contract.evaluation import (
    LARGEST_CONFUSION,
    ClassRow,
    Column,
    Curve,
    Evaluation,
    ImageScore,
    StoredPrediction,
)
from trainingapp.contract.image_results import ImageResults
from trainingapp.contract.messages import gettext_noop as _
from trainingapp.engine.alternating import add_in_order, alternating
from trainingapp.engine.ragged import Shared, losses_tensor, put, taken

RELIABILITY_BINS = 10

COLUMNS = [
    Column("recall", _("Accuracy (recall)")),
    Column("precision", _("Precision")),
    Column("f1", _("F1")),
    Column("images", _("Images"), is_share=False),
]


@dataclass(frozen=True)
class ValidationRecord:
    """The results of a validation batch for each of its images, on the CPU.

    `guesses_NK` are the K most likely classes, `chances_NK` their probabilities, both in descending order.
    """

    indices_N: torch.Tensor
    labels_N: torch.Tensor
    losses_N: torch.Tensor
    guesses_NK: torch.Tensor
    chances_NK: torch.Tensor

    @classmethod
    def of(
        cls, indices_N: torch.Tensor, labels_N: torch.Tensor, losses_N: torch.Tensor, logits_NC: torch.Tensor
    ) -> "ValidationRecord":
        chances_NK, guesses_NK = logits_NC.softmax(1).topk(min(5, logits_NC.shape[1]), dim=1)
        parts = (indices_N, labels_N, losses_N, guesses_NK, chances_NK)
        return cls(*(part.detach().cpu() for part in parts))

    def scores(self) -> list[ImageScore]:
        rows = zip(self.indices_N.tolist(), self.losses_N.tolist(), self.labels_N.tolist(), strict=True)
        return [ImageScore(index, loss, (label,)) for index, loss, label in rows]

    def guesses(self) -> list[tuple[int, StoredPrediction]]:
        """(index, prediction) of each image."""
        rows = zip(self.indices_N.tolist(), self.guesses_NK.tolist(), self.chances_NK.tolist(), strict=True)
        return [
            (index, {"classes": [[label, round(chance, 4)] for label, chance in zip(guesses, chances, strict=True)]})
            for index, guesses, chances in rows
        ]


class ClassificationMeter:
    """Sums over batches. `update` never waits for a GPU; reading a value does, and so does `record`.

    `confusion_CC` counts images with true class in rows and predicted class in columns; only for validation.
    """

    def __init__(self, class_count: int, device: torch.device, *, validation: bool = False) -> None:
        self._class_count = class_count
        self._top_k = min(5, class_count)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        #: images, those with the right first guess, those with the right class among the first five
        self._counts = torch.zeros(3, dtype=torch.int64, device=device)
        cells = class_count * class_count if validation else 0
        self._confusion = torch.zeros(cells, dtype=torch.int64, device=device)
        self._records: list[ValidationRecord] = []
        #: Of each batch of a validation.
        self._loss_sums: list[torch.Tensor] = []

    def update(self, loss: torch.Tensor, logits_NC: torch.Tensor, labels_N: torch.Tensor) -> None:
        """Add a batch; `loss` is the mean over its N images."""
        guesses_NK = logits_NC.detach().topk(self._top_k, dim=1).indices
        hits_NK = guesses_NK == labels_N[:, None]
        ones_N = torch.ones_like(labels_N)
        loss_sum = loss.detach().double() * len(labels_N)
        self._loss_sum += loss_sum
        self._counts += torch.stack([ones_N.sum(), hits_NK[:, 0].sum(), hits_NK.sum()])
        if len(self._confusion):
            self._loss_sums.append(loss_sum)
            cells_N = labels_N * self._class_count + guesses_NK[:, 0]
            self._confusion.index_put_((cells_N,), ones_N, accumulate=True)

    def record(self, record: ValidationRecord) -> None:
        """Keep the results of a validation batch."""
        self._records.append(record)

    def shared(self) -> Shared:
        """See `SharedMeter`."""
        given = {
            "counts": self._counts.cpu(),
            "confusion": self._confusion.cpu(),
            "loss_sums": losses_tensor(self._loss_sums),
        }
        for field in fields(ValidationRecord):
            put(given, field.name, [getattr(record, field.name).numpy() for record in self._records])
        return given

    def join(self, others: Sequence[Shared]) -> None:
        """See `SharedMeter`."""
        records = [self._records]
        for given in others:
            self._counts += given["counts"].to(self._counts.device)
            self._confusion += given["confusion"].to(self._confusion.device)
            columns = [map(torch.from_numpy, taken(given, field.name)) for field in fields(ValidationRecord)]
            records.append([ValidationRecord(*row) for row in zip(*columns, strict=True)])
        self._records = alternating(records)
        add_in_order(self._loss_sum, [self._loss_sums, *(given["loss_sums"] for given in others)])

    def reset(self) -> None:
        for tensor in self.state_dict().values():
            tensor.zero_()

    def training_values(self) -> dict[str, float]:
        """loss and top1 of the images since the last reset."""
        loss_sum, seen, top1, _top5 = self._sums()
        return {"loss": loss_sum / max(1, seen), "top1": top1 / max(1, seen)}

    def values(self) -> dict[str, float]:
        """loss, and from 0 to 1 top1, top5 (always 1 with five or fewer classes) and macro_f1."""
        loss_sum, seen, top1, top5 = self._sums()
        return {
            "loss": loss_sum / max(1, seen),
            "top1": top1 / max(1, seen),
            "top5": top5 / max(1, seen),
            "macro_f1": macro_f1(self.confusion()),
        }

    def _sums(self) -> list[float]:
        """The sum of the losses and the counts, in one read of the device; float64 holds counts exactly."""
        found: list[float] = torch.cat([self._loss_sum.view(1), self._counts.double()]).tolist()
        return found

    def confusion(self) -> torch.Tensor:
        """int64 [C, C] on the CPU."""
        return self._confusion.cpu().view(self._class_count, self._class_count)

    def evaluation(self, classes: list[str]) -> Evaluation:
        """Metrics, table, matrix, reliability and the images' losses and guesses."""
        confusion_CC = self.confusion()
        return Evaluation(
            values=self.values(),
            score="loss",
            score_higher_is_better=False,
            columns=COLUMNS,
            per_class=class_table(confusion_CC, classes),
            confusion_names=classes,
            confusion=confusion_CC.tolist() if len(classes) <= LARGEST_CONFUSION else None,
            curves=[self._reliability()] if self._records else [],
            images=[score for record in self._records for score in record.scores()],
            predictions={index: guess for record in self._records for index, guess in record.guesses()},
            image_results=image_results(self._records) if self._records else None,
        )

    def _reliability(self) -> Curve:
        """Accuracy of the top prediction by its probability (Guo et al., arXiv:1706.04599).

        A calibrated model lies on the diagonal.
        """
        chances_N = torch.cat([record.chances_NK[:, 0] for record in self._records])
        hits_N = torch.cat([record.guesses_NK[:, 0] == record.labels_N for record in self._records])
        bins_N = (chances_N * RELIABILITY_BINS).long().clamp(max=RELIABILITY_BINS - 1)
        points = []
        for number in range(RELIABILITY_BINS):
            chosen_N = bins_N == number
            if chosen_N.any():
                points.append((float(chances_N[chosen_N].mean()), float(hits_N[chosen_N].double().mean())))
        even = [(0.0, 0.0), (1.0, 1.0)]
        return Curve(
            "reliability", _("Reliability"), _("Confidence"), _("Accuracy"), [(_("Model"), points), (_("Even"), even)]
        )

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"loss_sum": self._loss_sum, "counts": self._counts, "confusion": self._confusion}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])


def image_results(records: Sequence[ValidationRecord]) -> ImageResults:
    """The results of all images of a validation, in the order of their indices."""
    order_N = torch.cat([record.indices_N for record in records]).argsort()
    truth_N, losses_N, guesses_NK = (
        torch.cat(parts)[order_N]
        for parts in zip(*((one.labels_N, one.losses_N, one.guesses_NK) for one in records), strict=True)
    )
    hits_NK = guesses_NK == truth_N[:, None]
    return ImageResults(
        "classes",
        hits_NK[:, 0].float().numpy(),
        {
            "truth_N": truth_N.int().numpy(),
            "guess_N": guesses_NK[:, 0].int().numpy(),
            "in_top5_N": hits_NK.any(1).numpy(),
            "loss_N": losses_N.float().numpy(),
        },
    )


def class_table(confusion_CC: torch.Tensor, classes: list[str]) -> list[ClassRow]:
    """Recall, precision and F1 of each class, None where they are not defined, and its images."""
    hits_C, seen_C, guessed_C = (
        t.tolist() for t in (confusion_CC.diagonal(), confusion_CC.sum(1), confusion_CC.sum(0))
    )
    return [
        {
            "class": name,
            "recall": hits / seen if seen else None,
            "precision": hits / guessed if guessed else None,
            "f1": 2 * hits / (seen + guessed) if seen + guessed else None,
            "images": seen,
        }
        for name, hits, seen, guessed in zip(classes, hits_C, seen_C, guessed_C, strict=True)
    ]


def macro_f1(confusion_CC: torch.Tensor) -> float:
    """Mean F1 of the classes that occur, as truth or as a guess: scikit-learn's f1_score(average="macro").

    F1 = 2 hits / (images of the class + guesses of the class).
    """
    hits_C = confusion_CC.diagonal().double()
    total_C = (confusion_CC.sum(0) + confusion_CC.sum(1)).double()
    occurs_C = total_C > 0
    if not occurs_C.any():
        return 0.0
    return float((2 * hits_C[occurs_C] / total_C[occurs_C]).mean())
