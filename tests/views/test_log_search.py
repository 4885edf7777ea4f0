"""The Log tab finds a text in the whole log, also without JavaScript, and shows where the search continues."""

import re
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from tests.helpers.world import line, store_events
from trainingapp.models import TrainingRun
from trainingapp.runs import log_search

pytestmark = pytest.mark.django_db


def test_lines_are_found_and_others_are_not_shown(user_client: Client, make: Callable[..., TrainingRun]) -> None:
    run = make("completed")
    store_events(run, line("a needle"), line("some hay"), line("Needles"))
    page = user_client.get(reverse("run_log", args=[run.pk]), {"q": "needle"}).content.decode()
    assert "2 lines contain “needle”." in page
    assert re.findall(r'data-seq="(\d+)"', page) == ["1", "3"]


def test_a_long_log_is_searched_in_parts(
    user_client: Client, make: Callable[..., TrainingRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_search, "SEARCHED_LINES", 2)
    run = make("completed")
    store_events(run, line("hay"), line("hay"), line("needle"))
    page = user_client.get(reverse("run_log", args=[run.pk]), {"q": "needle"}).content.decode()
    assert "0 lines contain “needle”." in page
    (further,) = re.findall(r'href="([^"]*after=2)"', page)
    assert "1 line contains “needle”." in user_client.get(further.replace("&amp;", "&")).content.decode()


@pytest.mark.parametrize("query", ["q=%00", "q=x&after=" + "9" * 30, "q=x&after=no"])
def test_odd_queries_are_answered(user_client: Client, make: Callable[..., TrainingRun], query: str) -> None:
    run = make("completed")
    assert user_client.get(f"{reverse('run_log', args=[run.pk])}?{query}").status_code == 200
