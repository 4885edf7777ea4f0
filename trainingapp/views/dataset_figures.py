"""The statistics of a dataset: the table of its classes, and histograms drawn by the server."""

from typing import TypedDict

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from trainingapp.contract.class_colours import class_colour
from trainingapp.contract.number_text import number_text
from trainingapp.datasets.importing.statistics import Histogram
from trainingapp.models import Dataset

#: Histogram -> title, factor of its edges, number of digits (None: whole numbers) and unit.
HISTOGRAMS: dict[str, tuple[str | Promise, float, int | None, str]] = {
    "width": (gettext_lazy("Image width (pixels)"), 1, None, ""),
    "height": (gettext_lazy("Image height (pixels)"), 1, None, ""),
    "aspect": (gettext_lazy("Image aspect ratio (width / height)"), 1, 3, ""),
    "labels_per_image": (gettext_lazy("Labels per image"), 1, None, ""),
    "objects_per_image": (gettext_lazy("Objects per image"), 1, None, ""),
    "box_area": (gettext_lazy("Box area (share of the image)"), 100, 2, " %"),
    "box_aspect": (gettext_lazy("Box aspect ratio (width / height)"), 1, 3, ""),
}
SPLITS = ("train", "val")
#: Units of the drawing: width of a bar with its gap, the gap, full height, and the least visible height.
_BAR, _GAP, _HEIGHT, _LEAST = 100, 6, 1000, 12


class ClassRow(TypedDict):
    """A row of the table of classes. Counts and shares are by split, empty where they are not known.

    `total` counts images, `most` is the largest total of all classes.
    """

    name: str
    colour: str
    images: dict[str, int]
    objects: dict[str, int]
    pixels: dict[str, float]
    total: int
    most: int


class Bar(TypedDict):
    """A bar of a histogram. Lengths are strings, so that no language formats them with a decimal comma."""

    x: str
    y: str
    w: str
    h: str
    text: str


class HistogramView(TypedDict):
    """A histogram as _figures.html draws it. `only` is the value that all images share; then nothing is drawn."""

    name: str
    title: str
    only: str
    width: str
    height: str
    bars: list[Bar]
    ticks: list[str]
    summary: str


def class_rows(dataset: Dataset) -> list[ClassRow]:
    """A row for each class, in the order of the labels."""
    known = {item["name"]: item for item in dataset.statistics.get("classes", [])}
    rows: list[ClassRow] = []
    for label, name in enumerate(dataset.classes):
        found = known.get(name, {})
        images = found.get("images") or {split: dataset.counts.get(split, {}).get(name, 0) for split in SPLITS}
        rows.append(
            {
                "name": name,
                "colour": class_colour(label),
                "images": images,
                "objects": found.get("objects") or {},
                "pixels": found.get("pixels") or {},
                "total": sum(images.get(split, 0) for split in SPLITS),
                "most": 1,
            }
        )
    most = max((row["total"] for row in rows), default=0) or 1
    return [{**row, "most": most} for row in rows]


def figures_context(dataset: Dataset) -> dict[str, object]:
    """The context of _figures.html and of the table of classes."""
    rows = class_rows(dataset)
    return {
        "classes": rows,
        "with_objects": any(sum(row["objects"].values()) for row in rows),
        "with_pixels": any(row["pixels"] for row in rows),
        "objects": dataset.statistics.get("objects", {}),
        "histograms": [
            _histogram(name, dataset.statistics["histograms"][name])
            for name in HISTOGRAMS
            if any(dataset.statistics.get("histograms", {}).get(name, {}).get("counts", ()))
        ],
    }


def _histogram(name: str, values: Histogram) -> HistogramView:
    title, factor, digits, unit = HISTOGRAMS[name]
    scaled, counts = [edge * factor for edge in values["edges"]], values["counts"]
    edges = [(f"{edge:.0f}" if digits is None else number_text(edge, digits=digits)) + unit for edge in scaled]
    labels = _bin_labels(values["edges"], edges)
    most = max(counts)
    summary = _("%(title)s: minimum %(least)s, most frequent %(peak)s.")
    bounds = {"title": title, "least": edges[0], "peak": labels[counts.index(most)]}
    return {
        "name": name,
        "title": str(title),
        "only": labels[0] if len(set(edges)) == 1 or len(counts) == 1 else "",
        "width": str(len(counts) * _BAR),
        "height": str(_HEIGHT),
        "bars": [
            _bar(place, count, most, f"{label}: {count}")
            for place, (label, count) in enumerate(zip(labels, counts, strict=True))
        ],
        # The last bin also holds the values beyond it (see statistics.histogram), hence its label.
        "ticks": [edges[0], *(edges[len(counts) // 2 :][:1] if len(counts) > 3 else []), f"≥ {edges[-2]}"],
        "summary": summary % bounds,
    }


def _bin_labels(edges: list[float], texts: list[str]) -> list[str]:
    """The range of each bin. Bins of whole numbers end before the next one starts: 3 – 5, then 6 – 8."""
    if len(set(texts)) == 1:
        return texts[1:]
    whole = all(float(edge).is_integer() for edge in edges)
    ends = [f"{edge - 1:.0f}" for edge in edges[1:]] if whole else texts[1:]
    labels = [low if low == high else f"{low} – {high}" for low, high in zip(texts, ends, strict=False)]
    if len(labels) > 1:
        labels[-1] = _("%(least)s or more") % {"least": texts[-2]}
    return labels


def _bar(place: int, count: float, most: float, text: str) -> Bar:
    height = max(_LEAST, round(count / most * _HEIGHT)) if count else 0
    return {
        "x": str(place * _BAR + _GAP),
        "y": str(_HEIGHT - height),
        "w": str(_BAR - 2 * _GAP),
        "h": str(height),
        "text": text,
    }
