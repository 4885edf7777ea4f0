"""Applying the selected classes to the layout of a source."""

from dataclasses import replace

import numpy as np

from trainingapp.contract.messages import dataset_checks as messages
from trainingapp.datasets.options import ClassChoice, ImportOptions
from trainingapp.datasets.report import DatasetError
from trainingapp.datasets.sources.layout import BACKGROUND, Layout, MaskCoding, MaskFile, relabelled


def select_classes(layout: Layout, options: ImportOptions) -> Layout:
    """The layout with classes renamed, merged, left out and in the selected order.

    Objects of a class that is left out are removed, and so are images that had it as their label, or several labels of
    which none is left. Raises DatasetError for a choice that names an unknown class, or one class twice.
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
    if len(names) < 2 and len(annotations) > 1:  # one label for all images says nothing about them
        annotations = [kind for kind in annotations if kind not in ("labels", "multi_labels")]
    return replace(layout, classes=names, images=kept, annotations=annotations)


def _targets(found: list[str], choices: list[ClassChoice]) -> tuple[list[str], dict[str, int]]:
    """Names in the new order, and the new label of each class of the source that is kept."""
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
    """The mask with its selected classes; `codings` holds those done by id, since most masks share one."""
    coding = codings.get(id(mask.coding))
    if coding is None:
        lookup = np.array(targets, np.int16)
        old = mask.coding.targets
        coding = replace(mask.coding, targets=np.where(old >= 0, lookup[old.clip(min=0)], old))
        codings[id(mask.coding)] = coding
    seen = tuple(sorted({targets[label] for label in mask.seen} - {BACKGROUND}))
    return replace(mask, coding=coding, seen=seen)
