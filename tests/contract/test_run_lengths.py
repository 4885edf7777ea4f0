"""Packed run lengths are those of pycocotools, and outlines go around the object."""

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from trainingapp.contract.run_lengths import (
    area,
    decoded,
    encoded,
    outline,
    path_of,
    read_outlines,
    write_outlines,
)


def _random_mask(rng: np.random.Generator) -> np.ndarray:
    height, width = rng.integers(1, 40, 2)
    mask = (rng.random((height, width)) < rng.choice([0, 0.05, 0.5, 0.95, 1])).astype(np.uint8)
    return np.kron(mask, np.ones(rng.integers(1, 9, 2), np.uint8))  # also with long runs


@pytest.mark.parametrize("seed", range(4))
def test_texts_equal_those_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _case in range(150):
        mask_HW = _random_mask(rng)
        height, width = mask_HW.shape
        text = coco_masks.encode(np.asfortranarray(mask_HW))["counts"].decode()
        assert encoded(mask_HW, height, width) == text
        assert np.array_equal(decoded(text, height, width), mask_HW > 0)
        assert area(text) == mask_HW.sum()
        top, left = rng.integers(0, 9, 2).tolist()
        larger = np.zeros((height + top + 3, width + left + 2), np.uint8)
        larger[top : top + height, left : left + width] = mask_HW
        expected = coco_masks.encode(np.asfortranarray(larger))["counts"].decode()
        assert encoded(mask_HW, *larger.shape, left, top) == expected


@pytest.mark.parametrize("text", ["", "zz", "\x00", "o" * 50, "5", "ä1", "0000000000P"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        decoded(text, 6, 7)
    assert path_of(text, 6, 7) == ""


def test_an_outline_runs_through_the_middles_of_the_edges() -> None:
    mask = np.zeros((10, 12), np.bool_)
    mask[2:8, 3:9] = True
    mask[4:6, 5:7] = False
    around, hole = outline(encoded(mask, 10, 12), 10, 12)
    assert _corners(around) == {(x, y) for x in (3.5, 8.5) for y in (2, 8)} | {
        (x, y) for x in (3, 9) for y in (2.5, 7.5)
    }
    assert len(hole) == 16
    assert path_of(encoded(mask, 10, 12), 10, 12).count("Z") == 2
    assert outline(encoded(np.zeros((4, 4)), 4, 4), 4, 4) == []


def _corners(polygon: list[float]) -> set[tuple[float, float]]:
    return set(zip(polygon[::2], polygon[1::2], strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_an_outline_encloses_the_area_of_the_object(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _case in range(60):
        mask_HW = _random_mask(rng)[:96, :96]
        polygons = outline(encoded(mask_HW, *mask_HW.shape), *mask_HW.shape)
        # The corner of each pixel that is cut off is an eighth of it, outside as inside.
        assert abs(sum(map(_signed_area, polygons)) - mask_HW.sum()) <= sum(map(len, polygons)) / 8


def _signed_area(polygon: list[float]) -> float:
    x, y = np.array(polygon[::2]), np.array(polygon[1::2])
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def test_a_large_object_is_thinned_out() -> None:
    y, x = np.mgrid[:900, :1200]
    mask = (y - 450) ** 2 + (x - 600) ** 2 < 400**2
    [polygon] = outline(encoded(mask, 900, 1200), 900, 1200)
    assert len(polygon) < 2 * 4 * 96
    assert abs(_signed_area(polygon) - mask.sum()) < 0.03 * mask.sum()


def test_a_file_keeps_the_masks_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "1.json"
    write_outlines(path, 4, 5, ["5", "ab"])
    assert read_outlines(path) == ["5", "ab"]
    for bad in ("[]", '{"counts": [1]}', "{", "{}"):
        path.write_text(bad)
        with pytest.raises(ValueError):
            read_outlines(path)
