"""Looking at a source before it is imported: what it is, what is in it, and what is wrong with its annotations."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainingapp.datasets.importing.layout_checks import check_layout
from trainingapp.datasets.importing.session import at_work
from trainingapp.datasets.options import ImportOptions
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.archive import open_source
from trainingapp.datasets.sources.formats.registry import read_layout
from trainingapp.datasets.sources.layout import Layout
from trainingapp.models import Dataset

MOST_FILES_NAMED = 50


def run_inspection(dataset: Dataset) -> None:
    """Read the annotations of `dataset.source` and propose how to import it, or refuse it. `dataset` is refreshed.

    No image is decoded but masks, which are annotations. Never raises for bad data; doing it again is harmless.
    """
    with at_work(dataset, Dataset.Status.INSPECTING, None) as work:
        if work:
            proposal = propose(Path(dataset.source), work.heartbeat.touch)
            work.heartbeat.update(
                status=Dataset.Status.PROPOSED,
                proposal=proposal,
                format=proposal["format"],
                tasks=proposal["tasks"],
                heartbeat_at=None,
            )


def propose(path: Path, beat: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """What `Dataset.proposal` holds for the zip or folder `path`.

    Raises DatasetError, with everything that is wrong, when nothing of it can be imported.
    """
    report = Report()
    with open_source(path) as source:
        layout = read_layout(source, report, beat)
    checked = check_layout(layout, ImportOptions(), report)
    report.raise_fatal()
    kinds = Counter(image.kind for image in layout.images)
    return {
        "format": layout.format,
        "tasks": list(checked.tasks),
        "classes": _classes(layout),
        "images": {"train": kinds["train"], "val": kinds["val"], "none": kinds[None]},
        "has_splits": bool(kinds["val"]),
        "files": layout.files[:MOST_FILES_NAMED],
        "report": report.items(),
    }


def _classes(layout: Layout) -> list[dict[str, Any]]:
    """In the order of the source; objects are those with a box or an outline of their own."""
    images = Counter(label for image in layout.images for label in image.seen())
    objects = Counter(shape.label for image in layout.images for shape in image.shapes if not shape.crowd)
    return [
        {"name": name, "images": images[label], "objects": objects[label]} for label, name in enumerate(layout.classes)
    ]
