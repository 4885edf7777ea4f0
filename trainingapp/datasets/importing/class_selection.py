"""Applies the selected classes to the layout of a source."""

from dataclasses import replace

import numpy as np

from trainingapp.contract.messages import dataset_checks as messages
from trainingapp.datasets.options import ClassChoice, ImportOptions
from trainingapp.datasets.report import DatasetError
from trainingapp.datasets.sources.layout import BACKGROUND, Layout, MaskCoding, MaskFile, relabelled


def select_classes(layout: Layout, options: ImportOptions) -> Layout:
    """The layout with its classes renamed, merged, removed and in the selected order.

    Objects of a removed class are removed, and so are images whose labels all belong to removed classes. Raises
    DatasetError for a choice that names an unknown class, or one class twice.
    """
    if not options.classes:
        return layout
    names, target_of = _targets(layout.classes, options.classes)
    targets = [target_of.get(name, BACKGROUND) for name in layout.classes]
    codings: dict[int, MaskCoding] = {}
    kept = []
    for image in layout.images:
        shapes = relabelled(image.shapes, targets)
        label = targets[image.label] if image.label >= 0 else -1
        labels = tuple(sorted({targets[own] for own in image.labels} - {BACKGROUND}))
        mask = _selected_mask(image.mask, targets, codings) if image.mask else None
        if (image.label < 0 or label >= 0) and (labels or not image.labels):
            kept.append(replace(image, shapes=shapes, label=label, labels=labels, mask=mask))
    annotations = layout.annotations
    if len(names) < 2 and len(annotations) > 1:  # a single label for all images carries no information
        annotations = [kind for kind in annotations if kind not in ("labels", "multi_labels")]
    return replace(layout, classes=names, images=kept, annotations=annotations)


def _targets(found: list[str], choices: list[ClassChoice]) -> tuple[list[str], dict[str, int]]:
    """The names in the new order, and the new label of each source class that is kept."""
    names = list(dict.fromkeys(choice.name for choice in choices))
    target_of: dict[str, int] = {}
    for choice in choices:
        for source in choice.sources:
            if source not in found:
                message = messages.CHOICE_UNKNOWN(name=source, new_name=choice.name)
                raise DatasetError.one("unknown_choice", message)
            if source in target_of:
                raise DatasetError.one("unknown_choice", messages.CHOICE_TWICE(name=source))
            target_of[source] = names.index(choice.name)
    return names, target_of


def _selected_mask(mask: MaskFile, targets: list[int], codings: dict[int, MaskCoding]) -> MaskFile:
    """The mask with its selected classes; `codings` caches converted codings by id, since most masks share one."""
    coding = codings.get(id(mask.coding))
    if coding is None:
        lookup = np.array(targets, np.int16)
        old = mask.coding.targets
        coding = replace(mask.coding, targets=np.where(old >= 0, lookup[old.clip(min=0)], old))
        codings[id(mask.coding)] = coding
    seen = tuple(sorted({targets[label] for label in mask.seen} - {BACKGROUND}))
    return replace(mask, coding=coding, seen=seen)
