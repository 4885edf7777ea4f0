"""Metrics as Parquet and as event files of TensorBoard: the libraries of those formats read every point back."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers.tiny import make_dataset, make_run
from tests.helpers.world import point, store_events
from trainingapp.models import TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs import series_files
from trainingapp.runs.series import all_points
from trainingapp.runs.series_files import metrics_parquet, metrics_tensorboard

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(user: User) -> TrainingRun:
    """A run with more points than one piece, two splits, a value that is not finite, and repeated steps."""
    run = make_run(user, make_dataset(user))
    store_events(run, *(point(step, loss=1 / (step + 3)) for step in range(1, 1200)))
    values = {"loss": math.inf, "top1": 1 / 3}
    store_events(run, {"type": "metrics", "step": 1199, "data": {"split": "val", "values": values}})
    store_events(run, point(1200, loss=9.0, superseded=True), point(1200, loss=1e-30, attempt=2))
    run.refresh_from_db()
    return run


def test_parquet_holds_every_point(run: TrainingRun) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(io.BytesIO(b"".join(metrics_parquet(run)))).to_pylist()
    expected = [
        {
            **{name: getattr(each, name) for name in ("seq", "time", "attempt", "epoch", "step")},
            "split": each.data["split"],
            "loss": None,
            "top1": None,
            **each.data["values"],
        }
        for each in all_points(run)
    ]
    assert len(rows) == 1201
    assert rows == expected


def test_parquet_is_written_in_groups(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(series_files, "GROUP_ROWS", 500)
    pieces = list(metrics_parquet(run))
    assert len(pieces) == 4  # three groups and what closes the file
    assert parquet.ParquetFile(io.BytesIO(b"".join(pieces))).metadata.num_rows == 1201


def test_without_the_package_the_reason_is_given(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series_files, "has_parquet", lambda: False)
    with pytest.raises(VerbError, match="pyarrow"):
        metrics_parquet(run)


def test_tensorboard_holds_every_point(run: TrainingRun, tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1").write_bytes(b"".join(metrics_tensorboard(run)))
    read = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0})
    read.Reload()
    expected: dict[str, list[tuple[float, int, Any]]] = {}
    for each in all_points(run):
        for name, value in each.data["values"].items():
            place = (each.time.timestamp(), each.step or 0, float(np.float32(value)))
            expected.setdefault(f"{name}/{each.data['split']}", []).append(place)
    found = {
        tag: [(scalar.wall_time, scalar.step, scalar.value) for scalar in read.Scalars(tag)]
        for tag in read.Tags()["scalars"]
    }
    assert found == expected
