"""What the search page and the command palette find, for whom."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone, translation

from trainingapp.models import Dataset, TrainingRun, Weights
from trainingapp.runs import search as search_module
from trainingapp.runs.search import run_of_path, search

pytestmark = pytest.mark.django_db

Run = Callable[..., TrainingRun]


def found(user: User, query: str, **context: Any) -> dict[str, list[str]]:
    """The labels by the kind of their group."""
    labels: dict[str, list[str]] = {}
    for group in search(user, query, **context):
        labels.setdefault(group.kind, []).extend(str(entry.label) for entry in group.entries)
    return labels


def model_of(user: User, **fields: Any) -> Weights:
    return Weights.objects.create(version=1, owner=user, task="classification", architecture="a", **fields)


def test_objects_are_found_by_a_part_of_their_name(user: User, make: Run, dataset: Dataset) -> None:
    make(name="Night birds")
    model_of(user, name="birdnet")
    Dataset.objects.filter(pk=dataset.pk).update(name="all birds")
    assert found(user, "BIRD") == {"run": ["Night birds"], "dataset": ["all birds"], "model": ["birdnet"]}


def test_a_run_is_found_by_its_number_even_if_it_is_archived(user: User, make: Run) -> None:
    run = make(name="old", archived_at=timezone.now())
    assert found(user, f"#{run.pk}")["run"] == found(user, str(run.pk))["run"] == ["old"]
    assert "run" not in found(user, "old")


@pytest.mark.parametrize("query", ["9" * 30, "#", "#x", "²", "%", "_"])
def test_odd_queries_find_nothing_and_raise_nothing(user: User, make: Run, query: str) -> None:
    make(name="birds")
    assert found(user, query) == {}


def test_private_objects_of_others_are_not_found(user: User, other_user: User, admin: User, make: Run) -> None:
    run = make(name="secret birds", visibility="private")
    Dataset.objects.update(name="secret pets", visibility="private")
    model_of(user, name="secret net", visibility="private")
    for query in ("secret", str(run.pk)):
        assert not found(other_user, query).keys() & {"run", "dataset", "model"}
    assert found(admin, "secret").keys() == {"run", "dataset", "model"}


def test_nothing_typed_lists_a_few_of_the_newest_runs(user: User, make: Run) -> None:
    for number in range(8):
        make(name=f"run {number}")
    assert found(user, "")["run"] == [f"run {number}" for number in (7, 6, 5, 4, 3)]


def test_only_the_newest_rows_are_searched_by_name(user: User, make: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "SEARCHED", 1)
    make(name="birds 1")
    make(name="birds 2")
    assert found(user, "birds")["run"] == ["birds 2"]


def test_pages_follow_the_role_of_the_reader(user: User, admin: User, other_user: User) -> None:
    other_user.groups.add(Group.objects.get_or_create(name="viewer")[0])
    assert "New run" in found(user, "")["page"]
    assert "New run" not in found(other_user, "")["page"]
    assert "Audit trail" not in found(user, "")["page"]
    assert "Audit trail" in found(admin, "")["page"]


def test_pages_are_found_in_the_reader_s_language_and_in_english(user: User) -> None:
    with translation.override("zh-hans"):
        assert found(user, "数据集")["page"] == found(user, "dataset")["page"]


def test_the_actions_are_those_that_the_run_offers_to_the_reader(user: User, other_user: User, make: Run) -> None:
    run = make(status="running", heartbeat_at=timezone.now())
    own, others = found(user, "", run=run)["action"], found(other_user, "", run=run)["action"]
    assert "Pause" in own
    assert "Start" not in own
    assert "Pause" not in others


def test_the_run_is_that_of_the_page_if_the_reader_may_see_it(user: User, other_user: User, make: Run) -> None:
    run = make(visibility="private")
    assert run_of_path(user, f"/runs/{run.pk}/charts/?x=1") == run
    assert run_of_path(other_user, f"/runs/{run.pk}/") is None
    assert run_of_path(user, "/runs/new/") is run_of_path(user, "/datasets/1/") is run_of_path(user, "/") is None


def test_the_page_works_without_javascript(user_client: Client, make: Run) -> None:
    run = make(status="pending", name="birds")
    page = user_client.get("/search/", {"q": "start", "from": f"/runs/{run.pk}/"}).content.decode()
    assert f'action="/runs/{run.pk}/start/"' in page
    assert f'href="{run.get_absolute_url()}"' in user_client.get("/search/", {"q": "birds"}).content.decode()
    assert "No results" in user_client.get("/search/", {"q": "nothing like this"}).content.decode()


def test_a_change_of_the_language_leads_to_this_site_only(user_client: Client) -> None:
    page = user_client.get("/search/", {"from": "//example.org/", "q": "English"}).content.decode()
    assert "example.org" not in page.split("<main", 1)[1]


@pytest.mark.parametrize(
    ("part", "text"),
    [("dialog", 'role="combobox"'), ("results", 'role="option"'), ("shortcuts", "Keyboard shortcuts")],
)
def test_the_parts_of_the_palette_are_no_whole_pages(user_client: Client, part: str, text: str) -> None:
    content = user_client.get("/search/", {"part": part}).content.decode()
    assert text in content
    assert "<html" not in content


def test_names_are_escaped(user_client: Client, make: Run) -> None:
    make(name='<b data-x="1">')
    assert "<b data-x" not in user_client.get("/search/", {"part": "results", "q": "<b"}).content.decode()


def test_the_page_without_a_script_has_no_group_without_entries(user_client: Client) -> None:
    page, palette = (user_client.get("/search/", {"q": "dark", **part}) for part in ({}, {"part": "results"}))
    assert "No results" in page.content.decode()
    assert "Switch between light and dark theme" in palette.content.decode()
