"""Typical user sources: a correct import, or an error that suggests what to do."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import pytest
from _pytest.mark.structures import ParameterSet

from tests.datasets.cases.archives import CASES as ARCHIVES
from tests.datasets.cases.boxes import CASES as BOXES
from tests.datasets.cases.classes import CASES as CLASSES
from tests.datasets.cases.images import CASES as IMAGES
from tests.datasets.cases.kit import Case, Corners, Outcome, Refused
from tests.datasets.cases.masks import CASES as MASKS
from tests.datasets.cases.programs import CASES as PROGRAMS
from tests.helpers.sources import codes, write_tree
from trainingapp.contract.dataset_index import read_index
from trainingapp.datasets.importing.importer import check_upload, run_import
from trainingapp.datasets.importing.inspection import run_inspection
from trainingapp.datasets.report import DatasetError
from trainingapp.models import Dataset

CASES = [*BOXES, *CLASSES, *MASKS, *PROGRAMS, *IMAGES, *ARCHIVES]


def test_every_case_is_in_the_table_once() -> None:
    assert len(CASES) == len({case.name for case in CASES}) == 105


def source_of(case: Case, folder: Path) -> Path:
    """Write the files of the case. Returns the folder or the file to import."""
    tree = case.build()
    if not case.linked:
        return write_tree(folder / "source", tree) / case.upload
    write_tree(folder / "store", tree)
    for path in tree:
        (folder / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / path).symlink_to(folder / "store" / path)
    return folder / "source"


def imported(dataset: Dataset, *, leave_out: bool = False) -> Dataset:
    """The dataset after upload check, inspection and import, which end when it is refused."""
    source = Path(dataset.source)
    try:
        if source.is_file():
            check_upload(source)
    except DatasetError as error:
        dataset.status, dataset.report = Dataset.Status.REFUSED, error.items
        return dataset
    dataset.status, dataset.options = Dataset.Status.INSPECTING, {"on_error": "leave_out"} if leave_out else {}
    dataset.save()
    run_inspection(dataset)
    if dataset.status == Dataset.Status.PROPOSED:
        dataset.status = Dataset.Status.IMPORTING
        dataset.save()
        run_import(dataset)
    return dataset


def val_stems(dataset: Dataset) -> set[str]:
    return {PurePosixPath(one.path).stem for one in read_index(dataset.folder).samples if one.split == "val"}


def found_boxes(dataset: Dataset, names: Mapping[str, object]) -> dict[str, list[tuple[str, Corners]]]:
    """The objects of images whose path without suffix ends with one of the names."""
    found = defaultdict(list)
    for sample in read_index(dataset.folder).samples:
        stem = sample.path.rpartition(".")[0]
        for name in names:
            if f"/{stem}".endswith(f"/{name}"):
                found[name] += [
                    (
                        f"{'crowd of ' if box.crowd else ''}{dataset.classes[box.label]}",
                        (round(box.left, 2), round(box.top, 2), round(box.right, 2), round(box.bottom, 2)),
                    )
                    for box in sample.boxes
                ]
    return {name: sorted(found[name]) for name in names}


def difference(dataset: Dataset, expected: Outcome) -> object:
    """The differences from the expected outcome as pairs (found, expected); empty if there are none."""
    if isinstance(expected, Refused):
        found = {"status": dataset.status, "errors": " ".join(sorted(set(codes(dataset))))}
        wanted: dict[str, object] = {"status": "refused", "errors": expected.errors}
        messages = " ".join(item["message"] for item in dataset.report)
        pairs = {name: (found[name], wanted[name]) for name in wanted if found[name] != wanted[name]}
        return pairs or [text for text in expected.texts if text not in messages]
    facts = {
        "status": (dataset.status, "ready"),
        "format": (dataset.format, expected.format),
        "tasks": (" ".join(dataset.tasks), expected.tasks),
        "classes": (dataset.classes, expected.classes),
        "findings": (" ".join(sorted(set(codes(dataset, "warning")))), expected.warnings),
        "errors": (codes(dataset), []),
    }
    if dataset.status == Dataset.Status.READY:
        stems = set(expected.val_stems.split(";" if ";" in expected.val_stems else None))
        facts |= {
            "images": ((dataset.count("train"), dataset.count("val")), (expected.train, expected.val)),
            "validation": (val_stems(dataset) if stems else stems, stems),
            "label mode": (dataset.label_mode, expected.label_mode),
            "boxes": (
                found_boxes(dataset, expected.boxes),
                {name: sorted(boxes) for name, boxes in expected.boxes.items()},
            ),
        }
    return {name: pair for name, pair in facts.items() if pair[0] != pair[1]}


def param_of(case: Case) -> ParameterSet:
    marks = [pytest.mark.xfail(strict=True, reason=case.wrong)] if case.wrong else []
    return pytest.param(case, id=case.name, marks=marks)


@pytest.mark.parametrize("case", [param_of(case) for case in CASES])
def test_outcome(case: Case, new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    source = source_of(case, tmp_path)
    dataset = imported(new_dataset(source))
    outcomes = (case.expected, *case.accepted)
    differences = [difference(dataset, outcome) for outcome in outcomes]
    assert not all(differences), (differences, dataset.report)
    outcome = outcomes[[bool(one) for one in differences].index(False)]
    if isinstance(outcome, Refused) and outcome.left_out:
        lenient = imported(new_dataset(source), leave_out=True)
        assert not difference(lenient, outcome.left_out), lenient.report
