"""Old points, lines and events of finished runs are removed; starred, active and young runs keep them."""

import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tests.helpers.tiny import make_run
from tests.helpers.world import line, point, store_events
from trainingapp.models import AuditEntry, Dataset, RunEvent, RunValue, TrainingRun
from trainingapp.runs import history
from trainingapp.runs.history import Kind, due_runs, ended_runs, previews, prune_some
from trainingapp.runs.series import all_points

pytestmark = pytest.mark.django_db

Make = Callable[..., TrainingRun]


@pytest.fixture
def make(user: User, tints: Dataset, settings: Any) -> Make:
    """`make(days)` is a completed run with a training point, a validation, a line and a checkpoint event, so old."""
    settings.KEEP_SERIES_DAYS = settings.KEEP_LOG_DAYS = settings.KEEP_EVENT_DAYS = 30

    def make(days: float = 31, status: str = "completed", **config: Any) -> TrainingRun:
        run = make_run(user, tints, **config)
        points = (measured(step, split) for step in (1, 2) for split in ("train", "val"))
        others = ({"type": kind, "data": {}} for kind in ("checkpoint", "status"))
        store_events(run, line("hello"), *points, *others)
        ended = timezone.now() - timedelta(days=days)
        values = {"status": status, "finished_at": ended, "best_metric": 0.5, "metrics": {"train/loss": 0.25}}
        TrainingRun.objects.filter(pk=run.pk).update(**values)
        run.refresh_from_db()
        return run

    return make


def measured(step: int, split: str) -> dict[str, Any]:
    return {"type": "metrics", "step": step, "data": {"split": split, "values": {"loss": 1.0}}}


def splits(run: TrainingRun) -> list[str]:
    return [event.data["split"] for event in all_points(run)]


def types(run: TrainingRun) -> set[str]:
    return set(run.events.values_list("type", flat=True))


def test_old_history_goes_and_summaries_stay(make: Make) -> None:
    run = make()
    assert prune_some(60) == {Kind.SERIES: 1, Kind.LOGS: 1, Kind.EVENTS: 1}
    run.refresh_from_db()
    assert splits(run) == ["val", "val"]
    assert types(run) == {"status"}
    assert (run.best_metric, run.metrics) == (0.5, {"train/loss": 0.25})
    assert None not in (run.series_removed_at, run.logs_removed_at, run.events_removed_at)
    kinds = AuditEntry.objects.filter(verb="prune", object_id=str(run.pk)).values_list("details__kind", flat=True)
    assert set(kinds) == {"series", "logs", "events"}
    assert prune_some(60) == dict.fromkeys(Kind, 0)


@pytest.mark.parametrize("status", ["pending", "queued", "running", "paused"])
def test_runs_that_have_not_ended_keep_everything(make: Make, status: str) -> None:
    run = make(status=status)
    prune_some(60)
    assert splits(run) == ["train", "val", "train", "val"]


def test_starred_and_young_runs_keep_everything(make: Make, user: User) -> None:
    starred, young = make(), make(29)
    starred.starred_by.add(user)
    prune_some(60)
    for run in (starred, young):
        assert splits(run) == ["train", "val", "train", "val"]
        assert types(run) == {"log", "checkpoint", "status"}


def test_a_run_overrides_the_settings(make: Make) -> None:
    kept, sooner = make(keep_history_days=0), make(10, keep_history_days=7)
    assert [due_runs(kind, ended_runs()) for kind in Kind] == [[sooner.pk]] * 3
    prune_some(60)
    assert splits(kept) == ["train", "val", "train", "val"]


def test_the_configuration_decides_where_its_copied_value_is_missing(make: Make) -> None:
    kept = make(keep_history_days=0)
    RunValue.objects.filter(run=kept, name="keep_history_days").delete()
    assert prune_some(60) == dict.fromkeys(Kind, 0)
    assert splits(kept) == ["train", "val", "train", "val"]


def test_runs_with_days_of_their_own_are_found_without_reading_all_runs(
    make: Make, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.KEEP_SERIES_DAYS = settings.KEEP_LOG_DAYS = settings.KEEP_EVENT_DAYS = 0
    monkeypatch.setattr(history, "BATCH_RUNS", 1)
    make()
    table = TrainingRun._meta.db_table
    with CaptureQueriesContext(connection) as captured:
        assert ended_runs() == []
    assert not [query for query in captured.captured_queries if f'FROM "{table}"' in query["sql"]]
    later, sooner = make(10, keep_history_days=7), make(20, keep_history_days=7)
    assert [run.pk for run in ended_runs()] == [sooner.pk, later.pk]
    settings.KEEP_LOG_DAYS = 15  # now by two ways, but only once
    assert [run.pk for run in ended_runs()][1:] == [sooner.pk, later.pk]
    assert due_runs(Kind.SERIES, ended_runs()) == [sooner.pk, later.pk]


def test_each_kind_has_a_setting_of_its_own(make: Make, settings: Any) -> None:
    run = make()
    settings.KEEP_SERIES_DAYS = settings.KEEP_EVENT_DAYS = 0
    assert prune_some(60) == {Kind.SERIES: 0, Kind.LOGS: 1, Kind.EVENTS: 0}
    assert types(run) == {"checkpoint", "status"}
    assert splits(run) == ["train", "val", "train", "val"]


def test_a_resumed_run_loses_its_new_history_in_its_turn(make: Make) -> None:
    run = make(100)
    prune_some(60)
    store_events(run, point(3))
    ended = timezone.now() + timedelta(minutes=1)
    TrainingRun.objects.filter(pk=run.pk).update(finished_at=ended)
    for days, due in ((29, []), (31, [run.pk])):
        now = ended + timedelta(days=days)
        assert due_runs(Kind.SERIES, ended_runs(now), now) == due


def test_an_interrupted_removal_is_continued(make: Make, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make()
    settings.KEEP_SERIES_DAYS = 0
    now = timezone.now()
    RunEvent.objects.bulk_create(RunEvent(run=run, seq=100 + number, type="log", time=now) for number in range(4))
    monkeypatch.setattr(history, "BATCH_EVENTS", 2)
    assert prune_some(0)[Kind.LOGS] == 2
    run.refresh_from_db()
    assert run.logs_removed_at is None
    assert prune_some(60)[Kind.LOGS] == 3
    assert types(run) == {"status"}


def test_the_preview_counts_what_goes(make: Make) -> None:
    run = make()
    found = {each.kind: each for each in previews()}
    chunk = run.series.get(split="train")
    assert (found[Kind.SERIES].count, found[Kind.SERIES].bytes) == (2, len(chunk.data) + len(chunk.preview))
    assert [(found[kind].runs, found[kind].count) for kind in (Kind.LOGS, Kind.EVENTS)] == [(1, 1), (1, 1)]


def test_the_command_shows_before_it_removes(make: Make) -> None:
    run = make()
    out = io.StringIO()
    call_command("retention", "--json", stdout=out)
    shown = json.loads(out.getvalue())
    assert [(row["kind"], row["count"]) for row in shown["due"]] == [("series", 2), ("logs", 1), ("events", 1)]
    assert shown["removed"] is None
    assert splits(run) == ["train", "val", "train", "val"]
    call_command("retention", "--apply", stdout=out)
    assert splits(run) == ["val", "val"]


def test_pages_show_it(make: Make, admin_client: Client) -> None:
    run = make()
    page = admin_client.get(reverse("disk")).content.decode()
    assert "Training points" in page
    prune_some(60)
    for tab, what in (("run_charts", "points"), ("run_log", "lines")):
        page = admin_client.get(reverse(tab, args=[run.pk])).content.decode()
        assert f"The retention policy removed the {what}" in page
