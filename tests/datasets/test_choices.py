"""Selected classes and splits; identical content is stored once and reported."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers import annotated
from tests.helpers.annotated import IMAGES, Tree, imported_boxes, imported_mask
from tests.helpers.sources import assert_refused, codes, image, two_classes, write_tree
from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.folds import folded
from trainingapp.datasets import verbs as dataset_verbs
from trainingapp.datasets.importing.duplicates import nearest
from trainingapp.datasets.importing.importer import run_import
from trainingapp.datasets.importing.splits import stratified
from trainingapp.datasets.importing.statistics import histogram
from trainingapp.models import Dataset

ImportWith = Callable[..., Dataset]


@pytest.fixture
def import_with(new_dataset: Callable[..., Dataset], tmp_path: Path) -> ImportWith:
    """`import_with(tree, classes={new: [old, ...]}, split=...)`"""

    def import_(tree: Tree, classes: dict[str, list[str]] | None = None, **options: Any) -> Dataset:
        dataset = new_dataset(write_tree(tmp_path / f"source{Dataset.objects.count()}", tree))
        options["classes"] = [{"name": name, "sources": sources} for name, sources in (classes or {}).items()]
        Dataset.objects.filter(pk=dataset.pk).update(options=options)
        dataset.refresh_from_db()
        run_import(dataset)
        return dataset

    return import_


# Classes


def test_rename_merge_leave_out_and_reorder(import_with: ImportWith) -> None:
    dataset = import_with(annotated.coco_tree(), {"bird": ["owl"], "pet": ["cat", "dog"]})
    assert dataset.classes == ["bird", "pet"]
    assert imported_boxes(dataset)["p1"][1] == [("pet", (0, 0, 20, 10)), ("pet", (30, 5, 60, 40))]
    assert dataset.counts["train"] == {"bird": 1, "pet": 2}


def test_objects_of_an_excluded_class_are_removed_and_their_images_kept(import_with: ImportWith) -> None:
    dataset = import_with(annotated.yolo_tree(), {"dog": ["dog"], "cat": ["cat"]})
    assert imported_boxes(dataset)["p2"] == ("train", [])
    assert dataset.classes == ["dog", "cat"]


def test_images_of_an_excluded_class_are_removed(import_with: ImportWith) -> None:
    tree = two_classes() | {"bird/1.png": image(1), "bird/2.png": image(2)}
    dataset = import_with(tree, {"cat": ["cat"], "dog": ["dog"]})
    assert (dataset.classes, sum(dataset.images.values())) == (["cat", "dog"], 10)


def test_masks_use_the_selected_classes(import_with: ImportWith) -> None:
    dataset = import_with(annotated.mask_tree(), {"owl": ["owl"], "pet": ["dog", "cat"]})
    values_HW = annotated.mask_values(IMAGES[0])
    assert (imported_mask(dataset, "p1") == np.array([0, 2, 2, 1])[values_HW]).all()
    without = import_with(annotated.mask_tree(), {"dog": ["dog"]})
    assert (imported_mask(without, "p1") == (values_HW == 2)).all()


def test_scenes_with_one_merged_class_do_not_support_classification(import_with: ImportWith) -> None:
    dataset = import_with(annotated.scenes_tree(), {"thing": ["cat", "dog", "owl"]})
    assert dataset.tasks == ["detection", "segmentation", "instances"]


@pytest.mark.parametrize("classes", [{"a": ["bear"]}, {"a": ["cat"], "b": ["cat"]}])
def test_invalid_class_choices_are_refused(
    import_with: ImportWith, data_dir: Path, classes: dict[str, list[str]]
) -> None:
    assert_refused(import_with(annotated.coco_tree(), classes), data_dir, "unknown_choice")


# Splits


def test_a_new_split_depends_only_on_seed_and_content(import_with: ImportWith) -> None:
    tree = two_classes(each=20, prefix="train/") | two_classes(each=5, prefix="val/")
    other = {path.replace("/cat/", "/cat/x"): content for path, content in reversed(tree.items())}
    first, again, turned = (
        import_with(tree, split="stratified", seed=1, val_share=0.4),
        import_with(other, split="stratified", seed=1, val_share=0.4),
        import_with(tree, split="stratified", seed=2, val_share=0.4),
    )
    assert first.counts == {"train": {"cat": 15, "dog": 15}, "val": {"cat": 10, "dog": 10}}
    assert first.fingerprint == again.fingerprint != turned.fingerprint
    assert "same_content" in codes(again, "warning")


def test_every_class_is_divided_and_equal_images_stay_together() -> None:
    rng = np.random.default_rng(0)
    shown = [frozenset(np.flatnonzero(rng.random(6) < [0.7, 0.5, 0.3, 0.2, 0.1, 0.05]).tolist()) for _ in range(1000)]
    digests = [f"{index // 2}" for index in range(1000)]
    shown = [shown[index - index % 2] for index in range(1000)]
    splits = stratified(digests, shown, 0, 0.25, pool_rare=True)
    for label in range(6):
        parts = [split for split, labels in zip(splits, shown, strict=True) if label in labels]
        assert parts.count("val") / len(parts) == pytest.approx(0.25, abs=0.08)
    assert all(splits[index] == splits[index + 1] for index in range(0, 1000, 2))


# Near-duplicates


def test_the_nearest_hashes_equal_those_of_a_full_comparison() -> None:
    rng = np.random.default_rng(0)
    stored = [int(value) for value in rng.integers(0, 2**64, 3000, dtype=np.uint64)]
    queries = [int(value) for value in rng.integers(0, 2**64, 300, dtype=np.uint64)]
    for index in range(0, 300, 2):
        flips = rng.choice(64, rng.integers(0, 7), replace=False)
        queries[index] = stored[index] ^ sum(1 << int(bit) for bit in flips)
    found = nearest(queries, stored)
    for query, index in zip(queries, found, strict=True):
        distances = [(query ^ other).bit_count() for other in stored]
        assert (index >= 0) == (min(distances) <= 4)
        assert index < 0 or distances[index] == min(distances)


def test_a_reencoded_image_is_found_in_the_other_split(import_with: ImportWith) -> None:
    rng = np.random.default_rng(1)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        (160, 120), Image.Resampling.BICUBIC
    )
    saved, small = io.BytesIO(), io.BytesIO()
    smooth.save(saved, "PNG")
    smooth.resize((120, 90)).save(small, "JPEG", quality=70)
    tree = two_classes(prefix="train/") | two_classes(prefix="val/")
    tree |= {"train/cat/same.png": saved.getvalue(), "val/cat/smaller.jpg": small.getvalue()}
    dataset = import_with(tree)
    item = next(item for item in dataset.report if item["code"] == "near_leak")
    assert (item["file"], codes(dataset, "warning")) == ("val/cat/smaller.jpg", ["near_leak"])
    assert "train/cat/same.png" in item["message"]


def test_single_color_images_are_not_near_duplicates(import_with: ImportWith) -> None:
    tree = two_classes(prefix="train/") | two_classes(prefix="val/")
    for split, shade in (("train", 10), ("val", 200)):
        tree[f"{split}/cat/plain.png"] = annotated.png(Image.new("RGB", (30, 30), (shade, shade, shade)))
    assert codes(import_with(tree), "warning") == ["constant"]


# Same content


def test_the_same_content_is_stored_once(import_with: ImportWith) -> None:
    first = import_with(annotated.coco_tree(outlined=True))
    renamed = {
        path.replace("p1.png", "z1.png"): content for path, content in annotated.coco_tree(outlined=True).items()
    }
    for path in renamed:
        if path.endswith(".json"):
            renamed[path] = (renamed[path] or b"").replace(b"p1.png", b"z1.png")
    second = import_with(renamed)
    assert (second.status, codes(second, "warning")) == ("ready", ["same_content"])
    assert first.name in second.report[0]["message"]
    assert (second.folder / "images/train/z1.png").samefile(first.folder / "images/train/p1.png")
    masks = [[sample.mask for sample in read_index(item.folder).samples] for item in (first, second)]
    assert all((first.folder / one).samefile(second.folder / other) for one, other in zip(*masks, strict=True))


def test_deleting_one_dataset_keeps_the_other_complete(import_with: ImportWith) -> None:
    first, second = import_with(two_classes()), import_with(two_classes())
    before = {path: path.read_bytes() for path in second.folder.rglob("*") if path.is_file()}
    freed = dataset_verbs.delete_dataset(first)
    assert not first.folder.exists()
    assert {path: path.read_bytes() for path in second.folder.rglob("*") if path.is_file()} == before
    assert freed.bytes < sum(map(len, before.values())) / 2  # the images were shared


def test_a_different_split_or_class_is_different_content(import_with: ImportWith) -> None:
    tree = two_classes(each=10)
    fingerprints = {
        import_with(tree).fingerprint,
        import_with(tree, seed=1).fingerprint,
        import_with(tree, {"kitten": ["cat"], "dog": ["dog"]}).fingerprint,
        import_with(tree, {"dog": ["dog"], "cat": ["cat"]}).fingerprint,
    }
    assert len(fingerprints) == 4


# Statistics


def test_statistics(import_with: ImportWith) -> None:
    figures = import_with(annotated.coco_tree(outlined=True)).statistics
    assert figures["images"] == {"train": 4, "val": 2}
    assert figures["objects"] == {"train": 4, "val": 4}
    cat = figures["classes"][0]
    assert (cat["name"], cat["images"], cat["objects"]) == ("cat", {"train": 1, "val": 1}, {"train": 1, "val": 2})
    area = sum((annotated.mask_values(item) == 1).sum() for item in IMAGES if item.split == "val")
    assert cat["pixels"]["val"] == pytest.approx(area / (2 * 60 * 40), abs=1e-6)
    assert figures["histograms"].keys() == {
        "width", "height", "aspect", "objects_per_image", "box_area", "box_aspect",
    }  # fmt: skip
    for values in figures["histograms"].values():
        assert len(values["edges"]) == len(values["counts"]) + 1
    assert sum(figures["histograms"]["box_area"]["counts"]) == 8
    assert sum(figures["histograms"]["width"]["counts"]) == 6


def test_statistics_of_class_folders(import_with: ImportWith) -> None:
    figures = import_with(two_classes()).statistics
    assert figures["objects"] == {"train": 0, "val": 0}
    assert figures["classes"][0]["pixels"] is None
    assert figures["histograms"].keys() == {"width", "height", "aspect"}


@pytest.mark.parametrize("values", [[3.0], [1, 1, 1], [0.5, 0.5], [1, 2, 3, 1000], list(range(100)), [0.1, 7.3, 1e6]])
def test_histograms_count_every_value(values: list[float]) -> None:
    found = histogram(values)
    assert sum(found["counts"]) == len(values)
    assert found["edges"] == sorted(found["edges"])
    assert len(found["counts"]) <= 21


# Folds


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_copies_of_an_image_are_in_one_fold(import_tree: Callable[[Tree], Dataset], folds: int) -> None:
    tree = two_classes(each=9)
    dataset = import_tree(tree | {f"cat/copy{number}.png": tree["cat/0.png"] for number in range(3)})
    index = read_index(dataset.folder)
    groups = {sample.path: sample.group for sample in index.samples if sample.group}
    assert sorted(path.rpartition("/")[2] for path in groups) == ["0.png", "copy0.png", "copy1.png", "copy2.png"]
    assert len(set(groups.values())) == 1
    parts = [{sample.path for sample in folded(index, folds, fold).split("val")} for fold in range(folds)]
    assert [part for part in parts if groups.keys() <= part] == [part for part in parts if groups.keys() & part]
