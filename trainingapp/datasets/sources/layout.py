"""The content of a source as a format reads it: classes, images and their annotations. No image is decoded yet."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainingapp.contract.dataset_index import LabelMode
from trainingapp.contract.messages import Message
from trainingapp.contract.tasks.descriptor import Annotation
from trainingapp.contract.tasks.registry import tasks_for
from trainingapp.datasets.sources.offers import Offer
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

Kind = Literal["train", "val", "test"]
"""The split that the source assigns to an image; `settle_splits` turns it into a split of the dataset."""

NOWHERE = Position("")
BACKGROUND, IGNORED, UNKNOWN = -1, -2, -3
"""What a pixel of a mask can be apart from a class."""


@dataclass(frozen=True, slots=True)
class Rle:
    """A mask as run lengths down the columns, background first (COCO). `counts` is a list, or COCO's packed text.

    A mask of 0 x 0 pixels has the size of its image, and pixels after the last run are background. With `by_rows`, the
    runs go along the rows.
    """

    height: int
    width: int
    counts: "array[int] | str"
    by_rows: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """An annotated object.

    `box` is left, top, right, bottom with right and bottom exclusive. A polygon is x, y, x, y, ... as 32-bit values,
    half the size of Python numbers. Both are in pixels, or normalized to the upright image if `relative`. A missing box
    is computed from the polygons or run lengths. `mask_value` is the value of its pixels in a mask file with objects.
    """

    label: int
    where: Position
    box: tuple[float, float, float, float] | None = None
    polygons: tuple["array[float]", ...] = ()
    rle: Rle | None = None
    crowd: bool = False
    relative: bool = False
    mask_value: int = 0

    @property
    def has_outline(self) -> bool:
        return bool(self.polygons or self.rle)

    @property
    def has_place(self) -> bool:
        """Whether the position of the object in the image is known."""
        return self.box is not None or self.has_outline


class StoredShapes(Sequence[Shape]):
    """Objects in compact storage; these methods do not create a `Shape` for each object."""

    def seen(self) -> set[int]:
        """The labels of the objects."""
        raise NotImplementedError

    def outlined(self) -> int:
        """The number of objects with an outline."""
        raise NotImplementedError

    def placed(self) -> int:
        """The number of objects with a box or an outline."""
        raise NotImplementedError

    def relabelled(self, targets: Sequence[int]) -> "StoredShapes":
        """The objects with each label replaced by `targets[label]`, without those for which it is negative."""
        raise NotImplementedError


def labels_of(shapes: Sequence[Shape]) -> set[int]:
    """The labels of the objects."""
    return shapes.seen() if isinstance(shapes, StoredShapes) else {shape.label for shape in shapes}


def count_outlined(shapes: Sequence[Shape]) -> int:
    """The number of objects with an outline."""
    return shapes.outlined() if isinstance(shapes, StoredShapes) else sum(shape.has_outline for shape in shapes)


def count_placed(shapes: Sequence[Shape]) -> int:
    """The number of objects with a box or an outline."""
    return shapes.placed() if isinstance(shapes, StoredShapes) else sum(shape.has_place for shape in shapes)


def relabelled(shapes: Sequence[Shape], targets: Sequence[int]) -> Sequence[Shape]:
    """The objects with each label replaced by `targets[label]`, without those for which it is negative."""
    if isinstance(shapes, StoredShapes):
        return shapes.relabelled(targets)
    return tuple(replace(shape, label=targets[shape.label]) for shape in shapes if targets[shape.label] >= 0)


@dataclass(frozen=True)
class MaskCoding:
    """The meaning of mask pixels: `targets[i]` is a class, BACKGROUND or IGNORED for the value `keys[i]`.

    A key is the value of a gray or indexed pixel, or red << 16 | green << 8 | blue if `in_colour`. Keys are ascending.
    """

    in_colour: bool
    keys: NDArray[np.int32]
    targets: NDArray[np.int16]

    @classmethod
    def of(cls, targets: dict[int, int], *, in_colour: bool = False) -> "MaskCoding":
        keys = sorted(targets)
        return cls(in_colour, np.array(keys, np.int32), np.array([targets[key] for key in keys], np.int16))

    def meanings(self, values_HW: NDArray[np.int32]) -> NDArray[np.int16]:
        """(H, W) class, BACKGROUND, IGNORED, or UNKNOWN for values without a meaning."""
        places_HW = np.searchsorted(self.keys, values_HW).clip(max=len(self.keys) - 1)
        return np.where(self.keys[places_HW] == values_HW, self.targets[places_HW], np.int16(UNKNOWN))


@dataclass(frozen=True, slots=True)
class MaskFile:
    """An image whose pixels are classes. `seen` are the classes found in it, if it has been read.

    With `has_objects`, each object of the image has a value of its own (see `Shape`).
    """

    file: SourceFile
    coding: MaskCoding
    seen: tuple[int, ...] = ()
    has_objects: bool = False


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image to import; `stored_path` is its path in the dataset folder.

    `label` is -1 for an image without a label of its own. `labels` are all classes of an image, in ascending order;
    they are used only in a layout with the annotation "multi_labels", where an image may also have none. Without a
    `kind`, the split is chosen by the content of the image. `declared_size` is width and height in pixels according to
    the annotations at `where`, (0, 0) if missing.
    """

    file: SourceFile
    stored_path: str
    kind: Kind | None = None
    label: int = -1
    shapes: Sequence[Shape] = ()
    mask: MaskFile | None = None
    declared_size: tuple[int, int] = (0, 0)
    where: Position = NOWHERE
    labels: tuple[int, ...] = ()
    unusable: int = 0
    """Objects that the reader could not use. An image that has no others is left out: it is no background."""

    def seen(self) -> set[int]:
        """The classes in the image according to its annotations."""
        own = {self.label, *self.labels} if self.label >= 0 else set(self.labels)
        return own | labels_of(self.shapes) | set(self.mask.seen if self.mask else ())


@dataclass(frozen=True, slots=True)
class UnreadFiles:
    """Files of one suffix (lower case, with the dot; "" if none) that were not read, and the reason."""

    suffix: str
    reason: Message
    count: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The content of a source. `annotations` are the kinds of its annotations, the most informative one first."""

    format: str
    annotations: list[Annotation]
    classes: list[str]
    images: list[SourceImage] = field(repr=False)
    files: list[str] = field(default_factory=list)
    """Annotation files that were read."""
    split_origin: Message | None = None
    """Where the splits come from (`contract/messages/dataset_reading.py`). `settle_splits` derives it from the names of
    folders where a format leaves it open, and says so where there are none."""
    offers: tuple[Offer, ...] = ()
    """The reading choices that make a difference; those noted in `Files.offers` are added by `read_layout`."""
    unread: tuple[UnreadFiles, ...] = ()
    """The files that were neither read nor imported."""

    @property
    def tasks(self) -> list[str]:
        """The tasks that the annotations support, in their order."""
        return tasks_for(self.annotations)

    @property
    def has_labels_only(self) -> bool:
        """Whether the only annotations are the labels of the images."""
        return self.annotations == ["labels"]

    @property
    def has_multi_labels(self) -> bool:
        """Whether an image may have several labels of its own, or none."""
        return "multi_labels" in self.annotations

    @property
    def label_mode(self) -> LabelMode:
        return "multi" if self.has_multi_labels else "single"

    @property
    def has_splits(self) -> bool:
        return any(image.kind for image in self.images)
