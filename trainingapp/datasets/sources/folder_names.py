"""Interpretation of folder names: a split, images, labels or masks.

A name has such a meaning if all of its words have, as in train2017, val_labels or obj_train_data. "crash test" and
"invalid" have not: they could be classes.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from trainingapp.datasets.sources.layout import Kind

Role = Literal["images", "labels", "masks"]

SPLIT_WORDS: dict[str, Kind] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "eval": "val",
    "evaluation": "val",
    "test": "test",
    "testing": "test",
    "训练": "train",
    "训练集": "train",
    "验证": "val",
    "验证集": "val",
    "测试": "test",
    "测试集": "test",
}
_PLURAL: dict[str, Role] = {
    **dict.fromkeys(("images", "imgs", "jpegimages", "pngimages", "图像", "图片"), "images"),
    **dict.fromkeys(("labels", "annotations", "annots", "anns", "ann", "bboxes", "xmls", "jsons", "txts"), "labels"),
    **dict.fromkeys(("标签", "标注"), "labels"),
    **dict.fromkeys(("masks", "groundtruth", "groundtruths", "segmentations", "trimaps", "掩码", "掩膜"), "masks"),
    **dict.fromkeys(("segmentationclass", "segmentationobject", "segmentationclassaug"), "masks"),
    **dict.fromkeys(("labelids", "instanceids", "labeltrainids", "gtfine", "gtcoarse"), "masks"),
    "leftimg8bit": "images",
}
"""Words that name a collection: no class is called so."""
_SINGULAR: dict[str, Role] = {
    **dict.fromkeys(("image", "img", "photo", "photos", "picture", "pictures", "pic", "pics"), "images"),
    **dict.fromkeys(("frame", "frames"), "images"),
    **dict.fromkeys(("label", "annotation", "annot", "bbox", "box", "boxes", "xml", "json", "txt", "csv"), "labels"),
    **dict.fromkeys(("mask", "gt", "seg", "segmentation", "semantic"), "masks"),
}
"""Words that can be classes beside others, such as mask beside no_mask."""
_NEUTRAL = {
    *("set", "sets", "split", "splits", "data", "dataset", "dev", "obj", "part", "input", "jpeg", "jpg", "png"),
    *("file", "files", "list", "lists"),
}
"""Words that say nothing of their own; single letters and digits do not either."""
_WORD = re.compile(r"[^\W\d_a-zA-Z]+|[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")


_GLUED = re.compile(r"(train|val|valid|test)(annot)", re.IGNORECASE)
"""Folders of CamVid, such as valannot."""


@dataclass(frozen=True)
class FolderName:
    """The meaning of a name: its splits and its roles by their words.

    `is_plain`: no word has another meaning. `is_collection`: a word names a collection of files.
    """

    kinds: frozenset[Kind]
    roles: frozenset[Role]
    is_plain: bool
    is_collection: bool

    @property
    def is_structure(self) -> bool:
        """Whether the name describes only the arrangement of files."""
        return self.is_plain and bool(self.kinds or self.roles)

    @property
    def kind(self) -> Kind | None:
        """The split in the folder; None if its name also has other words."""
        return next(iter(self.kinds)) if self.is_plain and len(self.kinds) == 1 else None


def _words(name: str) -> list[str]:
    compact = re.sub(r"[\W_]+", "", name).lower()
    joined = re.sub(r"(?i)ground[\W_]*truth", "groundtruth", _GLUED.sub(r"\1 \2", name))
    return [compact] if compact in _PLURAL else [word.lower() for word in _WORD.findall(joined)]


@lru_cache(maxsize=1 << 14)
def folder_name(name: str) -> FolderName:
    """The meaning of `name`, which has no path."""
    words = _words(name)
    known = {word for word in words if word in SPLIT_WORDS or word in _PLURAL or word in _SINGULAR}
    others = [word for word in words if word not in known and word not in _NEUTRAL and len(word) > 1]
    roles = {role for word in words if (role := _PLURAL.get(word) or _SINGULAR.get(word))}
    return FolderName(
        kinds=frozenset(SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS),
        roles=frozenset(roles),
        is_plain=bool(known) and not others,
        is_collection=any(word in _PLURAL for word in words),
    )


def kind_of_folder(name: str) -> Kind | None:
    """The split that the name of a folder describes, such as train2017 or val_images; None for any other name."""
    return folder_name(name).kind


def kind_of_path(path: str) -> Kind | None:
    """The split in the names of the folders of a file, the innermost first."""
    for folder in reversed(path.split("/")[:-1]):
        if kind := kind_of_folder(folder):
            return kind
    return None


def kinds_of_folders(folders: Iterable[str]) -> dict[str, Kind]:
    """The split of each folder, by its path.

    A name with other words counts if another folder has the same words and another split, and one of the two splits is
    training: street-train and street-val, but not "crash test".
    """
    found: dict[str, Kind] = {}
    twins: dict[tuple[str, ...], dict[Kind, list[str]]] = defaultdict(dict)
    for folder in folders:
        name = folder.rpartition("/")[2]
        if kind := kind_of_folder(name):
            found[folder] = kind
        elif len(kinds := folder_name(name).kinds) == 1:
            # The v of a version is not a word: ISIC-2017_Test_v2_Data next to ISIC-2017_Training_Data.
            rest = tuple(word for word in _words(name) if word not in SPLIT_WORDS and word != "v")
            twins[rest].setdefault(next(iter(kinds)), []).append(folder)
    for by_kind in twins.values():
        if "train" in by_kind and len(by_kind) > 1:
            found |= {folder: kind for kind, same in by_kind.items() for folder in same}
    return found
