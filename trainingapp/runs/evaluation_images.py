"""Validation images with the truth and what the model made of them."""

from dataclasses import asdict, dataclass

from django.urls import reverse

from trainingapp.contract.class_colours import class_colour
from trainingapp.contract.dataset_index import Sample
from trainingapp.contract.evaluation import SHOWN_PER_CLASS
from trainingapp.contract.run_lengths import path_of, read_outlines
from trainingapp.datasets.previews import UNKNOWN_COLOUR, fold_places, image_page
from trainingapp.models import TrainingRun
from trainingapp.runs.evaluations import EvaluationFile, Prediction, file_version

IMAGE_PIXELS = 320
#: Images of all classes together.
MOST_IMAGES = 24
#: Boxes drawn on one image, the surest; below this confidence none is.
MOST_BOXES = 100
LEAST_CONFIDENCE = 0.02
GUESSES = 3
#: Where the file names no best confidence, boxes below this are hidden at first.
USUAL_CONFIDENCE = 0.3


@dataclass(frozen=True)
class Chip:
    """A class by name; `share` is its probability, `is_right` whether it is the label."""

    name: str
    colour: str
    share: float | None = None
    is_right: bool = False


@dataclass(frozen=True)
class DrawnBox:
    """A box in pixels of the upright image, as texts for SVG. `outline` is the path around the mask of its object, or
    empty."""

    name: str
    colour: str
    x: str
    y: str
    width: str
    height: str
    is_crowd: bool = False
    confidence: float | None = None
    outline: str = ""


@dataclass(frozen=True)
class Layer:
    """The overlay (boxes, mask) and the captions (chips) of an image."""

    chips: list[Chip]
    boxes: list[DrawnBox]
    mask_url: str = ""


@dataclass(frozen=True)
class Card:
    """`truth` is None where the dataset does not (or no longer) have the image, `prediction` where none was stored.

    `page_url` is the page of the image in the dataset; empty without one.
    """

    index: int
    path: str
    url: str
    width: int
    height: int
    truth: Layer | None
    prediction: Layer | None
    score: float | None
    page_url: str


class Gallery:
    """Makes the cards of one evaluation."""

    def __init__(self, run: TrainingRun, content: EvaluationFile) -> None:
        self._run, self._content = run, content
        self._version = file_version(run, content.epoch)

    def fixed(self, *, most: int | None = None) -> list[Card]:
        """The images that are the same at every validation, at most `most` of them."""
        content = self._content
        known = [index for index in content.fixed if index in content.paths]
        return [self._card(index, content.paths[index], None) for index in known[:most]]

    def notable(self, *, best: bool, label: int | None) -> list[Card]:
        """The worst (or best) images, the very worst (best) first; with `label` those that show that class."""
        found = [one for one in self._content.images if label is None or label in one.labels]
        ordered = found[::-1] if best else found
        most = MOST_IMAGES if label is None else SHOWN_PER_CLASS
        return [self._card(one.index, one.path, one.score) for one in ordered[:most]]

    def at(self, index: int) -> Card:
        """Any image of the validation split; its prediction only where the file has it."""
        path = self._content.paths.get(index, "")
        if not path:
            found = self._at(index)
            path = found.path if found else ""
        return self._card(index, path, None)

    def _card(self, index: int, path: str, score: float | None) -> Card:
        sample = self._sample(index, path)
        made = self._content.predictions.get(index)
        url = self._image_url(path) if path else ""
        size = (sample.width, sample.height) if sample else (0, 0)
        truth = self._truth(sample) if sample else None
        prediction = self._prediction(index, made, sample) if made else None
        page_url = self._page_url(index) if sample else ""
        return Card(index, path, url, *size, truth, prediction, score, page_url)

    def _sample(self, index: int, path: str) -> Sample | None:
        """The image as the dataset knows it; None where its files are gone or are others."""
        found = self._at(index)
        return found if found and found.path == path else None

    def _at(self, index: int) -> Sample | None:
        """The image with this number among those that the run validates on; None where the dataset has none."""
        try:
            split, place = self._place(max(0, index))
            found = image_page(self._run.dataset, split=split, offset=place, limit=1).images
        except (OSError, LookupError, ValueError):
            return None
        return found[0] if found else None

    def _place(self, index: int) -> tuple[str | None, int]:
        """A split (None: all images) and the place in it, from 0. Raises OSError, LookupError and ValueError."""
        folds, fold = (int(self._run.config.get(name, 0)) for name in ("folds", "fold"))
        return (None, fold_places(self._run.dataset, folds, fold)[index]) if folds else ("val", index)

    def _truth(self, sample: Sample) -> Layer:
        kind = self._content.kind
        chips = [self._chip(label) for label in _own_labels(sample)] if kind == "classes" else []
        shown = sample.boxes if self._content.has_boxes else ()
        outlines = _paths(self._true_masks(sample) if kind == "objects" else [], len(shown), sample)
        boxes = [
            self._box(box.label, (box.left, box.top, box.right, box.bottom), is_crowd=box.crowd, outline=outline)
            for box, outline in zip(shown, outlines, strict=True)
        ]
        mask = sample.mask if kind == "mask" else ""
        url = self._true_mask_url(mask) if mask else ""
        return Layer(chips, boxes, url)

    def _true_masks(self, sample: Sample) -> list[str]:
        """The packed run lengths of the boxes; none where their file is missing or damaged."""
        try:
            return read_outlines(self._run.dataset.folder / sample.outlines) if sample.outlines else []
        except (OSError, ValueError):
            return []

    def _prediction(self, index: int, made: Prediction, sample: Sample | None) -> Layer:
        truth = _own_labels(sample) if sample else []
        guesses = (made.classes or [])[:GUESSES]
        if made.labels is not None:  # an image can have several labels: the classes that reach their threshold
            guesses = [guess for guess in made.classes or [] if guess[0] in made.labels]
        chips = [self._chip(label, share, is_right=label in truth) for label, share in guesses]
        found = made.boxes or []
        surest = sorted(range(len(found)), key=lambda place: -found[place][1])[:MOST_BOXES]
        surest = [place for place in surest if found[place][1] >= LEAST_CONFIDENCE]
        masks = made.masks if made.masks and len(made.masks) == len(found) else [""] * len(found)
        outlines = _paths([masks[place] for place in surest], len(surest), sample)
        boxes = [
            self._box(found[place][0], found[place][2:], confidence=found[place][1], outline=outline)
            for place, outline in zip(surest, outlines, strict=True)
        ]
        return Layer(chips, boxes, self._predicted_mask_url(index) if made.mask else "")

    # The addresses of what is drawn; a report puts the images themselves there.

    def _image_url(self, path: str) -> str:
        return f"{reverse('dataset_image', args=[self._run.dataset_id, path])}?size={IMAGE_PIXELS}"

    def _true_mask_url(self, path: str) -> str:
        return self._image_url(path)

    def _predicted_mask_url(self, index: int) -> str:
        address = reverse("evaluation_mask", args=[self._run.pk, self._content.epoch, index])
        return f"{address}?version={self._version}"

    def _page_url(self, index: int) -> str:
        split, place = self._place(index)
        return f"{reverse('dataset_view', args=[self._run.dataset_id, place + 1])}{'?split=val' if split else ''}"

    def _chip(self, label: int, share: float | None = None, *, is_right: bool = False) -> Chip:
        return Chip(self._content.class_name(label), _colour(label), share, is_right)

    def _box(
        self,
        label: int,
        xyxy: tuple[float, float, float, float],
        *,
        is_crowd: bool = False,
        confidence: float | None = None,
        outline: str = "",
    ) -> DrawnBox:
        left, top, right, bottom = xyxy
        width, height = max(0.0, right - left), max(0.0, bottom - top)
        x, y, w, h = (f"{value:.6g}" for value in (left, top, width, height))
        return DrawnBox(self._content.class_name(label), _colour(label), x, y, w, h, is_crowd, confidence, outline)


def _paths(masks: list[str], count: int, sample: Sample | None) -> list[str]:
    """The masks of `count` boxes as paths of an SVG; empty where a mask or the size of the image is not known."""
    if sample is None or len(masks) != count:
        return [""] * count
    return [path_of(mask, sample.height, sample.width) if mask else "" for mask in masks]


def _own_labels(sample: Sample) -> list[int]:
    """The labels of the image itself."""
    if sample.labels is not None:
        return list(sample.labels)
    return [sample.label] if sample.label >= 0 else []


def _colour(label: int) -> str:
    return class_colour(label) if label >= 0 else UNKNOWN_COLOUR


def legend(content: EvaluationFile) -> list[Chip]:
    """The colours of the classes, where images show them by colour alone."""
    if content.kind == "classes":
        return []
    return [Chip(name, _colour(label)) for label, name in enumerate(content.classes[:MOST_IMAGES])]


def as_data(card: Card) -> dict[str, object]:
    """The card as JSON has it."""
    return asdict(card)
