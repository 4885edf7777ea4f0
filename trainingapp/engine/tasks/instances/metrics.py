"""Metrics of instance segmentation: those of detection, of masks instead of boxes, and COCO's of boxes beside them.

A hit is an object of the right class whose mask overlaps that of the truth enough. Legend: D predicted objects of an
image, G true ones; B bytes of text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainingapp.contract.dataset_index import Sample
from trainingapp.contract.evaluation import StoredPrediction
from trainingapp.contract.run_lengths import area
from trainingapp.engine.tasks.detection.metrics import (
    ARRAYS,
    CocoKind,
    CocoScores,
    DetectionRecords,
    Floats,
    ImageResult,
    Ints,
)

Bytes = NDArray[np.uint8]
Rle = dict[str, Any]
"""A mask as COCO's programs take it: "size" (height, width) and "counts"."""

BOX_METRICS = ("ap", "ap50", "ap75")


@dataclass(frozen=True)
class InstanceResult(ImageResult):
    """With masks: `truth_runs_B` and `runs_B` are the packed run lengths of the objects, one a line, in ASCII; `size_2`
    is height and width of the image."""

    truth_runs_B: Bytes
    runs_B: Bytes
    size_2: Ints

    @classmethod
    def with_masks(
        cls,
        index: int,
        sample: Sample,
        truth: Sequence[str],
        boxes: ArrayLike,
        labels: ArrayLike,
        scores: ArrayLike,
        counts: Sequence[str],
    ) -> "InstanceResult":
        """As `ImageResult.of`, with the packed run lengths of the sample's boxes and of the predicted ones."""
        plain = ImageResult.of(index, sample.boxes, boxes, labels, scores)
        order_D = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable").tolist()
        values = {name: getattr(plain, name) for name in ("index", *ARRAYS)}
        sorted_counts = [counts[place] for place in order_D]
        size_2 = np.array([sample.height, sample.width], dtype=np.int64)
        return cls(**values, truth_runs_B=_text(truth), runs_B=_text(sorted_counts), size_2=size_2)

    @property
    def counts(self) -> list[str]:
        """The packed run lengths of the predicted objects."""
        return _lines(self.runs_B)

    @cached_property
    def overlaps_DG(self) -> Floats:
        """IoU of each mask with each true one; for a crowd the share of the mask that lies in it."""
        from faster_coco_eval.core import mask

        if not len(self.labels_D) or not len(self.truth_labels_G):
            return np.zeros((len(self.labels_D), len(self.truth_labels_G)))
        masks, truth = (self._rles(_lines(runs)) for runs in (self.runs_B, self.truth_runs_B))
        found = mask.iou(masks, truth, self.crowds_G.astype(np.uint8).tolist())
        return np.asarray(found, dtype=np.float64).reshape(len(masks), len(truth))

    def image_row(self) -> dict[str, int]:
        height, width = self.size_2.tolist()
        return {"id": self.index, "height": height, "width": width}

    def truth_rows(self) -> list[dict[str, Any]]:
        """With masks; the area is that of the mask, also where boxes are compared, as in COCO's own annotations."""
        texts = _lines(self.truth_runs_B)
        rows = zip(super().truth_rows(), texts, self._rles(texts), strict=True)
        return [row | {"area": area(text), "segmentation": rle} for row, text, rle in rows]

    def found_rows(self, kind: CocoKind) -> list[dict[str, Any]]:
        rows = super().found_rows(kind)
        if kind == "bbox":
            return rows
        given = zip(rows, self._rles(self.counts), strict=True)
        return [
            {name: value for name, value in row.items() if name != "bbox"} | {"segmentation": rle} for row, rle in given
        ]

    def prediction(self) -> StoredPrediction:
        """With the masks of the boxes."""
        made = super().prediction()
        return {**made, "masks": self.counts[: len(made["boxes"])]}

    def _rles(self, counts: Sequence[str]) -> list[Rle]:
        size = self.size_2.tolist()
        return [{"size": size, "counts": one} for one in counts]


class InstanceRecords(DetectionRecords):
    """The results of all validation images."""

    result: ClassVar[type[ImageResult]] = InstanceResult
    arrays: ClassVar[tuple[str, ...]] = (*ARRAYS, "truth_runs_B", "runs_B", "size_2")

    def coco(self, class_count: int) -> CocoScores:
        return CocoScores.of(self.results, class_count, "segm")

    def further_values(self, class_count: int) -> dict[str, float]:
        values = CocoScores.of(self.results, class_count).values()
        return {f"box_{name}": values[name] for name in BOX_METRICS if name in values}


def _text(counts: Sequence[str]) -> Bytes:
    return np.frombuffer("\n".join(counts).encode("ascii"), dtype=np.uint8)


def _lines(text_B: Bytes) -> list[str]:
    return text_B.tobytes().decode("ascii").split("\n") if len(text_B) else []
