"""Inspection of a source before its import: its format, its content and errors in its annotations."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from trainingapp.datasets.import_rights import link_rule
from trainingapp.datasets.importing.layout_checks import check_layout
from trainingapp.datasets.importing.reading_record import ReadingRecord, record_of
from trainingapp.datasets.importing.session import Progress, import_session
from trainingapp.datasets.options import AUTO, ClassChoice, ImportOptions, ReadingOptions
from trainingapp.datasets.report import DatasetError, Report, ReportItem
from trainingapp.datasets.sources.folders import LinkRule, within_the_folder
from trainingapp.datasets.sources.formats.registry import read_layout
from trainingapp.datasets.sources.opening import UNPACKED_DIR, open_source
from trainingapp.models import Dataset

MOST_FILES_NAMED = 50


class ClassCounts(TypedDict):
    """A class of the source. Only annotations with a box or an outline count as objects."""

    name: str
    images: int
    objects: int


class Proposal(TypedDict):
    """The content of `Dataset.proposal`. `images` counts by split of the source, "none" for images without a split."""

    format: str
    tasks: list[str]
    classes: list[ClassCounts]
    images: dict[str, int]
    has_splits: bool
    files: list[str]
    reading: ReadingRecord
    report: list[ReportItem]


def run_inspection(dataset: Dataset, *, on_progress: Progress | None = None) -> None:
    """Read the annotations of `dataset.source` and propose how to import it, or refuse it. `dataset` is refreshed.

    Masks are decoded, since they are annotations; images are not. Does not raise for bad data; it can be repeated.
    """
    with import_session(dataset, Dataset.Status.INSPECTING, on_progress) as session:
        if session:
            options = ImportOptions.model_validate(dataset.options)
            source, scratch = Path(dataset.source), session.folder / UNPACKED_DIR
            proposal = propose(source, session.heartbeat.touch, options.reading, scratch, link_rule(dataset))
            if options.classes:
                options = _carried_over(options, dataset.proposal.get("classes", []), proposal["classes"])
            session.heartbeat.update(
                status=Dataset.Status.PROPOSED,
                proposal=proposal,
                format=proposal["format"],
                tasks=proposal["tasks"],
                reading=proposal["reading"],
                options=options.model_dump(mode="json") if dataset.options else {},
            )


def _carried_over(options: ImportOptions, old: list[ClassCounts], new: list[ClassCounts]) -> ImportOptions:
    """The options with the class entries of an earlier inspection, for classes that still exist.

    New classes are imported unchanged, after the others.
    """
    known, found = {row["name"] for row in old}, [row["name"] for row in new]
    kept = [
        ClassChoice(name=choice.name, sources=sources)
        for choice in options.classes
        if (sources := [source for source in choice.sources if source in found])
    ]
    added = [ClassChoice(name=name, sources=[name]) for name in found if name not in known]
    # A new class may have the name that an old class was renamed to: both are merged, as on the page.
    return options.model_copy(update={"classes": [*kept, *added] if kept else []})


def propose(
    path: Path,
    beat: Callable[[], None] = lambda: None,
    reading: ReadingOptions = AUTO,
    scratch: Path | None = None,
    may_follow: LinkRule = within_the_folder,
) -> Proposal:
    """How the archive or folder `path` can be imported. Raises DatasetError with all errors if it cannot.

    `scratch` and `may_follow` are those of `open_source`.
    """
    report = Report()
    with open_source(path, reading, scratch, may_follow) as source:
        layout = read_layout(source, report, beat, reading)
    try:
        checked = check_layout(layout, ImportOptions(), report)
        report.raise_fatal()
    except DatasetError as error:
        error.offers = layout.offers
        raise
    kinds = Counter(image.kind for image in layout.images)
    images = Counter(label for image in layout.images for label in image.seen())
    objects = Counter(shape.label for image in layout.images for shape in image.shapes if not shape.crowd)
    return {
        "format": layout.format,
        "tasks": list(checked.tasks),
        "classes": [
            {"name": name, "images": images[label], "objects": objects[label]}
            for label, name in enumerate(layout.classes)
        ],
        "images": {"train": kinds["train"], "val": kinds["val"], "none": kinds[None]},
        "has_splits": bool(kinds["val"]),
        "files": layout.files[:MOST_FILES_NAMED],
        "reading": record_of(layout),
        "report": report.items(),
    }
