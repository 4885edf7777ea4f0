"""Memory for decoding images: estimated from the header, refused above a limit, shared by threads."""

import io
import threading
from typing import Any

import pytest
from PIL import Image

from tests.helpers.hostile import flat_png, jpeg_of
from trainingapp.datasets.images.memory_budget import MOST_BYTES, MemoryBudget, decoding_bytes, is_progressive


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def saved(mode: str, format_: str, **options: Any) -> Image.Image:
    buffer = io.BytesIO()
    Image.new(mode, (100, 100)).save(buffer, format_, **options)
    return opened(buffer.getvalue())


@pytest.mark.parametrize(
    ("mode", "format_", "options", "bytes_per_pixel"),
    [
        ("L", "PNG", {}, 1),
        ("RGB", "PNG", {}, 4),
        ("RGBA", "PNG", {}, 4),
        ("RGB", "WEBP", {}, 16),
        ("RGB", "JPEG", {}, 4),
        ("RGB", "JPEG", {"progressive": True, "subsampling": 0}, 7),
        ("RGB", "JPEG", {"progressive": True, "subsampling": 2}, 4),
    ],
)
def test_memory_of_decoding(mode: str, format_: str, options: dict[str, Any], bytes_per_pixel: float) -> None:
    assert decoding_bytes(saved(mode, format_, **options)) == bytes_per_pixel * 100 * 100


def test_an_image_of_sixty_megapixels_fits() -> None:
    for options in ({}, {"progressive": True, "subsampling": 2}):
        assert decoding_bytes(opened(jpeg_of(9504, 6336, **options))) < MOST_BYTES


def test_a_large_image_of_one_color_does_not_fit() -> None:
    assert decoding_bytes(opened(flat_png(9_400, 9_400))) > MOST_BYTES


def test_progressive_images_are_recognized() -> None:
    assert is_progressive(saved("RGB", "JPEG", progressive=True))
    assert not is_progressive(saved("RGB", "JPEG"))


def test_a_reservation_waits_until_it_fits_and_a_sole_one_never_waits() -> None:
    budget, entered, leave = MemoryBudget(100), threading.Event(), threading.Event()

    def second() -> None:
        with budget.reserve(60):
            entered.set()

    with budget.reserve(1000):
        leave.set()
    assert leave.is_set()
    with budget.reserve(60):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(30)
    thread.join()
    with budget.reserve(40), budget.reserve(60):
        pass
