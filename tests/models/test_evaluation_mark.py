"""The mark of events that have an evaluation: set at each insert, and in rows of an older database."""

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from django.core import serializers
from django.utils import timezone

from tests.helpers.studio import Studio
from trainingapp.models import RunEvent, TrainingRun

VALIDATION = {"split": "val", "values": {"top1": 0.5}, "evaluation": "evaluations/epoch_1.json"}
DATA: list[tuple[str, dict[str, Any], bool | None]] = [
    ("metrics", VALIDATION, True),
    ("metrics", {"split": "val", "values": {"top1": 0.5}}, None),
    ("metrics", {**VALIDATION, "split": "train"}, None),
    ("log", VALIDATION, None),
]


@pytest.mark.parametrize(("type_", "data", "mark"), DATA)
def test_the_mark_follows_from_type_and_data(
    run: TrainingRun, type_: str, data: dict[str, Any], mark: bool | None
) -> None:
    row = RunEvent(run=run, seq=1, type=type_, time=timezone.now(), data=data)
    RunEvent.objects.bulk_create([row])
    assert RunEvent.objects.get().is_evaluation is mark


def test_a_row_of_an_older_backup_gets_the_mark(run: TrainingRun) -> None:
    row = RunEvent(run=run, seq=1, type="metrics", time=timezone.now(), data=VALIDATION)
    stored = json.loads(serializers.serialize("json", [row]))
    del stored[0]["fields"]["is_evaluation"]
    RunEvent.objects.bulk_create([each.object for each in serializers.deserialize("json", json.dumps(stored))])
    assert RunEvent.objects.get().is_evaluation is True


@pytest.mark.long
@pytest.mark.any_database
def test_an_older_database_is_marked_and_can_go_back(studio: Studio) -> None:
    """Forwards, backwards and forwards again, with rows in the tables."""
    (run,) = studio.prepare(start=False)
    migrate = ("migrate", "-v0", "--skip-checks", "trainingapp")
    studio.manage(*migrate, "0013")
    with closing(sqlite3.connect(studio.data_dir / "studio.sqlite3")) as connection:
        for seq, (type_, data, _mark) in enumerate(DATA, start=1):
            connection.execute(
                "INSERT INTO trainingapp_runevent (run_id, seq, attempt, type, level, time, data, superseded)"
                " VALUES (?, ?, 1, ?, 'info', '2026-01-01', ?, 0)",
                (run, 1000 + seq, type_, json.dumps(data)),
            )
        connection.commit()
    before = indexes(studio)
    studio.manage(*migrate)
    rows = studio.rows("SELECT is_evaluation FROM trainingapp_runevent WHERE seq > 1000 ORDER BY seq")
    assert [row["is_evaluation"] for row in rows] == [1 if mark else None for *_event, mark in DATA]
    assert ["run_id"] in before
    assert ["run_id"] not in indexes(studio), "the index that others begin with is gone"
    studio.manage(*migrate, "0013")
    assert indexes(studio) == before
    assert len(studio.rows("SELECT id FROM trainingapp_runevent WHERE seq > 1000")) == len(DATA)
    studio.manage(*migrate)


def indexes(studio: Studio) -> list[list[str]]:
    """The columns of each index of the events."""
    names = [row["name"] for row in studio.rows("PRAGMA index_list(trainingapp_runevent)")]
    return sorted([str(row["name"]) for row in studio.rows(f"PRAGMA index_info({name})")] for name in names)
