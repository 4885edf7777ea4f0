"""Pages of the runs by position: forwards and backwards, while runs come and go."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import QueryDict

from tests.helpers.plans import explained
from trainingapp.models import RunValue, TrainingRun
from trainingapp.runs.columns import shown_columns
from trainingapp.runs.keyset import KeysetPage, KeysetPaginator, as_position, as_text
from trainingapp.runs.run_list import RunQuery, found_runs, keyed, ordered

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db
ON_A_PAGE = 4


@pytest.fixture
def twelve(make: MAKE) -> list[TrainingRun]:
    """Runs with ties and missing values in each column that matters here."""
    return [one(make, place) for place in range(12)]


def one(make: MAKE, place: int, **fields: Any) -> TrainingRun:
    metrics = {"val/top1": (place % 5) / 10, "val/loss": 1.0} if place % 4 else {}
    config = {**make_config(), "weight_decay": (place % 3) / 100, "optimizer": ("adamw", "sgd")[place % 2]}
    finished = datetime(2026, 1, 1 + place % 3, tzinfo=UTC) if place % 2 else None
    return make(
        "completed" if place % 3 else "failed",
        name=f"run {place % 7}",
        metrics=metrics,
        config=config,
        best_metric=(place % 5) / 10 if place % 4 else None,
        finished_at=finished,
        **fields,
    )


def make_config() -> dict[str, Any]:
    from trainingapp.contract.config import parse_config

    return parse_config({}).model_dump(mode="json")


def paginator(user: User, address: str) -> KeysetPaginator[TrainingRun]:
    query = RunQuery.of(QueryDict(address))
    rows, keys = keyed(found_runs(user, query), query)
    return KeysetPaginator(rows, keys, ON_A_PAGE, total=rows.count())


def forwards(user: User, address: str) -> Iterator[KeysetPage[TrainingRun]]:
    """The pages from the first to the last, each found by the address that the page before it gives."""
    page = paginator(user, address).after(None)
    yield page
    while page.after:
        pages = paginator(user, address)
        page = pages.after(as_position(page.after, pages.keys))
        yield page


def backwards(user: User, address: str, page: KeysetPage[TrainingRun]) -> Iterator[KeysetPage[TrainingRun]]:
    yield page
    while page.before:
        pages = paginator(user, address)
        position = as_position(page.before, pages.keys)
        assert position is not None
        page = pages.before(position)
        yield page


def orders() -> list[str]:
    names = ["best", "val/top1", "weight_decay", "optimizer", "status", "created", "finished", "name", "dataset", "id"]
    return [f"sort={minus}{name}" for name in names for minus in ("", "-")]


@pytest.mark.parametrize("address", [*orders(), "sort=-val/top1&group=parent", "sort=best&group=dataset"])
def test_pages_have_every_run_once_in_both_directions(user: User, twelve: list[TrainingRun], address: str) -> None:
    query = RunQuery.of(QueryDict(address))
    expected = list(ordered(found_runs(user, query), query))
    there = list(forwards(user, address))
    assert [run for page in there for run in page.rows] == expected
    assert [(page.first, page.last, page.total) for page in there] == [(1, 4, 12), (5, 8, 12), (9, 12, 12)]
    back = list(backwards(user, address, there[-1]))
    assert [page.rows for page in back] == [page.rows for page in reversed(there)]


def test_each_column_that_is_shown_has_pages(user: User, twelve: list[TrainingRun]) -> None:
    for name in shown_columns():
        for minus in ("", "-"):
            found = [run.pk for page in forwards(user, f"sort={minus}{name}") for run in page.rows]
            assert sorted(found) == [run.pk for run in twelve], name


@pytest.mark.parametrize("address", ["", "sort=val/top1", "sort=-val/top1", "sort=best", "sort=-status"])
def test_what_is_made_meanwhile_neither_repeats_nor_hides_a_run(
    user: User, make: MAKE, twelve: list[TrainingRun], address: str
) -> None:
    query = RunQuery.of(QueryDict(address))
    expected = [run.pk for run in ordered(found_runs(user, query), query)]
    shown, place = [], 100
    last = None
    for page in forwards(user, address):
        last = page
        shown += [run.pk for run in page.rows]
        for _ in range(3):
            one(make, place)
            place += 1
    assert [number for number in shown if number in set(expected)] == expected
    assert len(shown) == len(set(shown))
    assert last is not None
    back = list(backwards(user, address, last))
    seen = [run.pk for page in back[:-1] for run in page.rows]
    assert len(seen) == len(set(seen))
    assert set(expected) <= {*seen, *(run.pk for run in back[-1].rows)}
    assert back[-1].first == 1
    assert len(back[-1].rows) == ON_A_PAGE, "the first page is full, with runs of the second where it would not be"


def test_a_page_goes_on_after_its_run_was_deleted_or_has_improved(user: User, twelve: list[TrainingRun]) -> None:
    first = paginator(user, "sort=-best").after(None)
    rest = [run.pk for page in list(forwards(user, "sort=-best"))[1:] for run in page.rows]
    end = first.rows[-1]
    TrainingRun.objects.filter(pk=first.rows[0].pk).update(best_metric=0.9)
    end.delete()
    pages = paginator(user, "sort=-best")
    following = pages.after(as_position(first.after, pages.keys))
    assert [run.pk for run in following.rows] == rest[:ON_A_PAGE]


def test_a_page_past_the_end_shows_the_last_runs(user: User, twelve: list[TrainingRun]) -> None:
    third = list(forwards(user, "sort=created"))[1].after
    TrainingRun.objects.filter(pk__in=[run.pk for run in twelve[8:]]).delete()
    pages = paginator(user, "sort=created")
    page = pages.after(as_position(third, pages.keys))
    assert [run.pk for run in page.rows] == [run.pk for run in twelve[4:8]]
    assert (page.first, page.last, page.after) == (5, 8, "")


@pytest.mark.parametrize(
    "text",
    [
        *("", "7", "[]", "[1]", "[1,2,3]", '["a",2]', "[true,2]", "[NaN,2]", "[1e999,2]", "{}", "[[],2]", "nothing"),
        *("[1,9223372036854775808]", "[" * 2000, "[null,null]", "[" * 900),
    ],
)
def test_what_is_no_position_of_the_order_is_ignored(user: User, text: str) -> None:
    assert as_position(text, paginator(user, "sort=best").keys) is None


@pytest.mark.parametrize("text", ['["2026-01-01T00:00:00",1]', '["2026-13-01T00:00:00Z",1]', "[3,1]", '["\\ud800",1]'])
def test_what_is_no_moment_is_ignored(user: User, text: str) -> None:
    assert as_position(text, paginator(user, "").keys) is None
    assert as_position('["\\u0000",1]', paginator(user, "sort=name").keys) is None


def test_positions_come_back_from_an_address_unchanged(user: User, twelve: list[TrainingRun]) -> None:
    position = (datetime(2026, 1, 1, 3, 4, 5, 678901, tzinfo=UTC), 7)
    assert as_position(as_text(position), paginator(user, "").keys) == position
    assert as_position(as_text((0.1 + 0.2, 7)), paginator(user, "sort=val/top1").keys) == (0.1 + 0.2, 7)
    assert as_position(as_text((None, 7)), paginator(user, "sort=-val/top1").keys) == (None, 7)


def test_a_page_in_the_order_of_a_metric_is_read_by_index(user: User, twelve: list[TrainingRun]) -> None:
    pages = paginator(user, "sort=-val/top1")
    after = as_position(pages.after(None).after, pages.keys)
    with explained(TrainingRun._meta.db_table) as plans:
        pages.after(after)
    if connection.vendor == "sqlite":
        assert "COVERING INDEX value_by_number (name=? AND number>? AND number<?)" in plans[0], plans
        assert not any("TEMP B-TREE FOR ORDER BY" in plan for plan in plans), plans


def test_conditions_walk_the_order_of_the_list(user: User, twelve: list[TrainingRun]) -> None:
    pages = paginator(user, "q=weight_decay<0.02 and top1>0.1")
    with explained(TrainingRun._meta.db_table) as plans:
        pages.after(None)
    if connection.vendor == "sqlite":
        assert "COVERING INDEX run_newest" in plans[0], plans
        assert "COVERING INDEX value_by_number" in plans[0], plans


# The values that lists sort and filter by


def values(run: TrainingRun) -> dict[str, float | str | None]:
    return {row.name: row.text or row.number for row in RunValue.objects.filter(run=run)}


def test_values_follow_the_columns_that_they_repeat(make: MAKE) -> None:
    metrics = {"val/top1": 0.5, "train/loss": 1.0, "train/lr": 0.1, "val/ap": None}
    config = {"weight_decay": 0.25, "optimizer": "sgd", "channels_last": True, "num_workers": "auto", "x" * 65: 1}
    run = make(config=config, metrics=metrics)
    expected = {"weight_decay": 0.25, "optimizer": "sgd", "channels_last": 1.0, "num_workers": "auto"}
    assert values(run) == {**expected, "val/top1": 0.5, "train/loss": 1.0}
    run.metrics = {"val/top1": 0.75}
    run.config = {"optimizer": "adamw"}
    run.save(update_fields=["metrics"])
    assert values(run) == {**expected, "val/top1": 0.75}
    run.save()
    assert values(run) == {"optimizer": "adamw", "val/top1": 0.75}
    TrainingRun.objects.only("name").get(pk=run.pk).save()
    assert values(run) == {"optimizer": "adamw", "val/top1": 0.75}


def test_equal_values_are_not_written_again(make: MAKE, django_assert_num_queries: Any) -> None:
    run = make(metrics={"val/top1": 0.5})
    run.metrics["val/top1"] = 0.5
    with django_assert_num_queries(2):  # the run, and the values that are compared
        run.save(update_fields=["metrics"])


def test_values_go_with_their_run(make: MAKE) -> None:
    run = make(metrics={"val/top1": 0.5})
    run.delete()
    assert not RunValue.objects.exists()
