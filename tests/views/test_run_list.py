"""The list of runs: facets, columns, order, groups, pages, selection, stars, saved views and CSV."""

import csv
import io
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.helpers.plans import explained
from trainingapp.models import AuditEntry, Dataset, SavedView, TrainingRun
from trainingapp.models.run import SORTED_BY
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.columns import shown_columns
from trainingapp.runs.organizing import save_view, star_run

MAKE = Callable[..., TrainingRun]
pytestmark = [pytest.mark.django_db, pytest.mark.database]
LIST = "/runs/"


def html(response: Any) -> str:
    return str(response.content.decode())


def names(response: Any) -> list[str]:
    return re.findall(r'class="row-title"[^>]*>([^<]*)<', html(response))


def notices(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def headings(response: Any) -> list[str]:
    return [str(column.label) for column, _url, _way in response.context["columns"]]


def post(client: Client, route: str, *arguments: Any, **data: Any) -> Any:
    return client.post(reverse(route, args=arguments), data, follow=True)


# Facets


def test_facets_narrow_the_list_and_count_what_the_others_leave(
    user_client: Client, make: MAKE, user: User, other_user: User
) -> None:
    cars = Dataset.objects.create(name="cars", owner=user, status="ready")
    make("completed", name="a")
    make("failed", name="b", dataset=cars)
    make("completed", name="c", dataset=cars, owner=other_user, task="detection")
    assert names(user_client.get(LIST, {"dataset": cars.pk})) == ["c", "b"]
    assert names(user_client.get(LIST, {"owner": "grace"})) == ["c"]
    assert names(user_client.get(LIST, {"task": "classification"})) == ["b", "a"]
    both = user_client.get(LIST, {"dataset": cars.pk, "status": "failed"})
    assert names(both) == ["b"]
    options = {name: {option.label: option.count for option in found} for name, *_rest, found in both.context["facets"]}
    assert options["dataset"] == {"cars": 1, "pets": 0} or options["dataset"] == {"cars": 1}
    assert {pill["label"]: pill["count"] for pill in both.context["pills"]}["All"] == 2


def test_a_facet_shows_nothing_of_what_others_keep_private(
    client: Client, make: MAKE, user: User, other_user: User
) -> None:
    secret = Dataset.objects.create(name="secret set", owner=user, visibility="private", status="ready")
    make("completed", name="hidden", dataset=secret, visibility="private")
    make("completed", name="seen")
    client.force_login(other_user)
    page = html(client.get(LIST))
    assert "seen" in page
    assert "secret set" not in page
    assert "hidden" not in names(client.get(LIST))


def test_archived_runs_are_hidden_and_have_a_facet(user_client: Client, make: MAKE) -> None:
    kept, gone = make("completed", name="kept"), make("completed", name="gone")
    run_verbs.archive_run(gone)
    assert names(user_client.get(LIST)) == ["kept"]
    archive = user_client.get(LIST, {"archived": "1"})
    assert names(archive) == ["gone"]
    assert "Restore" in html(archive)
    run_verbs.archive_run(kept)
    assert "No matching runs" in html(user_client.get(LIST)), "the archive is still offered"


def test_stars_are_a_facet_and_a_button(user_client: Client, make: MAKE, user: User, other_user: User) -> None:
    mine, theirs = make(name="mine"), make(name="theirs")
    star_run(theirs, other_user, is_starred=True)
    address = reverse("run_star", args=[mine.pk])
    part = user_client.post(address, {"on": "1"}, headers={"HX-Request": "true"})
    assert 'value="0"' in html(part)
    assert names(user_client.get(LIST, {"starred": "1"})) == ["mine"]
    back = user_client.post(address, {"on": "0", "query": "sort=name"})
    assert back.headers["Location"] == "/runs/?sort=name"
    assert names(user_client.get(LIST, {"starred": "1"})) == []


def test_tags_are_shown_and_are_a_facet(user_client: Client, make: MAKE) -> None:
    run_verbs.tag_run(make(name="one"), add="baseline")
    make(name="two")
    response = user_client.get(LIST, {"tag": "baseline"})
    assert names(response) == ["one"]
    assert '<span class="chip">baseline</span>' in html(response)


def test_a_wrong_condition_is_marked_in_the_search(user_client: Client, make: MAKE) -> None:
    make(name="one")
    response = user_client.get(LIST, {"q": "lr<0.1 and lrr>1"})
    assert response.status_code == 200
    assert "<mark>lrr</mark>&gt;1</code>" in html(response)
    assert names(response) == []


# Columns and order


def test_columns_are_chosen_by_the_address(user_client: Client, make: MAKE) -> None:
    make("completed", name="one", metrics={"val/top1": 0.5}, config={**make().config, "weight_decay": 0.125})
    response = user_client.get(LIST, {"columns": "val/top1,weight_decay,nonsense"})
    assert headings(response) == ["Run", "Top-1 accuracy", "Weight decay"]
    assert ">50.0 %</td>" in html(response)
    assert ">0.125</td>" in html(response)
    repeated = user_client.get(f"{LIST}?columns=val/top1&columns=weight_decay")
    assert headings(repeated) == headings(response)


def test_every_column_sorts_with_empty_values_last(user_client: Client, make: MAKE) -> None:
    low = make("completed", name="a", best_metric=0.1, elapsed_s=1.0, metrics={"val/loss": 1.0, "val/top1": 0.1})
    high = make("failed", name="b", best_metric=0.9, elapsed_s=2.0, metrics={"val/loss": 2.0, "val/top1": 0.9})
    make("pending", name="c")
    for place, name in enumerate(shown_columns()):
        way = f"-{name}" if place % 2 else name
        assert len(names(user_client.get(LIST, {"sort": way, "columns": name}))) == 3, way
    for name in ("best", "val_loss", "val/top1"):
        assert names(user_client.get(LIST, {"sort": name})) == [low.name, high.name, "c"], name
        assert names(user_client.get(LIST, {"sort": f"-{name}"})) == [high.name, low.name, "c"], name
    response = user_client.get(LIST, {"sort": "-best"})
    assert 'aria-sort="descending"' in html(response)


@pytest.mark.parametrize("column", SORTED_BY)
@pytest.mark.parametrize("minus", ["", "-"])
def test_a_page_in_the_order_of_a_column_is_read_by_its_index(
    staff_client: Client, make: MAKE, column: str, minus: str
) -> None:
    make("completed")
    name = next(one.name for one in shown_columns().values() if one.path == column)
    with explained(TrainingRun._meta.db_table) as plans:
        staff_client.get(LIST, {"sort": f"{minus}{name}"})
    if connection.vendor == "sqlite":
        assert any(f"INDEX run_by_{column}" in plan for plan in plans), plans


def test_htmx_is_told_the_short_address(user_client: Client, make: MAKE) -> None:
    make(name="one")
    part = {"HX-Request": "true", "HX-Target": "runs"}
    defaults = "&".join(f"columns={name}" for name, column in shown_columns().items() if column.is_default)
    response = user_client.get(f"{LIST}?q=&task=&{defaults}&sort=-best", headers=part)
    assert response.headers["HX-Push-Url"] == "/runs/?sort=-best"
    assert "HX-Push-Url" not in user_client.get("/runs/?sort=-best", headers=part).headers


# Groups


def test_runs_are_grouped_by_dataset(user_client: Client, make: MAKE, user: User) -> None:
    cars = Dataset.objects.create(name="cars", owner=user, status="ready")
    for name, more in (("a", {}), ("b", {"dataset": cars}), ("c", {})):
        make(name=name, **more)
    response = user_client.get(LIST, {"group": "dataset"})
    assert names(response) == ["b", "c", "a"]
    assert [(group.title, group.count) for group in response.context["groups"]] == [("cars", 1), ("pets", 2)]


def test_forks_are_grouped_with_their_run(client: Client, make: MAKE, other_user: User) -> None:
    parent = make("completed", name="parent", visibility="private")
    make(name="alone")
    make(name="fork one", forked_from=parent)
    make(name="fork two", forked_from=parent)
    client.force_login(other_user)
    groups = client.get(LIST, {"group": "parent"}).context["groups"]
    assert [([row.run.name for row in group.rows], group.title, group.count) for group in groups] == [
        (["alone"], "", 0),
        (["fork two", "fork one"], "A private run", 2),
    ]


# The selection


def test_verbs_are_done_to_the_selected_runs(user_client: Client, make: MAKE) -> None:
    one, two, busy = make("completed", name="one"), make("failed", name="two"), make("running", name="busy")
    response = post(user_client, "runs_selected", verb="archive", run=[one.pk, two.pk, busy.pk], query="sort=name")
    assert response.redirect_chain[0][0] == "/runs/?sort=name"
    assert notices(response) == ["Done for 2 runs.", "The run “busy” is running and cannot be archived."]
    assert AuditEntry.objects.filter(verb="archive", username="ada", source="page").count() == 2
    post(user_client, "runs_selected", verb="restore", run=[one.pk, two.pk])
    assert not TrainingRun.objects.exclude(archived_at=None).exists()
    post(user_client, "runs_selected", verb="tag", tag="baseline, seed", run=[one.pk, two.pk])
    assert {tag.name for tag in two.tags.all()} == {"baseline", "seed"}
    assert notices(post(user_client, "runs_selected", verb="untag", tag="seed", run=[two.pk])) == [
        "The tags of “two” were changed."
    ]
    assert [tag.name for tag in two.tags.all()] == ["baseline"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"verb": "archive"}, "Select at least one run."),
        ({"verb": "pause", "run": "{run}"}, "Choose what to do"),
        ({"verb": "tag", "tag": " , ", "run": "{run}"}, "Enter a tag."),
        ({"verb": "tag", "tag": "x" * 41, "run": "{run}"}, "more than 40 characters"),
        ({"verb": "archive", "run": "99999"}, "Select at least one run."),
    ],
)
def test_a_wrong_selection_is_explained(user_client: Client, make: MAKE, data: dict[str, str], words: str) -> None:
    run = make("completed")
    response = post(
        user_client, "runs_selected", **{name: text.replace("{run}", str(run.pk)) for name, text in data.items()}
    )
    assert words in notices(response)[0]
    run.refresh_from_db()
    assert run.archived_at is None


def test_runs_of_others_are_neither_changed_nor_found(client: Client, make: MAKE, other_user: User) -> None:
    shared, private = make("completed", name="shared"), make("completed", name="hush", visibility="private")
    client.force_login(other_user)
    response = post(client, "runs_selected", verb="archive", run=[shared.pk, private.pk])
    assert notices(response) == ["shared: Only the owner, team members and administrators can change this."]
    assert not TrainingRun.objects.exclude(archived_at=None).exists()
    assert "hush" not in html(client.get(reverse("runs_delete"), {"run": [private.pk]}))
    client.post(reverse("runs_delete"), {"run": [shared.pk, private.pk]})
    assert TrainingRun.objects.count() == 2


def test_selected_runs_are_deleted_after_a_question(user_client: Client, make: MAKE) -> None:
    one, two, busy = make("completed", name="one"), make("failed", name="two"), make("queued", name="busy")
    question = post(user_client, "runs_selected", verb="delete", run=[one.pk, two.pk, busy.pk])
    assert "Delete 2 runs?" in html(question)
    assert "These runs are not deleted" in html(question)
    assert TrainingRun.objects.count() == 3
    done = post(user_client, "runs_delete", run=[one.pk, two.pk, busy.pk])
    assert notices(done) == ["2 runs were deleted."]
    assert list(TrainingRun.objects.all()) == [busy]


def test_the_selection_leads_to_the_comparison(user_client: Client, make: MAKE) -> None:
    one, two = make("completed"), make("completed")
    response = user_client.post(reverse("runs_selected"), {"verb": "compare", "run": [one.pk, two.pk]})
    assert response.headers["Location"] == f"{reverse('compare')}?runs={one.pk},{two.pk}"


# Tags and note of one run


def test_tags_and_note_are_edited_on_one_page(user_client: Client, make: MAKE) -> None:
    run = make("completed")
    run_verbs.tag_run(run, add="old, kept")
    page = user_client.get(reverse("run_labels", args=[run.pk]))
    assert 'value="kept, old"' in html(page)
    post(user_client, "run_labels", run.pk, tags="kept, new", note="Better.")
    run.refresh_from_db()
    assert ([tag.name for tag in run.tags.all()], run.note) == (["kept", "new"], "Better.")
    wrong = user_client.post(reverse("run_labels", args=[run.pk]), {"tags": "x" * 41, "note": ""})
    assert wrong.status_code == 422
    assert "more than 40 characters" in html(wrong)
    run.refresh_from_db()
    assert run.note == "Better."


# Saved views


def test_a_view_is_saved_opened_and_deleted(user_client: Client, user: User, make: MAKE) -> None:
    make(name="one")
    saved = post(user_client, "view_save", name="failures", query="q=&status=failed&page=3&columns=best,lr")
    assert saved.redirect_chain[0][0] == "/runs/?status=failed&columns=best,lr"
    view = SavedView.objects.get(user=user)
    assert view.query == "status=failed&columns=best,lr"
    assert 'aria-current="true">failures</a>' in html(saved)
    post(user_client, "view_delete", view.pk)
    assert not SavedView.objects.exists()


def test_views_of_others_are_not_found(client: Client, user: User, other_user: User, make: MAKE) -> None:
    view = save_view(user, "failures", "status=failed")
    make()
    client.force_login(other_user)
    assert "failures" not in html(client.get(LIST))
    assert client.post(reverse("view_delete", args=[view.pk])).status_code == 404


# CSV


def test_the_csv_has_all_runs_of_the_list_with_its_columns(user_client: Client, make: MAKE) -> None:
    for number in range(30):
        make("completed", name=f"run {number}", best_metric=number / 100, elapsed_s=float(number))
    run_verbs.tag_run(make("failed", name="=1+1", created_at=timezone.now() + timedelta(days=1)), add="baseline, seed")
    response = user_client.get(reverse("run_list_csv"), {"sort": "best", "columns": "best,time,status"})
    rows = list(csv.reader(io.StringIO(b"".join(response.streaming_content).decode())))
    assert rows[0] == ["id", "name", "tags", "best", "time", "status"]
    assert [row[1] for row in rows[1:]] == [f"run {number}" for number in range(30)] + ["'=1+1"]
    assert rows[2][3:] == ["0.01", "1.0", "completed"]
    assert rows[-1][2:] == ["baseline, seed", "", "0.0", "failed"]
    filtered = user_client.get(reverse("run_list_csv"), {"q": "best>0.285"})
    assert len(b"".join(filtered.streaming_content).splitlines()) == 2
    assert user_client.get(reverse("run_list_csv"), {"q": "best>"}).status_code == 422
