"""Whether what was read makes a dataset, once classes are chosen."""

from collections import Counter
from dataclasses import replace

from trainingapp.contract.dataset_index import MOST_MASK_CLASSES
from trainingapp.datasets.importing.class_selection import select_classes
from trainingapp.datasets.options import ClassChoice, ImportOptions
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.layout import Layout, SourceImage


def check_layout(layout: Layout, options: ImportOptions, report: Report) -> Layout:
    """Report what is missing; returns the layout without what a lenient report leaves out."""
    layout = _without_unfit_masks(layout, report)
    if layout.has_labels_only:
        layout = _without_empty_classes(layout, report)
    _check_classes(layout, options, report)
    _check_parts(layout, options, report)
    return layout


def _without_unfit_masks(layout: Layout, report: Report) -> Layout:
    if len(layout.classes) <= MOST_MASK_CLASSES or "masks" not in layout.annotations:
        return layout
    message = f"There are {len(layout.classes):,} classes; masks can tell {MOST_MASK_CLASSES} apart: no masks are made."
    report.warn("too_many_classes", message)
    return replace(layout, annotations=[kind for kind in layout.annotations if kind != "masks"])


def _without_empty_classes(layout: Layout, report: Report) -> Layout:
    used = {image.label for image in layout.images}
    empty = [name for label, name in enumerate(layout.classes) if label not in used]
    for name in empty:
        report.fault("empty_class", f"The class {name} holds no image.", name)
    kept = [ClassChoice(name=name, sources=[name]) for name in layout.classes if name not in empty]
    return select_classes(layout, ImportOptions(classes=kept)) if report.lenient and kept and empty else layout


def _check_classes(layout: Layout, options: ImportOptions, report: Report) -> None:
    if not layout.images:
        report.error("no_images", "There is no image that can be imported.")
    elif layout.has_labels_only and len(layout.classes) < 2:
        message = f"There is only one class, {layout.classes[0]}; a classifier needs at least two."
        report.error("too_few_classes", message)
    elif not any(image.seen() for image in layout.images):
        report.error("no_objects", "No image shows an annotated object of any class.")
    else:
        _check_counts(layout, options, report)


def _check_counts(layout: Layout, options: ImportOptions, report: Report) -> None:
    counts = Counter((image.kind, label) for image in layout.images for label in image.seen())
    given = layout.has_splits and options.split == "given"
    for label, name in enumerate(layout.classes):
        in_all = counts["train", label] + counts["val", label] + counts[None, label]
        if not in_all and not layout.has_labels_only:
            report.warn("empty_class", f"Nothing is annotated as {name}.", name)
        elif in_all and given and not counts["train", label] + counts[None, label]:
            message = f"The class {name} has no image to train on."
            if layout.has_labels_only:
                report.fault("class_without_train", message, name)
            else:
                report.warn("class_without_train", message, name)


def _check_parts(layout: Layout, options: ImportOptions, report: Report) -> None:
    if not layout.images or not layout.has_splits or options.split != "given":
        return
    if all(image.kind == "val" for image in layout.images):
        report.error("no_train", "There are images for validation but none for training.")
    elif not any(map(_validates, layout.images)):
        message = f"There is no image for validation; {options.val_share:.0%} of each class are set aside for it."
        report.warn("val_set_aside", message)


def _validates(image: SourceImage) -> bool:
    return image.kind == "val"
