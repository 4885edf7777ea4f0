"""The splits that a source brings along."""

from collections import Counter
from dataclasses import replace

from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.layout import Kind, Layout


def settle_splits(layout: Layout, report: Report) -> Layout:
    """Without test images: they are left out, or serve for validation where nothing else does.

    Where all images are of one part that is not for training, as in a single folder of a larger set, none has a part.
    """
    counts = Counter(image.kind for image in layout.images)
    if counts.keys() in ({"test"}, {"val"}):
        return replace(layout, images=[replace(image, kind=None) for image in layout.images])
    if not counts["test"]:
        return layout
    if counts["val"]:
        first = next(image for image in layout.images if image.kind == "test")
        message = f"{counts['test']:,} images of the test split left out."
        report.warn("test_left_out", message, first.file.path, count=counts["test"])
        return replace(layout, images=[image for image in layout.images if image.kind != "test"])
    report.warn("test_as_val", "There are no validation images; the test split is used for validation.")
    kinds: dict[Kind | None, Kind] = {"test": "val", "train": "train"}
    images = [replace(image, kind=kinds.get(image.kind)) for image in layout.images]
    return replace(layout, images=images)
