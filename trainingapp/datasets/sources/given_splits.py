"""The splits given by a source."""

from collections import Counter
from dataclasses import replace

from trainingapp.contract.messages import dataset_reading as reading_messages
from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.folder_names import folder_name, kind_of_path
from trainingapp.datasets.sources.layout import Kind, Layout
from trainingapp.datasets.sources.offers import Offer

MOST_FOLDERS_NAMED = 6


def settle_splits(layout: Layout, report: Report, files: Files) -> Layout:
    """The layout without test images: they are left out, or used for validation if there are no validation images.

    If no image is for training, for example because the file of the training split is missing, all images keep their
    split and `check_layout` refuses the source, since its images may be intended for evaluation. `split_origin` of the
    result is the origin of the splits; `files.reading.splits` determines whether they are kept.
    """
    layout = _as_chosen(layout, files)
    counts = Counter(image.kind for image in layout.images)
    if not counts["test"]:
        return layout
    if counts["val"]:
        first = next(image for image in layout.images if image.kind == "test")
        message = messages.TEST_LEFT_OUT(count=counts["test"])
        report.warn("test_left_out", message, first.file.path, count=counts["test"])
        return replace(layout, images=[image for image in layout.images if image.kind != "test"])
    if counts["train"] or counts[None]:
        report.warn("test_as_val", messages.TEST_AS_VAL())
    kinds: dict[Kind | None, Kind] = {"test": "val", "train": "train"}
    images = [replace(image, kind=kinds.get(image.kind)) for image in layout.images]
    return replace(layout, images=images)


def _as_chosen(layout: Layout, files: Files) -> Layout:
    """The layout with the splits that `files.reading.splits` chooses, and their origin."""
    # Class folders give image paths below the wrapper folder, which `kind_of` does not take into account.
    in_folder = {
        image.file.path: files.kind_of(image.file.path) or kind_of_path(image.file.path) for image in layout.images
    }
    given = layout.split_origin if layout.has_splits else None
    in_folders = (layout.has_splits and not given) or any(in_folder.values())
    if not given and not in_folders:
        return replace(layout, split_origin=reading_messages.SPLIT_NOT_GIVEN())
    choices = (*(["lists"] if given else []), *(["folders"] if in_folders else []), "none")
    wanted = files.reading.splits
    used = wanted if wanted in choices else "lists" if given else "folders" if layout.has_splits else "none"
    if used == "none" and wanted != "none":
        layout = replace(layout, split_origin=reading_messages.SPLIT_NOT_GIVEN())
    elif used == "none":
        images = [replace(image, kind=None) for image in layout.images]
        layout = replace(layout, images=images, split_origin=reading_messages.SPLIT_IGNORED())
    elif used == "folders":
        if given or not layout.has_splits:
            images = [replace(image, kind=in_folder[image.file.path]) for image in layout.images]
            layout = replace(layout, images=images)
        paths = [image.file.path for image in layout.images if image.kind]
        folders = dict.fromkeys(part for path in paths for part in path.split("/")[:-1] if folder_name(part).kinds)
        origin = reading_messages.SPLIT_FROM_FOLDERS(folders=list(folders)[:MOST_FOLDERS_NAMED])
        layout = replace(layout, split_origin=origin)
    files.offer(Offer("splits", used, choices, layout.split_origin))
    return layout
