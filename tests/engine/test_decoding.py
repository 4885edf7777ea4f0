"""Large JPEG images decoded at a reduced size: how far, that nothing moves, and that old runs decode as before."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps

from trainingapp.contract.base_config import DecodingChoice
from trainingapp.contract.config import config_fields, parse_config, result_changes
from trainingapp.contract.dataset_index import Box, Sample
from trainingapp.contract.prediction import least_decoded
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.engine.data.images import letterbox, load_fitted_image, load_fitted_mask, load_image
from trainingapp.engine.tasks.detection.data import fitted_boxes

CHOICES: tuple[DecodingChoice, ...] = get_args(DecodingChoice)
SIDEWAYS = 6
#: Sides that no power of two divides, so that reduced sizes are rounded.
WIDTH, HEIGHT = 1001, 747
BOX = (403, 201, 803, 405)


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """Smooth colored noise with a white box."""
    noise = np.random.default_rng(0).integers(0, 120, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    image.paste((255, 255, 255), BOX)
    path = tmp_path / "photograph.jpg"
    image.filter(ImageFilter.GaussianBlur(1)).save(path, quality=95)
    return path


@pytest.mark.parametrize(
    ("decoding", "fitted", "least"),
    [
        ("full", True, None),
        ("full", False, None),
        ("auto", True, (128, 128)),
        ("auto", False, (128, 128)),
        ("fast", False, (64, 64)),
        ("fast", True, (64, 48)),
    ],
)
def test_how_far_an_image_is_decoded(decoding: str, fitted: bool, least: tuple[int, int] | None) -> None:
    assert least_decoded(decoding, WIDTH, HEIGHT, 64, fitted=fitted) == least


def test_automatic_decodes_as_runs_without_the_field_did(photograph: Path) -> None:
    with Image.open(photograph) as image:
        image.draft("RGB", (128, 128))
        assert image.size == (251, 187)
        before = ImageOps.exif_transpose(image).convert("RGB")
    stretched = np.array(before.resize((64, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert torch.equal(load_image(photograph, 64), torch.from_numpy(stretched.copy()))
    fit = letterbox(*before.size, 64)
    inner = np.array(before.resize((fit.width, fit.height), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    found = load_fitted_image(photograph, 64)[:, fit.top : fit.top + fit.height, fit.left : fit.left + fit.width]
    assert torch.equal(found, torch.from_numpy(inner.copy()))


@pytest.mark.parametrize("task", TASKS)
def test_a_stored_configuration_without_the_field_is_unchanged(task: str) -> None:
    now = parse_config({"task": task}).model_dump(mode="json")
    then = {name: value for name, value in now.items() if name != "decoding"}
    assert parse_config(then).decoding == "auto"
    assert list(result_changes(then, now)) == []
    assert list(result_changes(then, {**now, "decoding": "fast"})) == [("decoding", "auto", "fast")]
    assert config_fields(task)["decoding"].choices == CHOICES


@pytest.mark.parametrize("decoding", CHOICES)
@pytest.mark.parametrize("load", [load_image, load_fitted_image])
@pytest.mark.parametrize("turned", [False, True])
def test_every_choice_shows_the_same_image(photograph: Path, decoding: DecodingChoice, load, turned: bool) -> None:
    if turned:
        with Image.open(photograph) as image:
            exif = image.getexif()
            exif[0x0112] = SIDEWAYS
            image.save(photograph, exif=exif, quality=95)
    whole = load(photograph, 64, None, "full").float()
    found = load(photograph, 64, None, decoding).float()
    assert (found - whole).abs().mean() < 2.5
    assert torch.equal(found, whole) == (decoding == "full")


@pytest.mark.parametrize("decoding", CHOICES)
@pytest.mark.parametrize("size", [64, 128])
def test_boxes_and_masks_stay_on_their_objects(
    photograph: Path, tmp_path: Path, decoding: DecodingChoice, size: int
) -> None:
    sample = Sample("photograph.jpg", -1, "train", WIDTH, HEIGHT, boxes=(Box(0, *BOX),))
    ((left, top, right, bottom),) = fitted_boxes(sample, size)[0].tolist()
    is_white_HW = (load_fitted_image(photograph, size, None, decoding) > 190).all(0)
    rows, columns = is_white_HW.any(1).nonzero().flatten(), is_white_HW.any(0).nonzero().flatten()
    found = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    assert found == pytest.approx((left, top, right, bottom), abs=1.5)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    is_object_HW = load_fitted_mask(tmp_path / "mask.png", size) == 1
    union = int((is_object_HW | is_white_HW).sum())
    assert int((is_object_HW & is_white_HW).sum()) / union > 0.85


def test_the_place_of_an_image_decoded_fast_is_that_of_its_full_size(tmp_path: Path) -> None:
    """At small sizes the rounded ratio of a reduced image would move its edge by more than a pixel."""
    for width, height in ((801, 9), (1001, 747), (803, 601), (97, 1203)):
        path = tmp_path / f"{width}.jpg"
        Image.new("RGB", (width, height), (0, 200, 0)).save(path)
        fit = letterbox(width, height, 96)
        is_inside_HW = load_fitted_image(path, 96, None, "fast")[0] < 60
        expected_HW = torch.zeros(96, 96, dtype=torch.bool)
        expected_HW[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = True
        assert torch.equal(is_inside_HW, expected_HW), (width, height)
