"""Images fitted into a square, and their masks with them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainingapp.contract.dataset_index import IGNORED_PIXEL
from trainingapp.contract.errors import BadData
from trainingapp.engine.data.images import PADDING_GREY, letterbox, load_fitted_image, load_fitted_mask


@pytest.mark.parametrize(
    ("size_wh", "place"),
    [
        ((200, 100), (0, 24, 96, 48)),
        ((100, 200), (24, 0, 48, 96)),
        ((50, 50), (0, 0, 96, 96)),
        ((1000, 1), (0, 47, 96, 1)),
        ((3, 2), (0, 16, 96, 64)),
    ],
)
def test_an_image_is_scaled_to_fit_and_centred(size_wh: tuple[int, int], place: tuple[int, int, int, int]) -> None:
    fit = letterbox(*size_wh, 96)
    assert (fit.left, fit.top, fit.width, fit.height) == place
    assert (fit.scale_x * size_wh[0], fit.scale_y * size_wh[1]) == pytest.approx((fit.width, fit.height))


def test_image_and_mask_are_aligned(tmp_path: Path) -> None:
    mask = np.zeros((30, 60), np.uint8)
    mask[10:20, 40:50] = 3
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(np.repeat(mask[..., None] // 3 * 255, 3, axis=2)).save(tmp_path / "image.png")
    image = load_fitted_image(tmp_path / "image.png", 128)
    fitted = load_fitted_mask(tmp_path / "mask.png", 128)
    assert (image.shape, image.dtype, fitted.shape, fitted.dtype) == (
        (3, 128, 128),
        torch.uint8,
        (128, 128),
        torch.uint8,
    )
    assert (image[:, :32] == PADDING_GREY).all()
    assert (image[:, 96:] == PADDING_GREY).all()
    assert (fitted[:32] == IGNORED_PIXEL).all()
    assert (fitted[96:] == IGNORED_PIXEL).all()
    inside = fitted[32:96]
    assert sorted(inside.unique().tolist()) == [0, 3]
    assert ((image[0, 32:96] > 127) == (inside == 3)).float().mean() > 0.995


@pytest.mark.parametrize("pixels", [np.zeros((4, 4, 3), np.uint8), None])
def test_a_file_that_is_not_a_mask_is_named(tmp_path: Path, pixels: np.ndarray | None) -> None:
    path = tmp_path / "bad.png"
    if pixels is None:
        path.write_bytes(b"no image")
    else:
        Image.fromarray(pixels).save(path)
    with pytest.raises(BadData, match=r"bad\.png"):
        load_fitted_mask(path, 32)
