"""Large annotation files are read in pieces, and their objects are stored in compact form."""

import json
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import annotated
from tests.helpers.annotated import expected_boxes, imported_boxes
from trainingapp.contract.dataset_index import Box
from trainingapp.datasets.images.packed_boxes import PackedBoxes
from trainingapp.datasets.report import DatasetError
from trainingapp.datasets.sources import files, packed_shapes
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.json_stream import members
from trainingapp.datasets.sources.layout import Rle, Shape
from trainingapp.datasets.sources.packed_shapes import OutlineStore, PackedShapes
from trainingapp.datasets.sources.position import Position
from trainingapp.models import Dataset

Tree = dict[str, bytes | None]
ImportTree = Callable[[Tree], Dataset]


def pieces(text: str, length: int) -> Iterator[str]:
    return (text[start : start + length] for start in range(0, len(text), length))


@pytest.mark.parametrize("length", [1, 2, 7, 4096])
@pytest.mark.parametrize("indent", [None, 1])
def test_reading_in_pieces_equals_reading_the_whole_text(length: int, indent: int | None) -> None:
    content = {"a": [{"b": [1.5, 'x\\"]}']}, -2e3, True], "info": {"c": "ü" * 5000}, "empty": [], "n": 12345}
    text = json.dumps(content, indent=indent, ensure_ascii=False) + "\n "
    whole = list(members(text, "a.json"))
    assert list(members(pieces(text, length), "a.json")) == whole
    assert [value for key, _line, value in whole if key == "a"] == content["a"]


@pytest.mark.parametrize("length", [1, 5, 4096])
@pytest.mark.parametrize(
    "text", ['{"a": [1,\n2', '{"a": [1,\n2}', '{"a": 1}\n\n x', '{"a":\n [1, {"b": tru}]}', "[]", ""]
)
def test_errors_have_the_same_line_when_read_in_pieces(text: str, length: int) -> None:
    def error(source: str | Iterator[str]) -> str:
        with pytest.raises(DatasetError) as caught:
            list(members(source, "a.json"))
        return str(caught.value)

    assert error(pieces(text, length)) == error(text)
    assert "a.json line" in error(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_in_pieces(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    monkeypatch.setattr(files, "MOST_BYTES_AT_ONCE", 100)
    text = "größe 猫 " * 300_000
    source = Files(annotated.source_of({"a.json": text.encode(encoding)}))
    found = list(source.text_pieces(source.by_path["a.json"]))
    assert "".join(found) == text
    assert len(found) > 1


def test_text_in_a_code_page_is_read_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_BYTES_AT_ONCE", 100)
    text = "Größe über Straße\n" * 100
    source = Files(annotated.source_of({"a.json": text.encode("cp1252")}))
    assert list(source.text_pieces(source.by_path["a.json"])) == [text]


SHAPES = [
    Shape(1, Position("a.json", 3), (1.25, 2.0, 30.125, 4.5)),
    Shape(0, Position("a.json", 70_000), None, (array("f", [0, 0, 5, 0, 5, 5]), array("f", [1, 1, 2, 1, 2, 2, 1, 2]))),
    Shape(1, Position("a.json", 9), (0.0, 0.0, 1.0, 1.0), rle=Rle(2, 2, "04"), crowd=True),
    Shape(2, Position("a.json", 10), (3.0, 3.0, 9.0, 9.0), (array("f", [3, 3, 9, 3, 9, 9]),)),
]


@pytest.fixture(params=["memory", "disk"])
def packed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackedShapes:
    """The shapes in compact form, with outlines in memory or in a temporary file."""
    monkeypatch.setattr(packed_shapes, "MOST_BYTES_IN_MEMORY", 30)
    found = PackedShapes("a.json", OutlineStore(tmp_path if request.param == "disk" else None), [0, 1, 2])
    for shape in SHAPES:
        found.add(shape.label, shape.where.line, shape.box, shape.polygons, shape.rle, crowd=shape.crowd)
    return found


def test_packed_shapes_equal_the_added_shapes(packed: PackedShapes) -> None:
    assert list(packed) == SHAPES
    assert (packed[-1], packed[1:3], len(packed)) == (SHAPES[-1], SHAPES[1:3], 4)
    assert (packed.seen(), packed.outlined(), packed.placed()) == ({0, 1, 2}, 3, 4)
    with pytest.raises(IndexError):
        packed[4]


def test_labels_are_replaced_and_objects_left_out(packed: PackedShapes) -> None:
    found = packed.relabelled([-1, 5, 0])
    assert [shape.label for shape in found] == [5, 5, 0]
    assert [shape.where for shape in found] == [SHAPES[0].where, SHAPES[2].where, SHAPES[3].where]
    assert (found[1].rle, found[2].polygons) == (SHAPES[2].rle, SHAPES[3].polygons)
    assert found.seen() == {0, 5}


def test_the_temporary_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_shapes, "MOST_BYTES_IN_MEMORY", 0)
    folder = tmp_path / "store"
    folder.mkdir()
    store = OutlineStore(folder)
    offset, length = store.add((array("f", [1, 2, 3, 4, 5, 6]),))
    assert store.read(offset, length) == (array("f", [1, 2, 3, 4, 5, 6]),)
    assert list(folder.iterdir()) == []


def test_a_dataset_read_in_pieces_and_stored_on_disk_is_the_same(
    import_tree: ImportTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = import_tree(annotated.coco_tree(outlined=True))
    monkeypatch.setattr(files, "MOST_BYTES_AT_ONCE", 100)
    monkeypatch.setattr(packed_shapes, "MOST_BYTES_IN_MEMORY", 10)
    in_pieces = import_tree(annotated.coco_tree(outlined=True))
    assert in_pieces.fingerprint == whole.fingerprint
    assert imported_boxes(in_pieces) == expected_boxes()


def test_packed_boxes_equal_the_boxes() -> None:
    boxes = [Box(2, 0.0, 1.125, 3.333, 4.0), Box(0, 1.0, 1.0, 2.0, 2.0, crowd=True)]
    packed = PackedBoxes(boxes)
    assert (list(packed), packed[-1], packed[:1], len(packed)) == (boxes, boxes[1], boxes[:1], 2)
    assert packed == tuple(boxes)
    assert [box.values() for box in packed] == [box.values() for box in boxes]
    with pytest.raises(IndexError):
        packed[2]
