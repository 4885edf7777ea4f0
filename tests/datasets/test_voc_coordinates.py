"""Pascal VOC counts pixels from 1; many programs that write its format count from 0."""

from collections.abc import Callable

import pytest

from tests.helpers import annotated
from tests.helpers.annotated import SIZE, Tree
from tests.helpers.sources import codes, image
from trainingapp.contract.dataset_index import read_index
from trainingapp.datasets.options import ReadingOptions
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.formats.registry import read_layout
from trainingapp.models import Dataset

pytestmark = pytest.mark.database
WIDTH, HEIGHT = SIZE
Corners = tuple[float, float, float, float]


def voc(*boxes: Corners) -> Tree:
    """One image per box, whose corners are written unchanged."""
    tree: Tree = {}
    for number, corners in enumerate(boxes):
        bounds = "".join(
            f"<{name}>{value}</{name}>" for name, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        )
        tree[f"JPEGImages/{number}.png"] = image(number, SIZE)
        tree[f"Annotations/{number}.xml"] = (
            f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
            f"<object><name>cat</name><bndbox>{bounds}</bndbox></object></annotation>"
        ).encode()
    return tree


def boxes_of(dataset: Dataset) -> list[Corners]:
    assert dataset.status == "ready", dataset.report
    samples = sorted(read_index(dataset.folder).samples, key=lambda sample: sample.path)
    return [(box.left, box.top, box.right, box.bottom) for sample in samples for box in sample.boxes]


WHOLE_0, WHOLE_1 = (0, 0, WIDTH, HEIGHT), (1, 1, WIDTH, HEIGHT)
INNER = (5, 6, 12, 13)


def test_coordinates_of_the_development_kit_count_from_1(import_tree: Callable[[Tree], Dataset]) -> None:
    dataset = import_tree(voc(WHOLE_1, INNER))
    assert boxes_of(dataset) == [WHOLE_0, (4, 5, 12, 13)]
    assert "first_pixel" not in codes(dataset, "warning")


def test_a_box_that_begins_at_0_means_that_all_boxes_count_from_0(import_tree: Callable[[Tree], Dataset]) -> None:
    dataset = import_tree(voc(WHOLE_0, INNER, INNER))
    assert boxes_of(dataset) == [WHOLE_0, INNER, INNER]
    assert codes(dataset, "warning") == ["first_pixel"]
    text = dataset.report[0]["message"]
    assert text.startswith("1 box begins at the coordinate 0, among them Annotations/0.xml line 1: the coordinates are")


def test_a_few_zeros_are_mistakes_in_a_dataset_that_counts_from_1(import_tree: Callable[[Tree], Dataset]) -> None:
    dataset = import_tree(voc((0, 3, 9, 9), WHOLE_1, WHOLE_1, INNER))
    assert boxes_of(dataset) == [(0, 2, 9, 9), WHOLE_0, WHOLE_0, (4, 5, 12, 13)]
    assert codes(dataset, "warning") == ["box_clipped"]


@pytest.mark.parametrize(
    ("boxes", "chosen", "used", "expected"),
    [
        ((WHOLE_0, INNER), "auto", "zero", INNER),
        ((WHOLE_0, INNER), "one", "one", (4, 5, 12, 13)),
        (((0, 3, 9, 9), WHOLE_1, WHOLE_1, INNER), "auto", "one", (4, 5, 12, 13)),
        (((0, 3, 9, 9), WHOLE_1, WHOLE_1, INNER), "zero", "zero", INNER),
        ((WHOLE_1, INNER), "auto", None, (4, 5, 12, 13)),
        ((WHOLE_1, INNER), "zero", None, INNER),
    ],
)
def test_the_review_offers_the_other_first_pixel(
    boxes: tuple[Corners, ...], chosen: str, used: str | None, expected: Corners
) -> None:
    reading = ReadingOptions.model_validate({"first_pixel": chosen})
    layout = read_layout(annotated.source_of(voc(*boxes)), Report(), reading=reading)
    offers = {offer.field: (offer.used, offer.choices) for offer in layout.offers}
    assert offers.get("first_pixel") == (used and (used, ("zero", "one")))
    assert layout.images[-1].shapes[0].box == expected
