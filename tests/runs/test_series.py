"""The metrics of runs in chunks and in rows of older versions: readers see the same, whatever is stored where."""

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from tests.helpers.plans import explained
from tests.helpers.world import line, point, store_events, stored_events
from trainingapp.contract.series import Frame, Point, decode
from trainingapp.models import RunEvent, SeriesChunk, TrainingRun
from trainingapp.operations.doctor.series import series as examined
from trainingapp.runs import series_migration
from trainingapp.runs.evaluations import history, newest
from trainingapp.runs.run_page import chart_points
from trainingapp.runs.series import all_points, event_rows, read_series, series_of
from trainingapp.runs.series_export import metrics_csv
from trainingapp.runs.series_migration import conversion, convert_some
from trainingapp.supervision import series_store
from trainingapp.supervision.series_store import append_points, supersede

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db
BEGAN = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def old_run(make: MAKE, count: int, **fields: Any) -> TrainingRun:
    """A run as version 0.2 stored it: metrics, validations and lines of the log as rows of events."""
    chance = random.Random(count)
    run = make("completed", attempt=2, **fields)
    rows = []

    def add(type_: str, step: int, data: dict[str, Any], others: dict[str, Any] | None = None) -> None:
        seq = len(rows) + 1
        time = BEGAN + timedelta(seconds=seq, microseconds=chance.randrange(1_000_000))
        columns = {
            "epoch": 1 + step // 50,
            "step": step,
            "attempt": 1 + (step > count // 2),
            "time": time,
            **(others or {}),
        }
        rows.append(RunEvent(run=run, seq=seq, type=type_, data=data, **columns))

    for step in range(count):
        loss: float | None = math.exp(-step / count) + chance.random()
        values = {"loss": None if step == 3 else loss, "top1": step / count, "lr": 1, "images_per_s": 512.5}
        # What an attempt repeated.
        add("metrics", step, {"split": "train", "values": values}, {"superseded": step % 97 == 5})
        if step % 25 == 24:
            add("log", step, {"message": f"step {step}"})
        if step % 50 == 49:
            data = {"split": "val", "values": {"loss": loss, "top1": 0.5}, "is_best": True, "best_metric": "top1"}
            add("metrics", step, {**data, "evaluation": f"evaluations/epoch_{1 + step // 50}.json"})
    add("metrics", 0, {"split": "val", "values": {"loss": 0.5}}, {"epoch": None, "step": None})
    RunEvent.objects.bulk_create(rows)
    TrainingRun.objects.filter(pk=run.pk).update(event_seq=len(rows), metrics_in_rows=True)
    run.refresh_from_db()
    return run


def everything(run: TrainingRun) -> list[tuple[Any, ...]]:
    return [
        (row.seq, row.type, row.attempt, row.epoch, row.step, row.time, row.superseded, row.data)
        for row in stored_events(run.pk)
    ]


def shown(client: Client, run: TrainingRun) -> list[Any]:
    """What every reader makes of the run's metrics."""
    run.refresh_from_db()
    return [
        chart_points(run),
        chart_points(run, after=run.event_seq // 2),
        client.get(reverse("run_metrics", args=[run.pk])).json(),
        [
            (row.seq, row.attempt, row.epoch, row.step, row.time, row.superseded, row.data["values"])
            for row in all_points(run)
        ],
        history(run),
        newest(run),
        series_of([run.pk], ["train/loss", "val/top1", "val/nothing"], 100),
    ]


@pytest.mark.parametrize("count", [60, 9000])
def test_a_converted_run_shows_every_point_as_before(user_client: Client, make: MAKE, count: int) -> None:
    run = old_run(make, count)
    as_stored = [
        (row.seq, row.type, row.attempt, row.epoch, row.step, row.time, row.superseded, row.data)
        for row in RunEvent.objects.order_by("seq")
    ]
    before = shown(user_client, run)
    assert everything(run) == as_stored
    assert convert_some()
    assert not RunEvent.objects.filter(type="metrics").exists()
    assert everything(run) == as_stored, "every event is as it was"
    assert shown(user_client, run) == before
    assert sum(SeriesChunk.objects.values_list("count", flat=True)) == sum(row[1] == "metrics" for row in as_stored)


def test_a_run_is_complete_at_every_moment_of_its_conversion(
    user_client: Client, make: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_migration, "BATCH_ROWS", 70)
    run = old_run(make, 300)
    before, whole = shown(user_client, run), everything(run)
    steps = 0
    while not convert_some(0):  # a batch each
        assert shown(user_client, run) == before
        assert everything(run) == whole
        steps += 1
    assert steps >= 4
    assert shown(user_client, run) == before
    assert conversion().runs_left == 0


def test_a_run_that_trains_meanwhile_gains_points_at_its_end(
    user_client: Client, make: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_migration, "BATCH_ROWS", 70)
    run = old_run(make, 300)
    count = len(everything(run))
    for number in range(20):
        store_events(
            run, {"type": "metrics", "step": 1000 + number, "data": {"split": "train", "values": {"loss": 1.0}}}
        )
        convert_some(0)
    found = everything(run)
    assert [row[0] for row in found] == list(range(1, count + 21))
    assert [row[4] for row in found[-20:]] == list(range(1000, 1020))
    run.refresh_from_db()
    assert [point["step"] for point in chart_points(run)][-20:] == list(range(1000, 1020))


def test_the_command_converts_and_the_page_shows_how_far_it_is(admin_client: Client, make: MAKE) -> None:
    old_run(make, 10)
    make("completed")
    page = admin_client.get(reverse("disk")).content.decode()
    assert "Converting the metrics of older runs" in page
    assert "1 of 2 runs" in page
    assert "still to be converted" in " ".join(found.message for found in examined())
    output = StringIO()
    call_command("series", "convert", stdout=output, stderr=StringIO())
    assert output.getvalue() == "1 runs converted, 0 left.\n"
    assert "Converting" not in admin_client.get(reverse("disk")).content.decode()


@pytest.mark.any_database  # PostgreSQL reads a table of two rows without an index
def test_whether_runs_are_left_is_known_without_reading_them(make: MAKE) -> None:
    make("completed")
    with explained(TrainingRun._meta.db_table) as plans:
        assert convert_some()
        assert conversion().runs_left == 0
    assert all("run_metrics_in_rows" in plan for plan in plans[:2]), plans


def points(count: int, *, first: int = 1, attempt: int = 1, split: str = "train") -> list[Point]:
    return [
        Point(seq, attempt, seq * 1_000_000, 1, seq, split, {"loss": 1 / seq, "lr": 0.5})
        for seq in range(first, first + count)
    ]


def test_points_that_come_one_by_one_end_in_full_chunks(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series_store, "TAIL_POINTS", 4)
    monkeypatch.setattr(series_store, "CHUNK_POINTS", 16)
    for seq in range(1, 51):
        append_points(run.pk, points(1, first=seq))
    chunks = list(SeriesChunk.objects.order_by("first_seq"))
    assert [(chunk.first_seq, chunk.last_seq, chunk.count) for chunk in chunks] == [
        *((first, first + 7, 8) for first in range(1, 49, 8)),
        (49, 50, 2),
    ]
    first = chunks[0]
    assert (first.first_step, first.last_step, first.last_time) == (1, 8, datetime(1970, 1, 1, 0, 0, 8, tzinfo=UTC))
    assert first.summary["loss"] == {
        "count": 8,
        "min": 1 / 8,
        "max": 1.0,
        "mean": sum(1 / n for n in range(1, 9)) / 8,
    }
    (series,) = read_series(run)
    assert series.frame.seq.tolist() == list(range(1, 51))
    assert series.frame.columns["loss"].tolist() == [1 / seq for seq in range(1, 51)]


def test_a_full_chunk_is_not_written_again(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series_store, "TAIL_POINTS", 4)
    monkeypatch.setattr(series_store, "CHUNK_POINTS", 16)
    written: list[int] = []
    write = series_store._write

    def counted(row: SeriesChunk, frame: Frame) -> None:
        written.append(len(frame))
        write(row, frame)

    monkeypatch.setattr(series_store, "_write", counted)
    first = 1
    for count in (9, 3, 2, 40, 16):
        append_points(run.pk, points(count, first=first))
        first += count
    assert written == [9, 3, 5, 15, 15, 15, 16]  # three, five of both, then these five with 40 in three equal parts
    assert read_series(run)[0].frame.seq.tolist() == list(range(1, first))


@pytest.mark.parametrize("chunk_points", [4, 64])
def test_superseding_is_exact_wherever_a_chunk_is_cut(
    run: TrainingRun, monkeypatch: pytest.MonkeyPatch, chunk_points: int
) -> None:
    monkeypatch.setattr(series_store, "TAIL_POINTS", 2)
    monkeypatch.setattr(series_store, "CHUNK_POINTS", chunk_points)
    chance = random.Random(chunk_points)
    expected: dict[int, tuple[int, str, int | None, bool]] = {}
    seq = 0
    for attempt in range(1, 12):
        for _number in range(chance.randrange(1, 20)):
            seq += 1
            split = chance.choice(["train", "train", "val"])
            step = chance.choice([None, *[seq] * 9])
            append_points(run.pk, [Point(seq, attempt, 0, 1, step, split, {"loss": 1.0})])
            expected[seq] = (attempt, split, step, False)
        from_step, is_due = max(0, seq - chance.randrange(12)), chance.random() < 0.5
        supersede(run.pk, attempt + 1, from_step, validation_due=is_due)
        for number, (made, split, step, was) in expected.items():
            is_repeated = step is not None and (step > from_step or (is_due and step == from_step and split == "val"))
            expected[number] = (made, split, step, was or is_repeated)
    TrainingRun.objects.update(event_seq=seq)
    found = {row.seq: (row.attempt, row.data["split"], row.step, row.superseded) for row in stored_events(run.pk)}
    assert found == expected
    run.refresh_from_db()
    left = [number for number, row in expected.items() if not row[3]]
    assert [point["seq"] for point in chart_points(run)] == left


def test_measurements_of_the_machine_stay_apart_from_metrics(user_client: Client, run: TrainingRun) -> None:
    measured = {"type": "metrics", "step": 5, "data": {"split": "system", "values": {"gpu_utilization": 0.5}}}
    store_events(run, {**measured, "attempt": 1})
    store_events(run, point(6, attempt=1))
    supersede(run.pk, 2, 3, validation_due=False)
    run.refresh_from_db()
    assert [point["split"] for point in chart_points(run)] == []
    assert [point["values"] for point in chart_points(run, split="system")] == [
        {"gpu_utilization": 0.5}
    ]  # not repeated
    assert list(metrics_csv(run)) == ["seq,time,attempt,epoch,step,split\n"]
    address = f"/api/v1/training/{run.pk}/metrics"
    assert user_client.get(address).json()["items"] == []
    named = user_client.get(address, {"names": "loss,system/gpu_utilization"}).json()["items"]
    assert [entry["values"] for entry in named] == [{"gpu_utilization": 0.5}]


def test_events_are_read_piece_by_piece_without_a_gap(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series_store, "TAIL_POINTS", 4)
    monkeypatch.setattr(series_store, "CHUNK_POINTS", 8)
    for step in range(100):
        others = [line("between")] if step % 7 == 0 else []
        validated = {"type": "metrics", "step": step, "data": {"split": "val", "values": {"top1": 0.5}}}
        train = {"type": "metrics", "step": step, "data": {"split": "train", "values": {"loss": 1.0}}}
        store_events(run, train, *others, *([validated] if step % 10 == 0 else []))
    run.refresh_from_db()
    found: list[int] = []
    while rows := event_rows(run.pk, found[-1] if found else 0, 9, run.event_seq):
        found += [row.seq for row in rows]
    assert found == list(range(1, run.event_seq + 1))
    assert [row.seq for row in event_rows(run.pk, 20, 100, 30)] == list(range(21, 31))


def test_a_chart_of_a_very_long_series_reads_previews_and_keeps_its_spikes(
    run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainingapp.runs.series.FULL_POINTS", 5000)
    many = points(20_000)
    many[12_345] = Point(12_346, 1, 0, 1, 12_346, "train", {"loss": 99.0, "lr": -7.0})
    append_points(run.pk, many)
    TrainingRun.objects.update(event_seq=20_000)
    run.refresh_from_db()
    shortened = SeriesChunk.objects.exclude(preview=b"")
    assert shortened.count() == 5
    shortened.update(data=b"")  # they are not read
    found = chart_points(run)
    assert len(found) <= 2000
    assert {1, 12_346, 20_000} <= {point["step"] for point in found}
    (drawn,) = series_of([run.pk], ["train/loss"], 200).values()
    assert max(drawn["train/loss"].value) == 99.0
    assert len(drawn["train/loss"].value) <= 200
    assert drawn["train/loss"].total == 20_000


def test_several_runs_are_compared_by_few_queries(make: MAKE, django_assert_max_num_queries: Any) -> None:
    runs = [make(name=f"run {number}") for number in range(4)]
    for number, run in enumerate(runs):
        append_points(run.pk, points(10 + number))
        append_points(run.pk, points(3, first=100, split="val"))
    with django_assert_max_num_queries(3):
        found = series_of([run.pk for run in runs], ["train/loss", "val/loss"], 500)
    assert [len(found[run.pk]["train/loss"].value) for run in runs] == [10, 11, 12, 13]
    assert found[runs[0].pk]["val/loss"].step == [100, 101, 102]
    assert found[runs[0].pk]["train/loss"].time_s[:2] == [1.0, 2.0]


def test_a_damaged_chunk_leaves_a_gap_and_the_doctor_names_it(user_client: Client, run: TrainingRun) -> None:
    append_points(run.pk, points(5))
    append_points(run.pk, points(2, first=6, split="val"))
    SeriesChunk.objects.filter(split="val").update(data=b"nonsense")
    TrainingRun.objects.update(event_seq=7)
    data = user_client.get(reverse("run_metrics", args=[run.pk])).json()
    assert [point["seq"] for point in data["points"]] == [1, 2, 3, 4, 5]
    (finding,) = examined(full=True)
    assert finding.severity == "error"
    assert f"{run.pk}#6-7 val" in finding.message


def test_a_deleted_run_leaves_no_chunk(run: TrainingRun) -> None:
    append_points(run.pk, points(5))
    run.delete()
    assert not SeriesChunk.objects.exists()


def test_details_of_an_event_stay_with_it(run: TrainingRun) -> None:
    data = {"split": "val", "values": {"top1": 0.5}, "evaluation": "evaluations/epoch_1.json", "is_best": True}
    store_events(run, {"type": "metrics", "data": data})
    (event,) = stored_events(run.pk)
    assert event.data == data
    chunk = SeriesChunk.objects.get()
    assert decode(chunk.data).details_at(0) == {"evaluation": "evaluations/epoch_1.json", "is_best": True}
