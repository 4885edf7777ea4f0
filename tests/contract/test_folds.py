"""Folds: a partition of the images that depends on the images and the number of folds alone."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trainingapp.contract.config import kept_by_continuing, parse_config
from trainingapp.contract.dataset_index import Box, DatasetIndex, Sample, Split, read_index, write_index
from trainingapp.contract.folds import FoldImage, fold_of_each, folded
from trainingapp.contract.limits import MAX_FOLDS
from trainingapp.contract.tasks.registry import TASKS

FOLDS = st.integers(2, MAX_FOLDS)
LABELS = st.lists(st.integers(0, 5), max_size=150)


def labelled(labels: list[int], *, groups: int = 0) -> list[Sample]:
    """Images with these labels; with groups, every image belongs to one of them."""
    splits: tuple[Split, Split] = ("train", "val")
    return [
        Sample(f"images/{number}.png", label, splits[number % 2], 8, 8, group=f"{number % groups}" if groups else "")
        for number, label in enumerate(labels)
    ]


def index_of(samples: list[Sample]) -> DatasetIndex:
    return DatasetIndex(Path("/nowhere"), "drawn", ["classification"], ["a", "b"], "0" * 64, samples)


def sizes(places: list[int], folds: int) -> list[int]:
    counts = Counter(places)
    return [counts[fold] for fold in range(folds)]


@given(LABELS, FOLDS)
def test_each_image_is_validated_by_exactly_one_fold_and_trained_by_the_others(labels: list[int], folds: int) -> None:
    samples = labelled(labels)
    parts = [folded(index_of(samples), folds, fold) for fold in range(folds)]
    for part in parts:
        assert [sample.path for sample in part.samples] == [sample.path for sample in samples]
        assert len(part.split("train")) + len(part.split("val")) == len(samples)
    validated = Counter(sample.path for part in parts for sample in part.split("val"))
    assert validated == Counter(sample.path for sample in samples)


@given(LABELS, FOLDS)
def test_folds_and_the_classes_in_them_differ_by_one_image_at_most(labels: list[int], folds: int) -> None:
    places = fold_of_each([FoldImage.of(sample) for sample in labelled(labels)], folds)
    for label in (None, *set(labels)):
        of_label = [place for place, one in zip(places, labels, strict=True) if label in (None, one)]
        assert max(sizes(of_label, folds)) - min(sizes(of_label, folds)) <= 1


@given(LABELS, FOLDS, st.integers(0, 40), st.randoms(use_true_random=False))
def test_the_order_of_the_images_and_their_splits_change_nothing(
    labels: list[int], folds: int, groups: int, chosen: random.Random
) -> None:
    images = [FoldImage.of(sample) for sample in labelled(labels, groups=groups)]
    shuffled = chosen.sample(images, len(images))
    assert dict(zip([image.path for image in shuffled], fold_of_each(shuffled, folds), strict=True)) == dict(
        zip([image.path for image in images], fold_of_each(images, folds), strict=True)
    )


@given(LABELS, FOLDS, st.integers(1, 40))
def test_a_group_stays_together(labels: list[int], folds: int, groups: int) -> None:
    samples = labelled(labels, groups=groups)
    places = fold_of_each([FoldImage.of(sample) for sample in samples], folds)
    of_group = {(sample.group, place) for sample, place in zip(samples, places, strict=True)}
    assert len(of_group) == len({sample.group for sample in samples})


def test_an_image_counts_for_its_rarest_class_whatever_annotation_names_it() -> None:
    """Ten images of each kind: of one label, of several, with boxes; and ten with nothing that the index names."""
    boxes = (Box(1, 0, 0, 4, 4), Box(2, 0, 0, 4, 4))
    kinds = [
        Sample("a", 0, "train", 8, 8),
        Sample("b", -1, "train", 8, 8, labels=(0, 3)),
        Sample("c", -1, "train", 8, 8, boxes=boxes),
        Sample("d", -1, "train", 8, 8, mask="masks/d.png"),
    ]
    assert [sorted(FoldImage.of(sample).classes) for sample in kinds] == [[0], [0, 3], [1, 2], []]
    images = [FoldImage(f"{kind.path}{number}", FoldImage.of(kind).classes) for kind in kinds for number in range(10)]
    places = fold_of_each(images, 5)
    assert [sizes(places[first : first + 10], 5) for first in (0, 10, 20, 30)] == [[2] * 5] * 4


def test_without_folds_the_dataset_has_its_own_splits() -> None:
    index = index_of(labelled([0, 1] * 4))
    assert folded(index, 0, 0) is index


def test_the_division_of_a_dataset_never_changes() -> None:
    """Runs that validated before would validate on other images: a change needs a field of its own."""
    assert fold_of_each([FoldImage.of(sample) for sample in labelled([0, 1, 2] * 4)], 3) == FIXED


FIXED = [1, 0, 0, 2, 2, 2, 0, 1, 2, 0, 1, 1]


def test_groups_are_stored_with_the_images(tmp_path: Path) -> None:
    samples = labelled([0, 1, 0, 1], groups=2)
    write_index(tmp_path, name="x", tasks=["classification"], classes=["a", "b"], fingerprint="0" * 64, samples=samples)
    assert read_index(tmp_path).samples == samples
    assert '"group"' not in labelled([0])[0].line()


@pytest.mark.parametrize(
    ("config", "field"),
    [({"folds": 1}, "folds"), ({"folds": 21}, "folds"), ({"folds": 3, "fold": 3}, "fold"), ({"fold": 1}, "fold")],
)
def test_a_fold_that_does_not_exist_is_refused(config: dict[str, int], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_config(config)
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


def test_the_last_fold_is_one() -> None:
    config = parse_config({"folds": 3, "fold": 2})
    assert (config.folds, config.fold) == (3, 2)


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_fork_that_continues_keeps_its_fold(task: str) -> None:
    """Otherwise it would validate on images that its checkpoint was trained on."""
    assert {"folds", "fold"} <= set(kept_by_continuing(task))
