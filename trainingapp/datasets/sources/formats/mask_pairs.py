"""Pairing of the masks in a source with their images.

Masks are in a folder with a corresponding name (masks, train_masks, SegmentationClass), or next to the images with a
marker in their names (a_mask.png). Each is paired with the image of the same name, ignoring such markers.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from posixpath import commonpath
from typing import Literal

from trainingapp.datasets.sources.files import Files, best_match, kind_of_path, stem
from trainingapp.datasets.sources.folder_names import folder_name
from trainingapp.datasets.sources.source import SourceFile

Role = Literal["masks", "images", "classes", ""]

LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
_ANNOT = re.compile(r"(train|val|valid|test)_?annot", re.IGNORECASE)
"""Folders of CamVid."""
_INSTANCES = re.compile(r"segmentation_?object|instance", re.IGNORECASE)
_MARK = r"masks?|labels?|label_?ids|gt|ground_?truth|seg|segmentation|trimap"
_MASK_SUFFIX = re.compile(rf"[-_ .]({_MARK}|l)$", re.IGNORECASE)
_CLEAR_MASK_SUFFIX = re.compile(rf"[-_ .]({_MARK})$", re.IGNORECASE)
_MASK_PREFIX = re.compile(rf"^({_MARK})([-_ ]|(?=\d))", re.IGNORECASE)
_IMAGE_PREFIX = re.compile(r"^(images?|img|im|photo|pic|picture)([-_ ]|(?=\d))", re.IGNORECASE)
_IMAGE_SUFFIX = re.compile(r"[-_ ](images?|img|photo|sat|rgb|input)$", re.IGNORECASE)


@dataclass(frozen=True)
class MaskPairs:
    """`pairs` are (image, mask); `lone_masks` have no image, `lone_images` lack an expected mask."""

    pairs: list[tuple[SourceFile, SourceFile]]
    lone_masks: list[SourceFile]
    lone_images: list[SourceFile]
    has_named_folders: bool = False
    """Whether there is a folder of images and one of masks by their names."""
    may_be_classes: bool = False
    """Whether the masks lie beside the images in several folders, whose names may be those of classes."""

    @property
    def are_likely(self) -> bool:
        """Whether the source really has images and masks, and not just a few names that match by chance."""
        if self.may_be_classes or not self.pairs:
            return False
        return self.has_named_folders or len(self.pairs) > len(self.lone_masks)


def mask_pairs(files: Files) -> MaskPairs:
    """The masks in mask folders with their images; if there are none, the masks next to the images."""
    # The names of a folder and its parents determine its role, the innermost first.
    roles: dict[str, Role] = {
        folder: next(filter(None, map(_role_of_name, reversed(folder.split("/")))), "")
        for folder in {_folder(file.path) for file in files.images}
    }
    masks = [file for file in files.images if roles[_folder(file.path)] == "masks"]
    images = [file for file in files.images if roles[_folder(file.path)] != "masks"]
    if masks and images:
        named = [file for file in images if roles[_folder(file.path)] == "images"]
        found = _paired(masks, named, images)
        if found.pairs or found.has_named_folders:
            return found
    return _pairs_beside(images)


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


@lru_cache(maxsize=1 << 12)
def _role_of_name(name: str) -> Role:
    if _ANNOT.fullmatch(name):
        return "masks"
    about = folder_name(name)
    if not about.roles or _INSTANCES.search(name):
        return ""
    if not (about.is_plain or about.is_collection):  # no_mask and with_mask are classes
        return "classes" if "masks" in about.roles else ""
    return "masks" if about.roles & {"masks", "labels"} else "images"


def _paired(masks: list[SourceFile], named: list[SourceFile], others: list[SourceFile]) -> MaskPairs:
    """Pair masks with images; `named` are the images in image folders, `others` all images."""
    by_stem, by_key = _grouped(others)
    first = {file.path for file in named}
    pairs: list[tuple[SourceFile, SourceFile]] = []
    lone_masks: list[SourceFile] = []
    for mask in masks:
        name = stem(mask.path)
        plain = _MASK_PREFIX.sub("", _MASK_SUFFIX.sub("", name))
        image = None
        for same in (by_stem.get(name), by_stem.get(_MASK_SUFFIX.sub("", name)), by_stem.get(plain), by_key.get(plain)):
            fitting = [file for file in same or () if _fits(file.path, mask.path)]
            fitting = _nearest(fitting, mask.path)
            fitting = [file for file in fitting if file.path in first] or fitting
            if fitting:
                image = best_match(fitting, _beside(mask.path, fitting), kind_of_path(mask.path))
                break
        if image is None:
            lone_masks.append(mask)
        else:
            pairs.append((image, mask))
    paired = {image.path for image, _mask in pairs}
    folders, kinds = {_folder(path) for path in paired}, {kind_of_path(path) for path in paired}
    expected = [
        file
        for file in others
        if _folder(file.path) in folders
        # Masks of test images are often not published.
        or (file.path in first and (kind_of_path(file.path) != "test" or "test" in kinds))
    ]
    lone_images = [file for file in expected if file.path not in paired]
    apart = any(_fits(file.path, masks[0].path) for file in named[:1]) and not all(
        mask.path.lower().endswith(LOSSY_SUFFIXES) for mask in masks
    )
    return MaskPairs(pairs, lone_masks, lone_images, apart)


def _nearest(images: list[SourceFile], mask_path: str) -> list[SourceFile]:
    """Those that share the most leading folders with the mask: a source may hold several datasets."""
    shared = [commonpath([f"/{file.path}", f"/{mask_path}"]).rstrip("/").count("/") for file in images]
    return [file for file, count in zip(images, shared, strict=True) if count == max(shared)]


def _grouped(images: Iterable[SourceFile]) -> tuple[dict[str, list[SourceFile]], dict[str, list[SourceFile]]]:
    """Images by stem, and by stem without image markers."""
    by_stem: dict[str, list[SourceFile]] = defaultdict(list)
    by_key: dict[str, list[SourceFile]] = defaultdict(list)
    for file in images:
        name = stem(file.path)
        by_stem[name].append(file)
        by_key[_IMAGE_PREFIX.sub("", _IMAGE_SUFFIX.sub("", name))].append(file)
    return by_stem, by_key


def _fits(image_path: str, mask_path: str) -> bool:
    """Whether the folders of both differ like image and mask folders, not like those of two classes."""
    image, mask = (_folder(path).split("/") for path in (image_path, mask_path))
    while image and mask and image[0] == mask[0]:
        image, mask = image[1:], mask[1:]
    if any(_role_of_name(name) == "classes" for name in image):
        return False
    if any(folder_name(name).is_collection or _ANNOT.fullmatch(name) for name in mask):
        return True
    about = [folder_name(name) for name in image if name]
    return any("images" in one.roles for one in about) or all(one.is_structure or one.kinds for one in about)


def _beside(mask_path: str, images: list[SourceFile]) -> str:
    """The image folder that corresponds to the folder of the mask."""
    names = {part.lower(): part for file in images for part in file.path.split("/")[:-1]}
    folder = next((names[name] for name in names if _role_of_name(name) == "images"), "images")
    return "/".join(
        folder if _role_of_name(part) == "masks" and not folder_name(part).kinds else part
        for part in _folder(mask_path).split("/")
    )


def _pairs_beside(images: list[SourceFile]) -> MaskPairs:
    """Masks in the folder of their image, with a marker in their name.

    They are used only if at least half of all images belong to such pairs; otherwise the names match by chance.
    """
    by_folder: dict[str, list[SourceFile]] = defaultdict(list)
    for file in images:
        by_folder[_folder(file.path)].append(file)
    pairs: list[tuple[SourceFile, SourceFile]] = []
    lone_images: list[SourceFile] = []
    for same in by_folder.values():
        marked = [file for file in same if _without_mark(stem(file.path)) != stem(file.path)]
        if not marked:
            continue
        marked_paths = {file.path for file in marked}
        plain = [file for file in same if file.path not in marked_paths]
        by_stem, by_key = _grouped(plain)
        found = []
        for mask in marked:
            name = _without_mark(stem(mask.path))
            candidates = by_stem.get(name) or by_key.get(name) or []
            if len(candidates) == 1:
                found.append((candidates[0], mask))
        pairs += found
        paired = {image.path for image, _mask in found}
        if found:
            lone_images += [file for file in plain if file.path not in paired]
    if 4 * len(pairs) < len(images):
        return MaskPairs([], [], [])
    folders = {_folder(image.path) for image, _mask in pairs}
    names = {folder.rpartition("/")[2] for folder in folders}
    may_be_classes = len(names) > 1 and not any(folder_name(name).is_structure for name in names)
    return MaskPairs(pairs, [], lone_images, may_be_classes=may_be_classes)


def _without_mark(name: str) -> str:
    plain = _CLEAR_MASK_SUFFIX.sub("", name)
    return plain if plain != name else re.sub(r"^masks?[-_ ]", "", name, flags=re.IGNORECASE)
