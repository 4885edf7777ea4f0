"""Broken annotation files of every format: a clear error or a valid import, no traceback and no partial dataset."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.helpers import annotated
from tests.helpers.annotated import IMAGES, SIZE, TREES, Tree, source_of
from tests.helpers.searches import search
from tests.helpers.sources import files_under, whole_import, write_tree
from trainingapp.contract.dataset_index import read_index
from trainingapp.datasets.codes import TITLES
from trainingapp.datasets.images.decoding import ImageFacts
from trainingapp.datasets.images.geometry import place
from trainingapp.datasets.importing.layout_checks import check_layout
from trainingapp.datasets.options import ImportOptions
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources.formats.registry import read_layout
from trainingapp.models import Dataset

#: More than 2,000 cases in total.
BYTES_CASES, JSON_CASES, IMPORT_CASES = 200, 300, 40
FACTS = ImageFacts(*SIZE, notes=())
#: The dataset in every layout whose annotations are text or masks.
SETS: dict[str, Tree] = {
    **{name: make() for name, make in TREES.items()},
    "coco outlined": annotated.coco_tree(outlined=True),
    "yolo polygons": annotated.yolo_tree(polygons=True),
    "masks colour": annotated.mask_tree("colour"),
}
TOKENS = [
    b"-1",
    b"1e999",
    b"NaN",
    b"0",
    b"9" * 20,
    b"null",
    b"[]",
    b"{}",
    b'"',
    b"\0",
    b"\xff\xfe",
    b"&a;",
    b"*a",
    b"<",
    b">",
]
TOKENS += [b"\n", b",", b":", b"%", b"../../x.png", b"1_0", b"\xef\xbb\xbf", b"[[[[", b"!!python/object:os.system"]
PIECES = st.one_of(st.sampled_from(TOKENS), st.binary(max_size=6))
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.one_of(st.integers(-5, 100), st.floats(), st.text(max_size=3)), max_size=8),
    st.dictionaries(
        st.sampled_from(["size", "counts", "id", "x"]), st.one_of(st.integers(), st.text(max_size=9)), max_size=3
    ),
)


def annotation_paths(tree: Tree) -> list[str]:
    stems = {item.stem for item in IMAGES}
    is_image = {path for path in tree if path.endswith(".png") and "mask" not in path and Path(path).stem in stems}
    return sorted(path for path in tree if path not in is_image)


@st.composite
def broken_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with one to four pieces removed, duplicated, inserted or overwritten."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 12)))
        match draw(st.sampled_from(["cut", "double", "put", "end"])):
            case "cut":
                content = content[:start] + content[end:]
            case "double":
                content = content[:end] + content[start:]
            case "put":
                content = content[:start] + draw(PIECES) + content[end:]
            case "end":
                content = content[:start]
    return content


@st.composite
def broken_json(draw: st.DrawFn, value: Any) -> Any:
    """The value with one to three of its parts replaced, removed or duplicated."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        node = value
        while True:
            keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(node[key], dict | list) and node[key] and draw(st.integers(0, 4)):
                node = node[key]
                continue
            match draw(st.sampled_from(["replace", "replace", "remove", "double"])):
                case "replace":
                    node[key] = draw(VALUES)
                case "remove":
                    del node[key]
                case "double" if isinstance(node, list):
                    node.append(copy.deepcopy(node[key]))
            break
    return value


def check_clear(error: DatasetError) -> None:
    assert all(item["code"] in TITLES and item["message"] for item in error.items)


def read_all(tree: Tree, *, lenient: bool) -> None:
    """Read the annotations and place them on images of the right size, like an import but without writing files."""
    report = Report(lenient=lenient)
    try:
        layout = check_layout(read_layout(source_of(tree), report), ImportOptions(), report)
        report.raise_errors()
    except DatasetError as error:
        check_clear(error)
        return
    for image in layout.images:
        try:
            placed = place(image, FACTS, wants_mask="masks" in layout.annotations)
        except DatasetError as error:
            check_clear(error)
            continue
        for box in placed.boxes:
            assert 0 <= box.left < box.right <= SIZE[0]
            assert 0 <= box.top < box.bottom <= SIZE[1]
            assert 0 <= box.label < len(layout.classes)
        if placed.mask_HW is not None:
            assert placed.mask_HW.shape == (SIZE[1], SIZE[0])
            assert set(placed.mask_HW.ravel().tolist()) <= {*range(len(layout.classes) + 1), 255}


@pytest.mark.parametrize("name", SETS)
def test_broken_bytes(name: str) -> None:
    tree = SETS[name]

    @search(BYTES_CASES)
    @given(data=st.data(), lenient=st.booleans())
    def run(data: st.DataObject, lenient: bool) -> None:
        path = data.draw(st.sampled_from(annotation_paths(tree)))
        read_all(tree | {path: data.draw(broken_bytes(tree[path] or b""))}, lenient=lenient)

    run()


@pytest.mark.parametrize("name", ["coco outlined", "scenes"])
def test_broken_structure(name: str) -> None:
    tree = SETS[name]
    path = next(path for path in sorted(tree) if path.endswith(".json"))
    value = json.loads(tree[path] or b"")

    @search(JSON_CASES)
    @given(broken=broken_json(value), lenient=st.booleans())
    def run(broken: Any, lenient: bool) -> None:
        read_all(tree | {path: json.dumps(broken).encode()}, lenient=lenient)

    run()


@search(IMPORT_CASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(sorted(SETS)), on_error=st.sampled_from(["stop", "leave_out"]))
def test_whole_imports(
    new_dataset: Callable[..., Dataset], data_dir: Path, tmp_path: Path, data: st.DataObject, name: str, on_error: str
) -> None:
    tree = SETS[name]
    path = data.draw(st.sampled_from(annotation_paths(tree)))
    source = write_tree(tmp_path / "source", tree | {path: data.draw(broken_bytes(tree[path] or b""))})
    dataset = new_dataset(source)
    with whole_import(dataset, source, data_dir, on_error):
        if dataset.status == Dataset.Status.READY:
            index = read_index(dataset.folder)
            files = {item.path for item in index.samples} | {item.mask for item in index.samples if item.mask}
            stored = {path for path in files_under(dataset.folder) if path.startswith(("images/", "masks/"))}
            assert files == stored
