"""The known dataset written in every format has the same objects, labels and splits when imported."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.annotated import CLASSES
from tests.helpers.annotation_programs import labelme_tree
from tests.helpers.exports import EXPORTS, TASKS, Export, differences, imported, plain_names
from tests.helpers.sources import codes, write_tree
from trainingapp.datasets.importing.importer import run_import
from trainingapp.datasets.sources.formats.registry import FORMATS
from trainingapp.models import Dataset


def test_every_format_has_an_export() -> None:
    assert {export.format for export in EXPORTS.values()} == {format_.NAME for format_ in FORMATS}


def read(export: Export, new_dataset: Callable[..., Dataset], source: Path) -> Dataset:
    dataset = new_dataset(source)
    dataset.options = {"reading": dict(export.reading or {})}
    dataset.save()
    run_import(dataset)
    return dataset


@pytest.mark.parametrize("stems", ["plain", "screenshot", "chinese"])
@pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS)
def test_the_same_objects_and_splits(
    export: Export, stems: str, new_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    items = export.items(stems)
    dataset = read(export, new_dataset, write_tree(tmp_path / "source", export.files(stems)))
    assert (dataset.status, codes(dataset)) == ("ready", []), dataset.report
    assert set(codes(dataset, "warning")) - {"class_without_val"} == set(export.warnings), dataset.report
    assert (dataset.format, dataset.tasks) == (export.format, TASKS[export.holds])
    assert sorted(dataset.classes) == sorted(export.names)
    found = imported(dataset, [stems])
    assert sorted(one.origin.stem for one in found if one.origin) == sorted(item.stem for item in items)
    assert len(found) == len(items)
    classes = plain_names(dataset.classes, dataset.format)
    assert set(classes) in ({*CLASSES}, {"foreground"})
    for one in found:
        assert one.origin
        if export.given_by:
            assert one.sample.split == one.origin.split
        assert not differences(one, dataset.folder, classes)
        holds = {
            "boxes": bool(one.sample.boxes) == bool(one.origin.boxes),
            "masks": bool(one.sample.mask),
            "label": one.sample.label >= 0,
            "labels": one.sample.labels is not None,
        }
        kinds = {"outlines": ("boxes", "masks"), "all": ("boxes", "masks", "label")}.get(export.holds, (export.holds,))
        assert all(holds[kind] for kind in kinds)


@pytest.mark.parametrize(
    "export",
    [export for export in EXPORTS.values() if export.given_by],
    ids=[e for e in EXPORTS if EXPORTS[e].given_by],
)
def test_test_images_are_left_out(export: Export, new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = read(export, new_dataset, write_tree(tmp_path / "source", export.files(with_test=True)))
    assert (dataset.status, codes(dataset)) == ("ready", []), dataset.report
    found = imported(dataset, ["plain"])
    assert {one.origin.stem: one.sample.split for one in found if one.origin} == {
        item.stem: item.split for item in export.items()
    }
    assert "test_left_out" in codes(dataset, "warning")


def test_embedded_images_of_labelme_are_ignored(import_tree: Callable[..., Dataset]) -> None:
    dataset = import_tree(labelme_tree(image_data="QUJD" * 2_000_000))
    assert (dataset.status, dataset.report) == ("ready", [])
