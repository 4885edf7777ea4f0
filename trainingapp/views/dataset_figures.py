"""What is known of a dataset in figures: its classes, and histograms drawn by the server."""

from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from trainingapp.contract.class_colours import class_colour
from trainingapp.contract.number_text import number_text
from trainingapp.models import Dataset

#: Histogram -> its title, what its edges are multiplied with, with how many digits they are written (None: as whole
#: numbers), and in which unit.
HISTOGRAMS: dict[str, tuple[str | Promise, float, int | None, str]] = {
    "width": (gettext_lazy("Width of the images, pixels"), 1, None, ""),
    "height": (gettext_lazy("Height of the images, pixels"), 1, None, ""),
    "aspect": (gettext_lazy("Width by height of the images"), 1, 3, ""),
    "objects_per_image": (gettext_lazy("Objects in an image"), 1, None, ""),
    "box_area": (gettext_lazy("Share of the image in a box"), 100, 2, " %"),
    "box_aspect": (gettext_lazy("Width by height of the boxes"), 1, 3, ""),
}
SPLITS = ("train", "val")
#: Units of the drawing: a bar's whole width, the height of all, the least height that is seen.
_BAR, _GAP, _HEIGHT, _LEAST = 100, 6, 1000, 12


def class_rows(dataset: Dataset) -> list[dict[str, Any]]:
    """A row of the table for each class: images, objects and share of the pixels by split, None where not known."""
    known = {item["name"]: item for item in dataset.statistics.get("classes", [])}
    rows = []
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
            }
        )
    most = max((row["total"] for row in rows), default=0) or 1
    return [row | {"most": most} for row in rows]


def figures_context(dataset: Dataset) -> dict[str, Any]:
    """What _figures.html and the table of classes show."""
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


def _histogram(name: str, values: dict[str, list[float]]) -> dict[str, Any]:
    """A histogram as _figures.html draws it: all lengths are texts, so that no language writes them with a comma.

    `only` is the one value that all have; there is nothing to draw then. The last bin holds what is beyond it, too.
    """
    title, factor, digits, unit = HISTOGRAMS[name]
    edges, counts = [_edge(edge * factor, digits) + unit for edge in values["edges"]], values["counts"]
    labels = _bin_labels(values["edges"], edges)
    most = max(counts)
    drawn = {
        "name": name,
        "title": title,
        "only": labels[0] if len(set(edges)) == 1 or len(counts) == 1 else "",
        "width": str(len(counts) * _BAR),
        "height": str(_HEIGHT),
        "bars": [
            _bar(place, count, most, f"{label}: {count}")
            for place, (label, count) in enumerate(zip(labels, counts, strict=True))
        ],
        "ticks": [edges[0], *(edges[len(counts) // 2 :][:1] if len(counts) > 3 else []), f"≥ {edges[-2]}"],
    }
    summary = _("%(title)s: from %(least)s on, most often %(peak)s.")
    bounds = {"title": title, "least": edges[0], "peak": labels[counts.index(most)]}
    return drawn | {"summary": summary % bounds}


def _edge(value: float, digits: int | None) -> str:
    return f"{value:.0f}" if digits is None else number_text(value, digits=digits)


def _bin_labels(edges: list[float], texts: list[str]) -> list[str]:
    """What each bin holds. Bins of whole numbers that begin at one end before the next: 3 – 5, then 6 – 8."""
    if len(set(texts)) == 1:
        return texts[1:]
    whole = all(float(edge).is_integer() for edge in edges)
    ends = [f"{edge - 1:.0f}" for edge in edges[1:]] if whole else texts[1:]
    labels = [low if low == high else f"{low} – {high}" for low, high in zip(texts, ends, strict=False)]
    if len(labels) > 1:
        labels[-1] = _("%(least)s and more") % {"least": texts[-2]}
    return labels


def _bar(place: int, count: float, most: float, text: str) -> dict[str, str]:
    height = max(_LEAST, round(count / most * _HEIGHT)) if count else 0
    return {
        "x": str(place * _BAR + _GAP),
        "y": str(_HEIGHT - height),
        "w": str(_BAR - 2 * _GAP),
        "h": str(height),
        "text": text,
    }
