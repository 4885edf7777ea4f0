"""Lists of a large installation: as many queries for many rows as for few, and read by index."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.template import engines
from django.template.loaders.cached import Loader as CachedLoader
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tests.helpers.evaluations import evaluated
from tests.helpers.plans import explained
from tests.helpers.world import line, point, store_events
from trainingapp.models import Dataset, Forecast, RunEvent, SeriesChunk, TrainingRun
from trainingapp.runs.evaluations import history, newest
from trainingapp.runs.run_list import RUNS_ON_A_PAGE
from trainingapp.runs.run_page import log_events
from trainingapp.scheduling import forecast

RUNS, EVENTS = TrainingRun._meta.db_table, RunEvent._meta.db_table


def many(run: TrainingRun, count: int, **fields: Any) -> None:
    """Copies of the run, a minute apart, the newest last."""
    now = timezone.now()
    values = {
        field.attname: getattr(run, field.attname) for field in run._meta.concrete_fields if not field.primary_key
    }
    TrainingRun.objects.bulk_create(TrainingRun(**{**values, "name": f"copy {n}", **fields}) for n in range(count))
    for number, pk in enumerate(TrainingRun.objects.filter(name__startswith="copy ").values_list("pk", flat=True)):
        TrainingRun.objects.filter(pk=pk).update(created_at=now + timedelta(minutes=number))


@pytest.fixture
def other_client(other_user: User) -> Client:
    client = Client()
    client.force_login(other_user)
    return client


def queries_of(client: Client, path: str) -> int:
    client.get(path)  # what a process reads once
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    return len(captured)


def templates_of(client: Client, path: str) -> int:
    """How many templates are rendered for a page, parts of it included."""
    return len(client.get(path).templates)


@pytest.mark.parametrize("query", ["", "?status=completed", "?q=copy", "?page=2"])
def test_the_runs_take_as_many_queries_for_fifty_as_for_five(
    user_client: Client, make: Callable[..., TrainingRun], query: str
) -> None:
    run = make("completed")
    many(run, 5, status="completed")
    few = queries_of(user_client, reverse("run_list") + query)
    parts = templates_of(user_client, reverse("run_list"))
    many(run, 50, status="completed")
    assert queries_of(user_client, reverse("run_list") + query) == few <= 16
    assert templates_of(user_client, reverse("run_list")) <= parts + 1, "a part that is rendered for each row"


def test_the_queue_takes_as_many_queries_for_eighteen_as_for_six(
    user_client: Client, make: Callable[..., TrainingRun]
) -> None:
    run = make("queued")
    many(run, 5, status="queued")
    few = queries_of(user_client, reverse("queue"))
    many(run, 12, status="queued")  # the scheduler reads the queue in pages of 20
    assert queries_of(user_client, reverse("queue")) == few


@pytest.mark.parametrize(("query", "index"), [("", "run_newest"), ("?status=completed", "run_newest_of_status")])
@pytest.mark.parametrize("number", ["1", "last"])
def test_a_page_of_the_runs_is_read_by_index(
    staff_client: Client, make: Callable[..., TrainingRun], query: str, index: str, number: str
) -> None:
    many(make("completed"), 2 * RUNS_ON_A_PAGE, status="completed")
    with explained(RUNS) as plans:
        staff_client.get(f"{reverse('run_list')}{query}{'&' if query else '?'}page={number}")
    assert any(f"INDEX {index}" in plan for plan in plans), plans
    assert not any("TEMP B-TREE FOR ORDER BY" in plan for plan in plans), plans


@pytest.mark.parametrize("number", ["1", "last"])
def test_what_others_may_see_is_read_from_the_same_index(
    other_client: Client, make: Callable[..., TrainingRun], number: str
) -> None:
    run = make("completed")
    many(run, RUNS_ON_A_PAGE, status="completed")
    many(run, RUNS_ON_A_PAGE, status="completed", visibility="private")
    with explained(RUNS) as plans:
        shown = other_client.get(reverse("run_list"), {"page": number}).context["page"]
    assert shown.total == RUNS_ON_A_PAGE + 1
    covered = [plan for plan in plans if "COVERING INDEX run_newest" in plan]
    assert len(covered) >= 2, plans  # the counts by status, and the numbers of the page
    assert not any("TEMP B-TREE FOR ORDER BY" in plan for plan in plans), plans


def test_pages_have_every_run_once_and_in_order(staff_client: Client, make: Callable[..., TrainingRun]) -> None:
    many(make("completed"), 2 * RUNS_ON_A_PAGE, status="completed")
    shown = []
    for number in (1, 2, 3):  # as addresses of version 0.2 have it
        page = staff_client.get(reverse("run_list"), {"page": number}).context["page"]
        assert (page.first, page.total) == (1 + (number - 1) * RUNS_ON_A_PAGE, 2 * RUNS_ON_A_PAGE + 1)
        shown += [run.pk for run in page.rows]
    assert shown == list(TrainingRun.objects.values_list("pk", flat=True))


@pytest.mark.parametrize(("asked", "shown"), [("7", 1), ("x", 1), ("-1", 1), ("last", 1)])
def test_a_page_that_does_not_exist_shows_the_nearest(
    user_client: Client, run: TrainingRun, asked: str, shown: int
) -> None:
    page = user_client.get(reverse("run_list"), {"page": asked}).context["page"]
    assert (page.first, page.rows) == (shown, [run])


def test_an_empty_search_matches_no_text(user_client: Client, run: TrainingRun) -> None:
    with CaptureQueriesContext(connection) as captured:
        user_client.get(reverse("run_list"), {"q": " "})
    assert not [query for query in captured.captured_queries if "LIKE" in query["sql"]]


# One run


def test_the_validations_of_a_run_are_found_without_its_points(
    tints: Dataset, make: Callable[..., TrainingRun]
) -> None:
    run = make("completed")
    for epoch in (1, 2, 3):
        store_events(run, *(point(step) for step in range(20)))
        evaluated(run, epoch)
    with explained(SeriesChunk._meta.db_table) as plans:
        assert [one.epoch for one in history(run)] == [1, 2, 3]
        found = newest(run)
        assert found is not None
        assert found.epoch == 3
    assert len(plans) == 2
    assert all("INDEX series_run_split_seq" in plan and "TEMP B-TREE" not in plan for plan in plans), plans


def test_the_evaluation_of_a_long_run_takes_as_many_queries_as_that_of_a_short_one(
    user_client: Client, user: User, tints: Dataset
) -> None:
    from tests.helpers.tiny import make_run

    run = make_run(user, tints)
    evaluated(run, 1)
    evaluated(run, 2)
    few = queries_of(user_client, reverse("evaluation", args=[run.pk]))
    for epoch in range(3, 20):
        evaluated(run, epoch)
    assert queries_of(user_client, reverse("evaluation", args=[run.pk])) == few


def test_the_newest_lines_of_a_log_are_read_in_the_order_of_an_index(run: TrainingRun) -> None:
    events = [event for n in range(20) for event in (line(f"line {n}"), point(n), {"type": "status", "data": {}})]
    store_events(run, *events)
    with explained(EVENTS) as plans:
        found = log_events(run, before=55)
    assert [event.seq for event in found] == [seq for seq in range(1, 55) if seq % 3 != 2]
    assert plans
    assert not any("TEMP B-TREE" in plan for plan in plans), plans


def test_the_page_of_a_run_takes_as_many_queries_for_many_lines_and_checkpoints(
    user_client: Client, make: Callable[..., TrainingRun]
) -> None:
    run = make("completed")

    def add(numbers: range) -> None:
        for number in numbers:
            run.checkpoints.create(
                file=f"epoch_{number}.pt",
                attempt=1,
                epoch=number,
                step=number,
                reason="epoch",
                size_bytes=1,
                is_best=number == 1,
                created_at=timezone.now(),
            )
        store_events(run, *(line(f"line {number}") for number in numbers))

    add(range(5))
    few, parts = queries_of(user_client, run.get_absolute_url()), templates_of(user_client, run.get_absolute_url())
    add(range(5, 50))
    assert queries_of(user_client, run.get_absolute_url()) == few
    assert templates_of(user_client, run.get_absolute_url()) == parts


def test_templates_are_read_and_compiled_once() -> None:
    for loader in engines["django"].engine.template_loaders:
        assert isinstance(loader, CachedLoader)


# Forecasts


def test_the_accuracy_of_forecasts_and_the_history_are_read_by_index(make: Callable[..., TrainingRun]) -> None:
    now = timezone.now()
    for minutes in range(30):
        run = make("completed", finished_at=now + timedelta(minutes=minutes), elapsed_s=60.0, epoch=2)
        Forecast.objects.create(
            run=run,
            made_at=now,
            finish_earliest=now,
            finish_latest=now + timedelta(hours=1),
            finished_at=run.finished_at,
        )
    with explained(Forecast._meta.db_table) as plans:
        accuracy = forecast.accuracy()
    assert accuracy is not None
    assert (accuracy.count, accuracy.within) == (20, 20)
    assert ["INDEX forecast_finished" in plan and "TEMP B-TREE" not in plan for plan in plans] == [True], plans
    with explained(RUNS) as plans:
        history_ = forecast.read_history()
    assert ["INDEX run_finished" in plan and "TEMP B-TREE" not in plan for plan in plans] == [True], plans
    ((_traits, rates),) = history_.rates["task", "kind"].items()
    assert rates == [60.0 / (8 * 2)] * 30
