"""The splits that a source brings along."""

from collections import Counter
from dataclasses import replace

from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.layout import Kind, Layout


def settle_splits(layout: Layout, report: Report) -> Layout:
    """The layout without test images: they are left out, or used for validation where there are no others.

    Where all images belong to one split that is not for training, as in a single folder of a larger set, none keeps it.
    """
    counts = Counter(image.kind for image in layout.images)
    if counts.keys() in ({"test"}, {"val"}):
        return replace(layout, images=[replace(image, kind=None) for image in layout.images])
    if not counts["test"]:
        return layout
    if counts["val"]:
        first = next(image for image in layout.images if image.kind == "test")
        message = messages.TEST_LEFT_OUT(count=counts["test"])
        report.warn("test_left_out", message, first.file.path, count=counts["test"])
        return replace(layout, images=[image for image in layout.images if image.kind != "test"])
    report.warn("test_as_val", messages.TEST_AS_VAL())
    kinds: dict[Kind | None, Kind] = {"test": "val", "train": "train"}
    images = [replace(image, kind=kinds.get(image.kind)) for image in layout.images]
    return replace(layout, images=images)
