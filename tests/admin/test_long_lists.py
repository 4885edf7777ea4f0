"""The admin's lists in a large installation: no filter, date or count reads all rows."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tests.helpers.plans import explained
from tests.helpers.world import line, store_events
from trainingapp.admin import runs as admin_runs
from trainingapp.admin import searching
from trainingapp.admin.filters import BoundedPaginator
from trainingapp.models import Checkpoint, RunEvent, TrainingRun

EVENTS = reverse("admin:trainingapp_runevent_changelist")
RUNS = reverse("admin:trainingapp_trainingrun_changelist")
CHECKPOINTS = reverse("admin:trainingapp_checkpoint_changelist")


def checkpoint(run: TrainingRun, number: int, **fields: Any) -> Checkpoint:
    values = {"file": f"epoch_{number}.pt", "attempt": 1, "epoch": number, "step": number, "reason": "epoch"}
    return Checkpoint.objects.create(**{"run": run, "size_bytes": 1, "created_at": timezone.now(), **values, **fields})


def shown(client: Client, path: str, **query: Any) -> list[Any]:
    rows: list[Any] = list(client.get(path, query).context["cl"].result_list)
    return rows


@pytest.mark.parametrize("path", [EVENTS, CHECKPOINTS])
def test_as_many_queries_for_many_rows_and_runs_as_for_few(
    staff_client: Client, make: Callable[..., TrainingRun], path: str
) -> None:
    def queries() -> int:
        staff_client.get(path)
        with CaptureQueriesContext(connection) as captured:
            assert staff_client.get(path).status_code == 200
        assert not [query for query in captured.captured_queries if "DISTINCT" in query["sql"]]
        return len(captured)

    def add(count: int) -> None:
        for number in range(count):
            run = make("completed")
            store_events(run, line("one"))
            checkpoint(run, number)

    add(2)
    few = queries()
    add(20)
    assert queries() == few


@pytest.mark.parametrize(
    ("path", "table"), [(EVENTS, RunEvent._meta.db_table), (CHECKPOINTS, Checkpoint._meta.db_table)]
)
def test_a_list_is_read_in_the_order_of_an_index(staff_client: Client, run: TrainingRun, path: str, table: str) -> None:
    store_events(run, *(line(f"line {number}") for number in range(20)))
    for number in range(20):
        checkpoint(run, number)
    for query in ({}, {"run__id__exact": run.pk}):
        with explained(table) as plans:
            staff_client.get(path, query)
        assert plans
        if path == EVENTS or not query:  # a run has few checkpoints
            assert not any("TEMP B-TREE FOR ORDER BY" in plan for plan in plans), plans


def test_the_newest_events_are_listed_and_those_of_a_run_in_parts(
    staff_client: Client, make: Callable[..., TrainingRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_runs.RunEventAdmin, "newest", 3)
    old, new = make(), make()
    store_events(old, *(line(f"needle {number}") for number in range(5)))
    store_events(new, line("one"), line("two", level="error"))
    assert [(row.run_id, row.seq) for row in shown(staff_client, EVENTS)] == [(new.pk, 2), (new.pk, 1), (old.pk, 5)]
    assert [row.seq for row in shown(staff_client, EVENTS, q="needle")] == [5]
    assert [row.seq for row in shown(staff_client, EVENTS, level="error")] == [2]
    page = staff_client.get(EVENTS)
    assert "The newest 3 rows are listed" in page.content.decode()
    of_run = {"run__id__exact": old.pk}
    assert [row.seq for row in shown(staff_client, EVENTS, **of_run)] == [5, 4, 3]
    assert [row.seq for row in shown(staff_client, EVENTS, **of_run, before=3)] == [2, 1]
    assert [row.seq for row in shown(staff_client, EVENTS, q="needle 0", **of_run, before=4)] == [1]
    assert "newest 3 rows" not in staff_client.get(EVENTS, of_run).content.decode()
    assert (
        staff_client.get(reverse("admin:trainingapp_runevent_change", args=[old.events.first().pk])).status_code == 200
    )


def test_the_newest_checkpoints_are_listed_and_all_of_a_run_or_a_day(
    staff_client: Client, make: Callable[..., TrainingRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_runs.CheckpointAdmin, "newest", 1)
    old, new = make(), make()
    first = checkpoint(old, 1, created_at=datetime(2024, 3, 1, tzinfo=UTC), is_pinned=True)
    second = checkpoint(new, 2)
    assert shown(staff_client, CHECKPOINTS) == [second]
    assert shown(staff_client, CHECKPOINTS, is_pinned__exact=1) == []
    assert shown(staff_client, CHECKPOINTS, run__id__exact=old.pk) == [first]
    assert shown(staff_client, CHECKPOINTS, created_at__year="2024") == [first]
    assert "?created_at__year=2024" in staff_client.get(CHECKPOINTS).content.decode()


def test_no_more_rows_are_counted_than_are_paged(
    staff_client: Client, run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedPaginator, "most", 2)
    for number in range(3):
        checkpoint(run, number)
    assert staff_client.get(CHECKPOINTS, {"run__id__exact": run.pk}).context["cl"].result_count == 2


def test_a_search_finds_names_of_runs_and_texts_without_joining_all_runs(
    staff_client: Client, make: Callable[..., TrainingRun]
) -> None:
    night, other = make("completed", name="night"), make("completed", name="other")
    for run in (night, other):
        store_events(run, line("one of two"), line("three"))
    assert len(shown(staff_client, EVENTS, q="NIGHT")) == 2
    assert [row.run_id for row in shown(staff_client, EVENTS, q="night three")] == [night.pk]
    assert [row.run_id for row in shown(staff_client, EVENTS, q='"of two"')] == [other.pk, night.pk]
    assert shown(staff_client, EVENTS, q='"two of"') == []
    queries = queries_of(staff_client, EVENTS, q="night")
    (found,) = [sql for sql in queries if "LIKE" in sql]
    assert "JOIN" not in found
    assert not any("COUNT(" in sql for sql in queries)


def queries_of(client: Client, path: str, **query: Any) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path, query).status_code == 200
    return [each["sql"] for each in captured.captured_queries]


def test_runs_are_found_by_name_dataset_owner_error_and_host(
    staff_client: Client, make: Callable[..., TrainingRun], other_user: User
) -> None:
    night, other = make("failed", name="night", host="box"), make(name="other", host="attic", owner=other_user)
    TrainingRun.objects.filter(pk=night.pk).update(error_message="No space left")
    found = {
        word: {run.pk for run in shown(staff_client, RUNS, q=word)}
        for word in ("NIGHT", "pets", "grace", "space", "attic", '"space left"', "space attic", "box night", "nowhere")
    }
    assert found == {
        "NIGHT": {night.pk},
        "pets": {night.pk, other.pk},
        "grace": {other.pk},
        "space": {night.pk},
        "attic": {other.pk},
        '"space left"': {night.pk},
        "space attic": set(),
        "box night": {night.pk},
        "nowhere": set(),
    }
    assert shown(staff_client, RUNS, q="pets", status__exact="failed") == [night]


@pytest.mark.parametrize("most", [500, 1])
def test_a_search_for_runs_looks_for_them_once(
    staff_client: Client, make: Callable[..., TrainingRun], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(searching, "MOST_BY_NUMBER", most)
    runs = [make("completed", name=f"run {number}") for number in range(3)]
    changes = staff_client.get(RUNS, {"q": "run"}).context["cl"]
    assert [run.pk for run in changes.result_list] == [run.pk for run in reversed(runs)]
    assert (changes.result_count, changes.full_result_count) == (3, 3)
    searched = [sql for sql in queries_of(staff_client, RUNS, q="run") if "LIKE" in sql]
    assert not any("COUNT(" in sql for sql in searched)
    if most > 1:
        assert len(searched) == 1


def test_a_search_for_runs_reads_indexes_and_not_the_runs(
    staff_client: Client, make: Callable[..., TrainingRun]
) -> None:
    for number in range(20):
        make("completed", name=f"run {number}")
    with explained(TrainingRun._meta.db_table) as plans:
        staff_client.get(RUNS, {"q": "run"})
    (plan,) = [plan for plan in plans if "run_with_error" in plan]
    assert {"run_by_name", "run_host"} <= set(re.findall(r"COVERING INDEX (\w+)", plan))


def test_links_of_a_list_lead_back_to_its_search_and_filters(staff_client: Client, run: TrainingRun) -> None:
    address = reverse("admin:trainingapp_trainingrun_change", args=[run.pk])
    assert f'href="{address}"' in staff_client.get(RUNS).content.decode()
    page = staff_client.get(RUNS, {"q": run.name, "task": run.task}).content.decode()
    kept = urlencode({"_changelist_filters": urlencode({"q": run.name, "task": run.task})})
    assert f'href="{address}?{kept}"' in page


@pytest.mark.parametrize("chosen", [{}, {"q": "epoch"}, {"reason": "epoch"}])
def test_each_row_is_on_one_page(
    staff_client: Client, make: Callable[..., TrainingRun], monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str]
) -> None:
    monkeypatch.setattr(admin_runs.CheckpointAdmin, "list_per_page", 2)
    runs = make(), make()
    saved = [checkpoint(runs[number % 2], number) for number in range(5)]
    pages = [shown(staff_client, CHECKPOINTS, p=page, **chosen) for page in (1, 2, 3)]
    assert pages == [saved[:2:-1], saved[2:0:-1], saved[:1]]
    of_run = {"run__id__exact": runs[0].pk, **chosen}
    assert len(shown(staff_client, CHECKPOINTS, p=1, **of_run)) == 2
    assert shown(staff_client, CHECKPOINTS, p=2, **of_run) != shown(staff_client, CHECKPOINTS, p=1, **of_run)


def test_the_run_is_chosen_by_its_number_and_other_filters_stay(staff_client: Client, run: TrainingRun) -> None:
    checkpoint(run, 1)
    page = staff_client.get(CHECKPOINTS, {"reason": "epoch", "run__id__exact": run.pk, "q": "epoch"}).content.decode()
    form = re.search(r'<form class="filter-number".*?</form>', page, re.DOTALL)
    assert form is not None
    assert f'name="run__id__exact" value="{run.pk}"' in form[0]
    assert '<input type="hidden" name="reason" value="epoch">' in form[0]
    assert '<input type="hidden" name="q" value="epoch">' in form[0]
    assert 'href="?q=epoch&amp;reason=epoch"' in page


@pytest.mark.parametrize("number", ["x", "4711", "9" * 30, "-1"])
def test_a_run_that_does_not_exist_has_no_rows(staff_client: Client, run: TrainingRun, number: str) -> None:
    checkpoint(run, 1)
    assert shown(staff_client, CHECKPOINTS, run__id__exact=number) == []


def test_the_dates_above_a_list_are_those_that_have_rows(staff_client: Client, run: TrainingRun, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Shanghai"
    times = [
        datetime(2024, 12, 31, 15, 59, tzinfo=UTC),  # still the last day of 2024 in Shanghai
        datetime(2024, 12, 31, 16, 0, tzinfo=UTC),
        datetime(2025, 3, 1, 12, 0, tzinfo=UTC),
        datetime(2025, 3, 31, 12, 0, tzinfo=UTC),
        datetime(2025, 3, 31, 13, 0, tzinfo=UTC),
    ]
    for number, moment in enumerate(times):
        checkpoint(run, number, created_at=moment)

    def links(**query: Any) -> list[str]:
        page = staff_client.get(CHECKPOINTS, query).content.decode()
        listed = re.search(r'<nav class="toplinks">.*?</nav>', page, re.DOTALL)
        assert listed is not None
        return [" ".join(text.split()) for text in re.findall(r"<a [^>]*>([^<]*)</a>", listed[0])]

    assert links() == ["2024", "2025"]
    assert links(q="epoch", created_at__year="2025")[1:] == ["January 2025", "March 2025"]
    assert links(created_at__year="2025")[1:] == ["January 2025", "March 2025"]
    assert links(created_at__year="2025", created_at__month="3")[1:] == ["1 March", "31 March"]
    assert (
        len(shown(staff_client, CHECKPOINTS, created_at__year="2025", created_at__month="3", created_at__day="31")) == 2
    )


def test_the_dates_are_found_by_index(staff_client: Client, run: TrainingRun) -> None:
    for number in range(20):
        checkpoint(run, number, created_at=datetime(2020 + number, 1, 1, tzinfo=UTC))
    with explained(Checkpoint._meta.db_table) as plans:
        staff_client.get(CHECKPOINTS)
    assert len([plan for plan in plans if "INDEX checkpoint_created" in plan]) >= 20, plans
