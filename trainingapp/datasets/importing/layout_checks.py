"""Checks whether the layout of a source, after class selection, is a usable dataset."""

from collections import Counter
from dataclasses import replace

from trainingapp.contract.dataset_index import MOST_MASK_CLASSES
from trainingapp.contract.messages import dataset_checks as messages
from trainingapp.datasets.importing.class_selection import select_classes
from trainingapp.datasets.importing.coordinate_checks import check_coordinates
from trainingapp.datasets.options import ClassChoice, ImportOptions
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.layout import Layout


def check_layout(layout: Layout, options: ImportOptions, report: Report) -> Layout:
    """Report what is missing. Returns the layout without the masks and classes that are left out."""
    if len(layout.classes) > MOST_MASK_CLASSES and "masks" in layout.annotations:
        message = messages.MASKS_LEFT_OUT(count=len(layout.classes), most=MOST_MASK_CLASSES)
        report.warn("too_many_classes", message)
        layout = replace(layout, annotations=[kind for kind in layout.annotations if kind != "masks"])
    if layout.has_labels_only:
        layout = _without_empty_classes(layout, report)
    check_coordinates(layout, report)
    is_split = layout.has_splits and options.split == "given"
    is_held_out = is_split and all(image.kind == "val" for image in layout.images)
    if not layout.images:
        report.error("no_images", messages.NO_IMPORTABLE_IMAGES())
        return layout
    if layout.annotations in (["labels"], ["multi_labels"]) and len(layout.classes) < 2:
        report.error("too_few_classes", messages.ONE_CLASS(name=layout.classes[0]))
    elif not any(image.seen() for image in layout.images):
        report.error("no_objects", messages.NO_OBJECTS())
    else:
        _check_counts(layout, is_split and not is_held_out, report)
    if is_held_out:
        report.error("no_train", messages.VAL_WITHOUT_TRAIN(count=len(layout.images)))
    elif is_split and not any(image.kind == "val" for image in layout.images):
        report.warn("val_set_aside", messages.VAL_SET_ASIDE(percent=round(100 * options.val_share)))
    return layout


def _without_empty_classes(layout: Layout, report: Report) -> Layout:
    used = {image.label for image in layout.images}
    empty = [name for label, name in enumerate(layout.classes) if label not in used]
    for name in empty:
        report.fault("empty_class", messages.CLASS_WITHOUT_IMAGES(name=name), name)
    kept = [ClassChoice(name=name, sources=[name]) for name in layout.classes if name not in empty]
    return select_classes(layout, ImportOptions(classes=kept)) if report.lenient and kept and empty else layout


def _check_counts(layout: Layout, is_split: bool, report: Report) -> None:
    counts = Counter((image.kind, label) for image in layout.images for label in image.seen())
    for label, name in enumerate(layout.classes):
        in_all = counts["train", label] + counts["val", label] + counts[None, label]
        if not in_all and not layout.has_labels_only:
            message = messages.CLASS_WITHOUT_OBJECTS(name=name)
            if layout.has_multi_labels:
                message = messages.CLASS_WITHOUT_IMAGES(name=name)
            report.warn("empty_class", message, name)
        elif in_all and is_split and not counts["train", label] + counts[None, label]:
            message = messages.CLASS_WITHOUT_TRAIN(name=name)
            if layout.has_labels_only:
                report.fault("class_without_train", message, name)
            else:
                report.warn("class_without_train", message, name)
