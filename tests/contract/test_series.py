"""Series as columns: what is stored is read again exactly, and spikes stay."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainingapp.contract.series import (
    DamagedSeries,
    Frame,
    Point,
    decode,
    encode,
    frame_of,
    joined,
    thinned_indices,
)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.dictionaries(st.sampled_from(["loss", "top1", "é"]), st.one_of(NUMBERS, st.none(), st.integers()))
POINTS = st.lists(
    st.builds(
        Point,
        seq=st.integers(1, 2**62),
        attempt=st.integers(0, 9),
        time_us=st.integers(0, 2**52),
        epoch=st.one_of(st.none(), st.integers(0, 2**31 - 1)),
        step=st.one_of(st.none(), st.integers(0, 2**62)),
        split=st.just("val"),
        values=VALUES,
        details=st.dictionaries(
            st.sampled_from(["evaluation", "extra"]), st.sampled_from([True, 'evaluations/epoch_1.json "é'])
        ),
    ),
    max_size=8,
    unique_by=lambda point: point.seq,
)


def record(frame: Frame) -> list[tuple[Any, ...]]:
    """Everything that a frame holds, point by point; repr tells 0.0 from -0.0."""
    ints = zip(*(column.tolist() for column in frame.ints()), strict=True)
    return [
        (
            *numbers,
            sorted((name, repr(value)) for name, value in frame.values_at(index).items()),
            frame.details_at(index),
        )
        for index, numbers in enumerate(ints)
    ]


@given(POINTS)
def test_every_point_is_read_as_it_was_stored(points: list[Point]) -> None:
    read = record(decode(encode(frame_of(points))))
    assert [row[:3] for row in read] == [(point.seq, point.attempt, point.time_us) for point in points]
    assert [row[3:5] for row in read] == [
        tuple(-1 if number is None else number for number in (point.epoch, point.step)) for point in points
    ]
    # An integer that a float holds exactly is stored as a float: JSON does not tell them apart.
    assert [dict(decode(encode(frame_of([point]))).values_at(0)) for point in points] == [
        dict(point.values) for point in points
    ]
    assert [row[6] for row in read] == [dict(point.details) for point in points]


@given(st.lists(NUMBERS, min_size=1))
def test_floats_stay_bit_exact(values: list[float]) -> None:
    points = [Point(index, 1, 0, 1, index, "train", {"loss": value}) for index, value in enumerate(values)]
    stored = decode(encode(frame_of(points))).columns["loss"]
    assert stored.tobytes() == np.array(values, dtype="<f8").tobytes()


def series(count: int, **columns: list[float | None]) -> Frame:
    rows = [{name: column[index] for name, column in columns.items()} for index in range(count)]
    return frame_of(
        [
            Point(index + 1, 1, index * 100_000, 1, index, "train", {k: v for k, v in row.items() if v is not None})
            for index, row in enumerate(rows)
        ]
    )


def test_ten_bytes_hold_a_value_of_a_usual_run() -> None:
    count = 4096
    chance = np.random.default_rng(0)
    noise = chance.random((count, 3))
    frame = series(
        count,
        loss=[float(np.float32(math.exp(-i / count) + noise[i, 0] / 10)) for i in range(count)],
        lr=[0.01 * (1 + math.cos(i / count * math.pi)) for i in range(count)],
        top1=noise[:, 1].tolist(),
        images_per_s=(500 + noise[:, 2] * 20).tolist(),
    )
    jitter = chance.integers(0, 20_000, count).cumsum()
    frame = Frame(frame.seq, frame.attempt, frame.time_us + jitter, frame.epoch, frame.step, frame.columns)
    assert len(encode(frame)) / (4 * count) < 10


def test_only_the_metrics_that_are_shown_are_decompressed() -> None:
    data = encode(series(10, loss=[1.0] * 10, top1=[0.5] * 10))
    assert list(decode(data, {"top1"}).columns) == ["top1"]
    assert decode(data, {"top1"}).columns["top1"].tolist() == [0.5] * 10


def test_a_summary_leaves_missing_values_out() -> None:
    found = series(4, loss=[1.0, None, 4.0, 1.0]).summaries()
    assert found == {"loss": {"count": 3, "min": 1.0, "max": 4.0, "mean": 2.0}}
    assert series(2, loss=[1.7e308, 1.7e308]).summaries()["loss"]["mean"] == 1.7e308


def test_a_preview_keeps_the_spikes_of_every_metric() -> None:
    loss, top1 = [1.0] * 2000, [0.5] * 2000
    loss[777], loss[778], top1[1500] = 99.0, -99.0, 0.9
    preview = series(2000, loss=loss, top1=top1).preview()
    assert {0, 777, 778, 1500, 1999} <= set(preview.step.tolist())
    assert len(preview) < 200


def test_thinning_keeps_the_ends_and_the_lowest_and_highest_value_of_each_interval() -> None:
    values = np.arange(1000.0)
    values[123], values[321] = 5000.0, -5000.0
    kept = thinned_indices(1000, [values], 10)
    assert len(kept) <= 22
    assert {0, 123, 321, 999} <= set(kept.tolist())


def test_frames_are_joined_in_the_order_of_their_numbers_and_points_taken_once() -> None:
    whole = series(10, loss=[float(index) for index in range(10)])
    first, second = whole.take(slice(0, 6)), whole.take(slice(4, 10))
    assert record(joined([second, first])) == record(whole)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"\xff\xff\xff\xff" + data[4:],
        lambda data: data[:-9] + bytes([data[-9] ^ 255]) + data[-8:],
        lambda data: data.replace(b'"n":50', b'"n":49'),
    ],
)
def test_damaged_bytes_are_refused(damage: Any) -> None:
    data = encode(series(50, loss=[math.sin(index) for index in range(50)]))
    with pytest.raises(DamagedSeries):
        decode(damage(data))
