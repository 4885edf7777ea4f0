"""Predicted masks become PNG files in a thread beside the validation."""

import io
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from trainingapp.engine.tasks.segmentation import mask_files
from trainingapp.engine.tasks.segmentation.mask_files import MaskEncoder, encoded_mask
from trainingapp.engine.tasks.segmentation.metrics import SegmentationMeter


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 48), (1, 300), (257, 1)])
def test_a_mask_is_read_as_it_was(shape: tuple[int, int]) -> None:
    mask = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))
    with Image.open(io.BytesIO(encoded_mask(mask))) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        image.verify()
    assert (np.array(Image.open(io.BytesIO(encoded_mask(mask)))) == mask.numpy()).all()


def test_a_part_of_a_batch_without_its_padding_is_encoded() -> None:
    masks = torch.arange(2 * 6 * 6, dtype=torch.uint8).view(2, 6, 6)
    part = masks[1, 1:4, 2:6]
    assert (np.array(Image.open(io.BytesIO(encoded_mask(part)))) == part.numpy()).all()


def test_masks_are_encoded_in_another_thread_and_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()

    def noted(mask_HW: torch.Tensor) -> bytes:
        threads.add(threading.current_thread().name)
        return encoded_mask(mask_HW)

    monkeypatch.setattr(mask_files, "encoded_mask", noted)
    monkeypatch.setattr(mask_files, "MOST_PENDING", 2)
    encoder = MaskEncoder()
    masks = [torch.full((4, 4), number, dtype=torch.uint8) for number in range(9)]
    futures = [encoder.encode(mask) for mask in masks]
    encoder.close()
    assert all(future.done() for future in futures)
    assert threading.current_thread().name not in threads
    assert [int(np.array(Image.open(io.BytesIO(future.result())))[0, 0]) for future in futures] == list(range(9))


def test_an_error_of_the_thread_ends_the_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(mask_HW: torch.Tensor) -> bytes:
        raise MemoryError("no memory for the mask")

    monkeypatch.setattr(mask_files, "encoded_mask", fail)
    meter = SegmentationMeter(2, torch.device("cpu"), validation=True)
    meter.record(0, torch.eye(2, dtype=torch.int64), torch.zeros(4, 4, dtype=torch.uint8))
    with pytest.raises(MemoryError, match="no memory for the mask"):
        meter.evaluation(["a"])
