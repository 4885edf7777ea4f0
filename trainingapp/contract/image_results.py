"""The result of every validation image: RUN_DIR/evaluations/epoch_{n}.npz, beside the evaluation file (no torch).

With it, two validations can be compared image by image. It is an archive of NumPy with

    format, kind, step   1, the kind and the step of the validation
    paths                SHA-256 of the paths of the validation split, one a line
    quality_N            float32, how well the image was predicted, from 0 to 1; NaN where that is not defined

and, by kind, with indices of images of the validation split and of classes:

    "classes"   one label per image: truth_N, guess_N, in_top5_N, loss_N; quality is 1 where the guess is right
    "labels"    several labels per image: truth_NC, chance_NC (float32), loss_N, thresholds_C; quality is 1 where
                exactly the labels of the image reach their thresholds
    "boxes"     truth_image_G, truth_label_G (without crowds); for each box, by image and descending score, image_D,
                label_D, score_D, hits_D and ignored_D: bit t is set where the box is a hit, or lies in a crowd and is
                not counted, at the t-th of IOU_THRESHOLDS; confidence: that of the best F1 (NaN without); quality is
                the F1 of the image at that confidence
    "mask"      for each class that an image shows or was predicted to show image_M, value_M (0: background, i + 1:
                class i), hit_M, true_M and guessed_M in pixels; first_value: 1 where the background is left out;
                quality is the mean IoU of the classes that the image shows
"""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
MOST_VALUES = 8_000_000
"""Numbers of a file at most; a validation with more has none. 8,000,000 are about 10 MB on the disk."""

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""COCO's."""

BOXES_PER_CLASS = 100
"""Boxes of one class of an image that count, as in COCO's evaluation."""

Array = NDArray[Any]

_NAMES: dict[str, tuple[str, ...]] = {
    "classes": ("truth_N", "guess_N", "in_top5_N", "loss_N"),
    "labels": ("truth_NC", "chance_NC", "loss_N", "thresholds_C"),
    "boxes": ("truth_image_G", "truth_label_G", "image_D", "label_D", "score_D", "hits_D", "ignored_D", "confidence"),
    "mask": ("image_M", "value_M", "hit_M", "true_M", "guessed_M", "first_value"),
}


class ImageResultsError(ValueError):
    """The file cannot be used."""


@dataclass(frozen=True)
class ImageResults:
    """The results of the images of a validation; see the head of the module for `kind` and `arrays`."""

    kind: str
    quality_N: Array
    arrays: Mapping[str, Array]

    def __post_init__(self) -> None:
        """Raises ImageResultsError for arrays that contradict the kind."""
        if self.kind not in _NAMES or set(self.arrays) != set(_NAMES[self.kind]) or self.quality_N.ndim != 1:
            raise ImageResultsError(f"kind {self.kind!r} with {sorted(self.arrays)}")
        ends: dict[str, set[int]] = {}
        for name, values in {"quality_N": self.quality_N, **self.arrays}.items():
            axes = name.rpartition("_")[2] if name.rpartition("_")[2].isupper() else ""
            if values.ndim != len(axes) or values.dtype.kind not in "biuf":
                raise ImageResultsError(f"{name} has the shape {values.shape} and the type {values.dtype}")
            for axis, length in zip(axes, values.shape, strict=True):
                ends.setdefault(axis, set()).add(length)
        if any(len(lengths) > 1 for lengths in ends.values()):
            raise ImageResultsError(f"lengths {ends}")
        for name in (name for name in self.arrays if "image_" in name):
            if len(self.arrays[name]) and not 0 <= self.arrays[name].min() <= self.arrays[name].max() < self.count:
                raise ImageResultsError(f"{name} is out of range")

    @property
    def count(self) -> int:
        """Images of the validation split."""
        return len(self.quality_N)

    def shown_labels(self) -> tuple[Array, Array]:
        """int64 [S], int64 [S]: pairs of an image and a class that it shows, each once."""
        found = self.arrays
        pairs: tuple[Array, ...]
        if self.kind == "classes":
            pairs = np.arange(self.count), found["truth_N"]
        elif self.kind == "labels":
            pairs = found["truth_NC"].nonzero()
        elif self.kind == "boxes":
            pairs = found["truth_image_G"], found["truth_label_G"]
        else:
            shown_M = (found["true_M"] > 0) & (found["value_M"] > 0)
            pairs = found["image_M"][shown_M], found["value_M"][shown_M].astype(np.int64) - 1
        both = np.unique(np.stack([part.astype(np.int64) for part in pairs]), axis=1)
        return both[0], both[1]


def paths_digest(paths: Sequence[str]) -> str:
    """SHA-256 in hex of the paths, one a line: equal for equal validation splits."""
    return hashlib.sha256("\n".join(paths).encode()).hexdigest()


def write_image_results(path: Path, found: ImageResults | None, *, step: int, paths: Sequence[str]) -> None:
    """Write the file atomically; without results, or with more than MOST_VALUES, one that is there is removed.

    Raises OSError.
    """
    if found is None or sum(values.size for values in found.arrays.values()) > MOST_VALUES:
        path.unlink(missing_ok=True)
        return
    about = {"format": FORMAT, "kind": found.kind, "step": step, "paths": paths_digest(paths)}
    temporary = path.with_suffix(".tmp")
    values = {
        **{name: np.asarray(value) for name, value in about.items()},
        "quality_N": found.quality_N,
        **found.arrays,
    }
    # As np.savez_compressed, which can refuse objects only from NumPy 2.2 on.
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in values.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)
    temporary.replace(path)


@dataclass(frozen=True)
class StoredResults:
    """The content of a file: the results, the step of the validation and the digest of the paths of its images."""

    results: ImageResults
    step: int
    paths: str


def read_image_results(path: Path) -> StoredResults:
    """Raises FileNotFoundError, and ImageResultsError for a file that is damaged or too large."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if sum(info.file_size for info in archive.zip.infolist()) > 16 * MOST_VALUES:
                raise ImageResultsError(f"{path.name} is too large")
            parts = {name: archive[name] for name in archive.files}
        if int(parts.pop("format")) != FORMAT:
            raise ImageResultsError(f"{path.name} has another format")
        kind, step, paths = str(parts.pop("kind")), int(parts.pop("step")), str(parts.pop("paths"))
        return StoredResults(ImageResults(kind, parts.pop("quality_N"), parts), step, paths)
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ImageResultsError(str(error)) from None
