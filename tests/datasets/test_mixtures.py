"""One or two sets in one folder, in any format and in part: a clear error or a right import.

Never a traceback, never classes that are folders of splits, images, labels or masks, and never a split that differs
from the one that is given.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.helpers import annotated
from tests.helpers.annotated import CLASSES, IMAGES, TREES, Corners, Tree, expected_boxes
from tests.helpers.searches import IS_NEW, search
from tests.helpers.sources import image, two_classes, whole_import, write_tree
from trainingapp.contract.dataset_index import Sample, read_index
from trainingapp.datasets.codes import TITLES
from trainingapp.models import Dataset

#: `make test-all` tries three times as many, which are more than 5,000.
CASES = 1_700 if IS_NEW else 120
SETS: Mapping[str, Tree] = {
    **{name: make() for name, make in TREES.items()},
    "coco outlined": annotated.coco_tree(outlined=True),
    "yolo polygons": annotated.yolo_tree(polygons=True),
    "masks indexed": annotated.mask_tree("indexed"),
    "masks colour": annotated.mask_tree("colour"),
    "csv without split": annotated.csv_tree(with_split=False),
    "classes": two_classes(4),
    "classes in splits": {**two_classes(3, "train/"), **two_classes(2, "val/")},
}
OTHER_IMAGES = {item.stem: image(1000 + number, annotated.SIZE) for number, item in enumerate(IMAGES)}
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "Train", "train2017"),
    "val": ("val", "valid", "validation", "Val"),
    "images": ("images", "Images", "imgs"),
    "masks": ("masks", "Masks"),
    "labels": ("labels", "Labels"),
}
SPLITS = {name.lower(): split for split in ("train", "val") for name in OTHER_NAMES[split]}
STEM = re.compile(rb"\bp([1-6])\b")
IS_CLASS = re.compile(r"cat|dog|owl|background|foreground|class \d+|\d+")


@dataclass(frozen=True, repr=False)
class Mixture:
    """The files, the names of the sets that they come from, and the splits that are given for each stem."""

    tree: Tree
    sets: tuple[str, ...]
    given: Mapping[str, set[str]]

    def __repr__(self) -> str:
        """Without the content of the files, which can be megabytes."""
        return f"Mixture(sets={self.sets}, given={dict(self.given)}, paths={sorted(self.tree)})"


def with_other_stems(tree: Tree) -> Tree:
    """The set with the names q1 ... q6 and other images."""
    changed: Tree = {}
    for path, content in tree.items():
        stem = PurePosixPath(path).stem
        if is_photo(path) and stem in OTHER_IMAGES:
            content = OTHER_IMAGES[stem]
        elif content is not None and not path.endswith(".png"):
            content = STEM.sub(rb"q\1", content)
        changed[STEM.sub(rb"q\1", path.encode()).decode()] = content
    return changed


def is_photo(path: str) -> bool:
    return path.endswith(".png") and "mask" not in path.lower()


def given_splits(tree: Tree) -> dict[str, set[str]]:
    """The splits that folders, lists and columns give to the images, by stem."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, content in tree.items():
        parts = [SPLITS[part.lower()] for part in path.split("/")[:-1] if part.lower() in SPLITS]
        if is_photo(path) and parts:
            found[PurePosixPath(path).stem].add(parts[-1])
        name = PurePosixPath(path).stem
        text = (content or b"").decode(errors="ignore")
        if "ImageSets/" in path and name in SPLITS:
            for stem in text.split():
                found[stem].add(SPLITS[name])
        if path.endswith(".csv") and text.startswith("filename,label,split"):
            for row in text.splitlines()[1:]:
                file, _label, split = row.split(",")
                found[PurePosixPath(file).stem].add(split)
    return found


@st.composite
def variants(draw: st.DrawFn, name: str, prefix: str, *, other_stems: bool) -> Tree:
    """The set with folders that are named otherwise, and without some of its files."""
    tree = with_other_stems(SETS[name]) if other_stems else SETS[name]
    names = {old: draw(st.sampled_from(new)) for old, new in OTHER_NAMES.items()} if draw(st.booleans()) else {}
    renamed = {prefix + "/".join(names.get(part, part) for part in path.split("/")): tree[path] for path in tree}
    others = sorted(path for path in renamed if not is_photo(path))
    photos = sorted(path for path in renamed if is_photo(path))
    gone = set(draw(st.lists(st.sampled_from(others), max_size=3))) if others and draw(st.booleans()) else set()
    if draw(st.integers(0, 5)) == 0:
        gone = set(others)
    if draw(st.integers(0, 3)) == 0:
        gone |= set(draw(st.lists(st.sampled_from(photos), max_size=2)))
    return {path: content for path, content in renamed.items() if path not in gone}


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    first = draw(st.sampled_from(sorted(SETS)))
    prefix = draw(st.sampled_from(["", "a/", "export/data/"]))
    tree = draw(variants(first, prefix, other_stems=False))
    second = draw(st.sampled_from([None, *sorted(SETS)]))
    if second is None:
        return Mixture(tree, (first,), given_splits(tree))
    other = draw(variants(second, prefix, other_stems=draw(st.booleans())))
    # Where both have a file of one path, the file of the first stays.
    tree = {**other, **tree}
    return Mixture(tree, (first, second), given_splits(tree))


def boxes_of(sample: Sample, classes: list[str]) -> list[tuple[str, Corners]]:
    """The objects in whole pixels."""
    return sorted(
        (classes[box.label], (round(box.left), round(box.top), round(box.right), round(box.bottom)))
        for box in sample.boxes
    )


def check_right(dataset: Dataset, mixture: Mixture) -> None:
    samples = read_index(dataset.folder).samples
    warned = {item["code"] for item in dataset.report}
    assert all(IS_CLASS.fullmatch(name) for name in dataset.classes), dataset.classes
    # Where the images that can be used are all of one split, the import divides them anew, and says so in the review.
    kept = [mixture.given.get(PurePosixPath(sample.path).stem, set()) for sample in samples]
    one_split_only = len(set().union(*kept)) < 2
    for sample in samples:
        stem = PurePosixPath(sample.path).stem
        splits = mixture.given.get(stem, set())
        if splits and not one_split_only and "val_set_aside" not in warned:
            assert sample.split in splits, (sample.path, splits)
        original = expected_boxes().get(stem.replace("q", "p"))
        if original and "detection" in dataset.tasks and set(dataset.classes) <= set(CLASSES):
            assert boxes_of(sample, dataset.classes) in ([], original[1]), sample.path
    photos = {PurePosixPath(path).stem for path in mixture.tree if is_photo(path)}
    if photos - {PurePosixPath(sample.path).stem for sample in samples}:
        assert dataset.report, "images were left out without a finding"


@search(CASES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(mixture=mixtures(), on_error=st.sampled_from(["stop", "leave_out"]))
def test_a_clear_error_or_a_right_import(
    new_dataset: Callable[..., Dataset], data_dir: Path, tmp_path: Path, mixture: Mixture, on_error: str
) -> None:
    source = write_tree(tmp_path / "source", mixture.tree)
    dataset = new_dataset(source)
    with whole_import(dataset, source, data_dir, on_error):
        assert all(item["code"] in TITLES and item["message"] for item in dataset.report)
        if dataset.status == Dataset.Status.READY:
            assert not dataset.errors
            check_right(dataset, mixture)
