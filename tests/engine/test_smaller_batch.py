"""Half the batch and twice the accumulation: less memory, and the same images for every step of the optimizer."""

import pytest

from tests.helpers.trainers import EndAfter, change_order, events_of, index_of, train_here
from trainingapp.contract.config import parse_config, smaller_batch
from trainingapp.engine.data.batches import BatchSource


class Images:
    """A split of `sample_count` images whose contents do not matter."""

    def __init__(self, sample_count: int) -> None:
        self.sample_count = sample_count


def _steps(images: int, batch_size: int, accumulation: int) -> int:
    source = BatchSource(Images(images), batch_size, seed=0, training=True)  # type: ignore[arg-type]
    return -(-source.batch_count // accumulation)


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "smaller"),
    [(32, 1, (16, 2)), (4, 8, (2, 16)), (15, 1, (5, 3)), (7, 2, (3, 4)), (25, 1, (5, 5))],
)
def test_the_optimizer_sees_as_many_images(batch_size: int, accumulation: int, smaller: tuple[int, int]) -> None:
    config = parse_config({"batch_size": batch_size, "accumulation_steps": accumulation, "epochs": 7})
    found = smaller_batch(config)
    assert found is not None
    assert (found.batch_size, found.accumulation_steps, found.epochs) == (*smaller, 7)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(2, 1), (3, 1), (1, 1), (64, 256)])
def test_it_cannot_go_lower(batch_size: int, accumulation: int) -> None:
    assert smaller_batch(parse_config({"batch_size": batch_size, "accumulation_steps": accumulation})) is None


def test_an_automatic_batch_size_is_halved() -> None:
    found = smaller_batch(parse_config({"auto_batch_size": True}), batch_size=512)
    assert found is not None
    assert (found.batch_size, found.accumulation_steps, found.auto_batch_size) == (256, 2, False)


def test_an_epoch_keeps_its_steps_whatever_the_split_holds() -> None:
    for batch_size in (4, 6, 8, 9, 15, 32):
        found = smaller_batch(parse_config({"batch_size": batch_size}))
        assert found is not None
        for images in range(batch_size, 5 * batch_size):
            smaller = _steps(images, found.batch_size, found.accumulation_steps)
            assert smaller == _steps(images, batch_size, 1), (batch_size, images)


def test_a_run_continues_with_the_next_image(new_run) -> None:
    run_dir = new_run(epochs=1)
    assert train_here(run_dir, EndAfter(4)) == "paused"
    change_order(run_dir, batch_size=4, accumulation_steps=2)
    assert train_here(run_dir) == "completed"
    starts = [event for event in events_of(run_dir, "status") if event["state"] == "started"]
    assert [(event["step"], event["batch_size"]) for event in starts] == [(0, 8), (4, 4)]
    assert index_of(run_dir)[-1]["step"] == 6
    assert not [event for event in events_of(run_dir, "log") if "step numbers change" in event["message"]]
