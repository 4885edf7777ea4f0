"""Segmentation metrics: pixels counted by their true and their predicted class.

K classes with the background as 0; T counts true pixels of a class, P predicted ones, TP those that are both:
IoU = TP / (T + P - TP), dice = F1 = 2 TP / (T + P), precision = TP / P, recall = TP / T.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from trainingapp.contract.dataset_index import IGNORED_PIXEL
from trainingapp.contract.evaluation import LARGEST_CONFUSION, ClassRow, Column, Evaluation, ImageScore
from trainingapp.contract.image_results import Array, ImageResults
from trainingapp.contract.messages import gettext_noop as _
from trainingapp.engine.alternating import add_in_order
from trainingapp.engine.ragged import Shared, losses_tensor, put, taken
from trainingapp.engine.tasks.segmentation.mask_files import MaskEncoder

BACKGROUND = "background"

COLUMNS = [
    Column("iou", _("IoU")),
    Column("dice", _("Dice")),
    Column("precision", _("Precision")),
    Column("recall", _("Recall")),
    Column("share", _("Share of the pixels")),
]


def pixel_confusion(targets_NHW: torch.Tensor, guesses_NHW: torch.Tensor, class_count: int) -> torch.Tensor:
    """int64 [N, K, K] with K = `class_count`: pixels of each image, true class in rows, predicted one in columns.

    Ignored pixels are left out. bincount without weights is deterministic on GPUs too, but it synchronizes with them.
    """
    count, cells = len(targets_NHW), class_count * class_count
    image_N11 = torch.arange(count, device=targets_NHW.device).view(-1, 1, 1)
    places_NHW = image_N11 * cells + targets_NHW.long() * class_count + guesses_NHW.long()
    counted = torch.bincount(places_NHW[targets_NHW != IGNORED_PIXEL], minlength=count * cells)
    return counted.view(count, class_count, class_count)


def class_ious(confusion_KK: torch.Tensor) -> torch.Tensor:
    """float64 [..., K] from int64 [..., K, K]; NaN for classes that occur neither as truth nor as guess."""
    hits, true, guessed = _sums(confusion_KK)
    return hits / (true + guessed - hits)


def class_dices(confusion_KK: torch.Tensor) -> torch.Tensor:
    """float64 [..., K] from int64 [..., K, K]; NaN as in `class_ious`."""
    hits, true, guessed = _sums(confusion_KK)
    return 2 * hits / (true + guessed)


def _sums(confusion_KK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels that are right, true and predicted, of each class, as float64 [..., K]."""
    hits = confusion_KK.diagonal(dim1=-2, dim2=-1)
    return hits.double(), confusion_KK.sum(-1).double(), confusion_KK.sum(-2).double()


def _mean(values_K: torch.Tensor) -> float:
    """Mean of the values that are not NaN; 0 where all are."""
    return float(values_K.nanmean().nan_to_num(0.0))


@dataclass(frozen=True)
class Predicted:
    """A validation image: its score, the labels that it shows, its predicted mask as PNG and its pixels by class."""

    score: ImageScore | None
    mask_png: Future[bytes] | bytes
    pixels_M4: NDArray[np.int64]
    """Of each class that it shows or was predicted to show: value, pixels that are right, true and predicted."""


class SegmentationMeter:
    """Sums over batches. `update` never waits for a GPU; `update_validation` and reading a value do.

    `first_class` is 1 where the background is ignored: means then leave it out.
    """

    def __init__(self, class_count: int, device: torch.device, *, first_class: int = 0, validation: bool = False):
        """`class_count`: K, the background counted."""
        self._class_count = class_count
        self._first = first_class
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        #: images, known pixels, correct pixels
        self._counts = torch.zeros(3, dtype=torch.int64, device=device)
        shape = (class_count, class_count) if validation else (0, 0)
        self._confusion_KK = torch.zeros(shape, dtype=torch.int64, device=device)
        self._predicted: dict[int, Predicted] = {}
        self._encoder = MaskEncoder() if validation else None
        #: Of each batch of a validation.
        self._loss_sums: list[torch.Tensor] = []

    def update(self, loss: torch.Tensor, logits_NKHW: torch.Tensor, masks_NHW: torch.Tensor) -> torch.Tensor:
        """Add a batch; `loss` is the mean over its images. Gives the guesses: int64 [N, H, W]."""
        guesses_NHW = logits_NKHW.detach().argmax(1)
        images = torch.full((), len(masks_NHW), dtype=torch.int64, device=masks_NHW.device)
        pixels, hits = (masks_NHW != IGNORED_PIXEL).sum(), (masks_NHW == guesses_NHW).sum()
        loss_sum = loss.detach().double() * len(masks_NHW)
        self._loss_sum += loss_sum
        if self._encoder is not None:
            self._loss_sums.append(loss_sum)
        self._counts += torch.stack([images, pixels, hits])
        return guesses_NHW

    def update_validation(
        self, loss: torch.Tensor, logits_NKHW: torch.Tensor, masks_NHW: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `update`, and count by class. Gives guesses [N, H, W] and confusion [N, K, K] on the CPU."""
        guesses_NHW = self.update(loss, logits_NKHW, masks_NHW)
        confusion_NKK = pixel_confusion(masks_NHW, guesses_NHW, self._class_count)
        self._confusion_KK += confusion_NKK.sum(0)
        return guesses_NHW.to("cpu", torch.uint8), confusion_NKK.cpu()

    def record(self, index: int, confusion_KK: torch.Tensor, guess_HW: torch.Tensor) -> None:
        """Keep the result of validation image `index`: its mean IoU over the classes that it shows, and its mask.

        `confusion_KK` is int64 [K, K], of this image alone; `guess_HW` uint8 [H, W], without the padding.
        """
        shown_K = confusion_KK.sum(1) > 0
        score = None  # where all pixels are ignored
        if shown_K.any():
            labels = tuple(value - 1 for value in shown_K.nonzero().flatten().tolist() if value)
            score = ImageScore(index, float(class_ious(confusion_KK)[shown_K].mean()), labels)
        counts_K3 = torch.stack([confusion_KK.diagonal(), confusion_KK.sum(1), confusion_KK.sum(0)], dim=1)
        values_M = (counts_K3[:, 1:].sum(1) > 0).nonzero()
        pixels_M4 = torch.cat([values_M, counts_K3[values_M[:, 0]]], dim=1).numpy()
        assert self._encoder is not None, "a meter of a validation"
        self._predicted[index] = Predicted(score, self._encoder.encode(guess_HW), pixels_M4)

    def shared(self) -> Shared:
        """See `SharedMeter`."""
        self._close()
        given = {
            "counts": self._counts.cpu(),
            "confusion": self._confusion_KK.cpu(),
            "loss_sums": losses_tensor(self._loss_sums),
            "index": torch.tensor(list(self._predicted), dtype=torch.int64),
        }
        found = list(self._predicted.values())
        scores = [(one.score.score,) if one.score else () for one in found]
        put(given, "score", [np.array(score, dtype=np.float64) for score in scores])
        put(given, "labels", [np.array(one.score.labels if one.score else (), dtype=np.int64) for one in found])
        put(given, "mask_png", [np.frombuffer(cast(bytes, one.mask_png), dtype=np.uint8) for one in found])
        put(given, "pixels_M4", [one.pixels_M4 for one in found])
        return given

    def join(self, others: Sequence[Shared]) -> None:
        """See `SharedMeter`."""
        for given in others:
            self._counts += given["counts"].to(self._counts.device)
            self._confusion_KK += given["confusion"].to(self._confusion_KK.device)
            columns = [taken(given, name) for name in ("score", "labels", "mask_png", "pixels_M4")]
            for index, score, labels, mask_png, pixels_M4 in zip(given["index"].tolist(), *columns, strict=True):
                found = ImageScore(index, float(score[0]), tuple(labels.tolist())) if len(score) else None
                self._predicted[index] = Predicted(found, mask_png.tobytes(), pixels_M4)
        self._predicted = dict(sorted(self._predicted.items()))
        add_in_order(self._loss_sum, [self._loss_sums, *(given["loss_sums"] for given in others)])

    def _close(self) -> None:
        """Wait until all masks are encoded."""
        if self._encoder is not None:
            self._encoder.close()
        for index, one in self._predicted.items():
            if isinstance(one.mask_png, Future):
                self._predicted[index] = replace(one, mask_png=one.mask_png.result())

    def reset(self) -> None:
        for tensor in self.state_dict().values():
            tensor.zero_()

    def training_values(self) -> dict[str, float]:
        """loss and pixel_accuracy of the images since the last reset."""
        # One read of the device; float64 holds counts exactly.
        sums: list[float] = torch.cat([self._loss_sum.view(1), self._counts.double()]).tolist()
        loss_sum, images, pixels, hits = sums
        return {"loss": loss_sum / max(1, images), "pixel_accuracy": hits / max(1, pixels)}

    def values(self) -> dict[str, float]:
        """loss, mean_iou and dice over the classes that occur as truth or guess, and pixel_accuracy."""
        confusion_KK = self.confusion()
        return {
            "mean_iou": _mean(class_ious(confusion_KK)[self._first :]),
            "dice": _mean(class_dices(confusion_KK)[self._first :]),
            **self.training_values(),
        }

    def confusion(self) -> torch.Tensor:
        """int64 [K, K] on the CPU."""
        return self._confusion_KK.cpu()

    def evaluation(self, classes: Sequence[str]) -> Evaluation:
        """Metrics, table, matrix, and the images' scores and masks. `classes` are without the background."""
        confusion_KK, names = self.confusion(), [BACKGROUND, *classes]
        self._close()
        return Evaluation(
            values=self.values(),
            score="mean_iou",
            score_higher_is_better=True,
            columns=COLUMNS,
            per_class=class_table(confusion_KK, names)[self._first :],
            confusion_names=names,
            confusion=confusion_KK.tolist() if len(names) <= LARGEST_CONFUSION else None,
            images=[one.score for one in self._predicted.values() if one.score],
            mask_pngs={index: cast(bytes, one.mask_png) for index, one in self._predicted.items()},
            image_results=self._image_results() if self._predicted else None,
        )

    def _image_results(self) -> ImageResults:
        ordered = [self._predicted[index] for index in sorted(self._predicted)]
        parts = np.concatenate([one.pixels_M4 for one in ordered])
        image_M = np.repeat(np.arange(len(ordered)), [len(one.pixels_M4) for one in ordered])
        arrays: dict[str, Array] = {
            "image_M": image_M.astype(np.int32),
            "value_M": parts[:, 0].astype(np.uint8),
            "hit_M": parts[:, 1].astype(np.int32),
            "true_M": parts[:, 2].astype(np.int32),
            "guessed_M": parts[:, 3].astype(np.int32),
            "first_value": np.asarray(self._first),
        }
        quality = [one.score.score if one.score else math.nan for one in ordered]
        return ImageResults("mask", np.array(quality, dtype=np.float32), arrays)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"loss_sum": self._loss_sum, "counts": self._counts, "confusion": self._confusion_KK}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])


def class_table(confusion_KK: torch.Tensor, names: Sequence[str]) -> list[ClassRow]:
    """A row for each of the K names: values from 0 to 1, None where they are not defined."""
    hits_K, true_K, guessed_K = _sums(confusion_KK)
    total = max(1.0, float(true_K.sum()))
    columns = {
        "iou": class_ious(confusion_KK),
        "dice": class_dices(confusion_KK),
        "precision": hits_K / guessed_K,
        "recall": hits_K / true_K,
        "share": true_K / total,
    }
    # NaN is not valid JSON.
    lists = {
        name: [None if math.isnan(value) else value for value in values_K.tolist()]
        for name, values_K in columns.items()
    }
    return [{"class": name, **{c: lists[c][row] for c in columns}} for row, name in enumerate(names)]
