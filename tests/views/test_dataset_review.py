"""The review of a source: how it was read, and reading it again with other choices."""

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from tests.helpers import annotated
from tests.helpers.sources import two_classes, write_tree
from trainingapp.datasets.importing.importer import run_import
from trainingapp.datasets.importing.inspection import run_inspection
from trainingapp.datasets.options import ImportOptions, ReadingOptions
from trainingapp.models import AuditEntry, Dataset, Job


@pytest.fixture
def proposed(user: User, tmp_path: Path) -> Dataset:
    """COCO boxes, with a CSV file of the same images and a file that no format reads."""
    tree = annotated.coco_tree() | {"labels.csv": annotated.csv_tree()["labels.csv"], "points.mat": b"x"}
    return inspected(tree, user, tmp_path)


@pytest.fixture
def refused(user: User, tmp_path: Path) -> Dataset:
    tree = two_classes() | {"tags.json": b'{"cat/0.png": {"sharp": 1}, "cat/1.png": {}, "dog/0.png": {}}'}
    return inspected(tree, user, tmp_path)


def inspected(tree: annotated.Tree, owner: User, folder: Path) -> Dataset:
    source = write_tree(folder / "source", tree)
    dataset = Dataset.objects.create(name="pets", owner=owner, source=str(source), status="inspecting")
    run_inspection(dataset)
    return dataset


def html(response: HttpResponse) -> str:
    return str(response.content.decode())


def address(dataset: Dataset, verb: str = "read_again") -> str:
    return reverse(f"dataset_{verb}", args=[dataset.pk])


def select(page: str, name: str) -> list[tuple[str, bool]]:
    """The values of a select, and whether each is selected."""
    found = re.search(rf'<select name="reading-{name}".*?</select>', page, re.DOTALL)
    assert found, name
    return [(value, bool(chosen)) for value, chosen in re.findall(r'<option value="([^"]*)"( selected)?', found[0])]


def test_the_page_offers_only_choices_with_an_effect(user_client: Client, proposed: Dataset) -> None:
    page = html(user_client.get(proposed.get_absolute_url()))
    assert select(page, "format") == [("auto", True), ("coco", False), ("csv", False), ("class_folders", False)]
    assert select(page, "splits") == [("auto", True), ("folders", False), ("none", False)]
    assert set(re.findall(r'name="reading-(\w+)"', page)) == {"format", "splits"}
    for words in ("How the source was read", "Automatic (COCO JSON)", "names of the folders: train, val", "points.mat"):
        assert words in page


def test_the_source_is_inspected_again_and_the_choice_is_shown(user_client: Client, proposed: Dataset) -> None:
    response = user_client.post(address(proposed), {"reading-format": "csv", "reading-splits": "none"})
    assert response.headers["Location"] == proposed.get_absolute_url()
    proposed.refresh_from_db()
    assert proposed.status == "inspecting"
    assert Job.objects.get(pk=proposed.job_id).kind == Job.Kind.INSPECT_DATASET
    waiting = html(user_client.get(proposed.get_absolute_url()))
    assert "Validation report" not in waiting, "the old report is about another way to read the source"
    run_inspection(proposed)
    page = html(user_client.get(proposed.get_absolute_url()))
    assert ("csv", True) in select(page, "format")
    assert ("none", True) in select(page, "splits")
    assert "CSV list" in page
    entry = AuditEntry.objects.get(verb="read_again")
    assert entry.details["reading"] == {"format": "csv", "splits": "none"}


def test_what_was_entered_for_the_classes_is_kept(user_client: Client, proposed: Dataset) -> None:
    entered = {"class-0-name": "Katze", "class-0-order": "3", "class-1-name": "dog", "class-1-order": "1"}
    entered |= {"class-2-name": "owl", "class-2-order": "2", "class-0-keep": "on", "class-2-keep": "on"}
    options = {"split": "stratified", "val_percent": "30", "seed": "5", "on_error": "leave_out"}
    user_client.post(address(proposed), entered | options | {"reading-format": "csv"})
    proposed.refresh_from_db()
    run_inspection(proposed)
    page = html(user_client.get(proposed.get_absolute_url()))
    rows = re.findall(r'data-source="(\w+)"(.*?)</tr>', page, re.DOTALL)
    names = {source: re.search(r'name="class-\d-name" value="([^"]*)"', row) for source, row in rows}
    kept = {source: " checked" in row for source, row in rows}
    assert [source for source, _row in rows] == ["owl", "cat", "dog"]
    assert {source: found[1] for source, found in names.items() if found} == {
        "owl": "owl",
        "cat": "Katze",
        "dog": "dog",
    }
    assert kept == {"owl": True, "cat": True, "dog": False}
    assert 'name="val_percent" value="30"' in page
    assert re.search(r'value="stratified"[^>]* checked', page)


def test_an_import_with_other_choices_is_reviewed_first(user_client: Client, proposed: Dataset) -> None:
    """The page shows the classes of the other format still."""
    fields = {"split": "given", "on_error": "stop", "reading-format": "csv"}
    user_client.post(address(proposed, "confirm"), fields)
    proposed.refresh_from_db()
    assert (proposed.status, proposed.options["reading"]["format"]) == ("inspecting", "csv")


def test_an_import_keeps_the_choices_of_the_review(user_client: Client, proposed: Dataset) -> None:
    user_client.post(address(proposed), {"reading-format": "csv"})
    proposed.refresh_from_db()
    run_inspection(proposed)
    rows = range(len(proposed.proposal["classes"]))
    fields = {f"class-{index}-name": proposed.proposal["classes"][index]["name"] for index in rows}
    fields |= {f"class-{index}-keep": "on" for index in rows} | {f"class-{index}-order": "1" for index in rows}
    user_client.post(address(proposed, "confirm"), fields | {"split": "given", "on_error": "leave_out"})
    proposed.refresh_from_db()
    assert (proposed.status, proposed.options["reading"]["format"]) == ("importing", "csv")
    run_import(proposed)
    page = html(user_client.get(proposed.get_absolute_url()))
    assert proposed.status == "ready"
    for words in ("How the source was read", "CSV list", "The splits come from the column split of labels.csv."):
        assert words in page
    assert "reading-format" not in page
    assert "Read again" not in page


@pytest.mark.parametrize("value", ["parquet", "<script>"])
def test_a_value_that_was_not_offered_is_an_error_of_its_field(
    user_client: Client, proposed: Dataset, value: str
) -> None:
    response = user_client.post(address(proposed), {"reading-format": value})
    assert response.status_code == 422
    assert "is not one of the available choices" in html(response)
    proposed.refresh_from_db()
    assert proposed.status == "proposed"


def test_bands_are_three_numbers(user_client: Client, proposed: Dataset) -> None:
    offer = {"field": "bands", "used": "0,1,2", "choices": ["0,1,2", "2,1,0"], "reason": None}
    proposed.reading = {**proposed.reading, "offers": [offer]}
    proposed.save()
    wrong = user_client.post(address(proposed), {"reading-bands": "3,2"})
    assert (wrong.status_code, "three channel numbers" in html(wrong)) == (422, True)
    user_client.post(address(proposed), {"reading-bands": " 3, 2,1 "})
    proposed.refresh_from_db()
    assert proposed.options["reading"]["bands"] == [3, 2, 1]


def test_a_refused_source_can_be_read_in_another_way(user_client: Client, refused: Dataset) -> None:
    page = html(user_client.get(refused.get_absolute_url()))
    assert select(page, "format") == [("auto", True), ("class_folders", False)]
    assert "or read the source again with the choices below" in page
    user_client.post(address(refused), {"reading-format": "class_folders"})
    refused.refresh_from_db()
    run_inspection(refused)
    assert (refused.status, [row["name"] for row in refused.proposal["classes"]]) == ("proposed", ["cat", "dog"])


def test_a_get_request_changes_nothing_and_redirects_to_the_dataset(user_client: Client, proposed: Dataset) -> None:
    response = user_client.get(address(proposed))
    assert (response.status_code, response.headers["Location"]) == (302, proposed.get_absolute_url())
    proposed.refresh_from_db()
    assert proposed.status == "proposed"


def test_reading_again_twice_has_no_further_effect(user_client: Client, proposed: Dataset) -> None:
    user_client.post(address(proposed), {"reading-format": "csv"})
    page = html(user_client.post(address(proposed), {"reading-format": "coco"}, follow=True))
    assert "cannot be read again" in page
    proposed.refresh_from_db()
    assert proposed.options["reading"]["format"] == "csv"


def test_a_ready_dataset_is_not_read_again(user_client: Client, proposed: Dataset) -> None:
    proposed.status = "importing"
    proposed.save()
    run_import(proposed)
    user_client.post(address(proposed), {"reading-format": "csv"})
    proposed.refresh_from_db()
    assert (proposed.status, proposed.format) == ("ready", "coco")


def test_other_users_see_how_it_was_read_but_cannot_change_it(other_user: User, proposed: Dataset) -> None:
    client = Client()
    client.force_login(other_user)
    page = html(client.get(proposed.get_absolute_url()))
    assert "How the source was read" in page
    assert "Read again" not in page
    assert client.post(address(proposed), {"reading-format": "csv"}).status_code == 403
    assert Client().post(address(proposed), {}).headers["Location"].startswith("/login/")


def test_datasets_of_older_versions_have_no_reading_section(user_client: Client, proposed: Dataset) -> None:
    Dataset.objects.filter(pk=proposed.pk).update(reading={}, options={})
    page = html(user_client.get(proposed.get_absolute_url()))
    assert "How the source was read" not in page
    assert "Import options" in page


def test_the_first_three_files_of_a_category_are_shown_and_the_others_below_a_disclosure(
    user_client: Client, user: User, tmp_path: Path
) -> None:
    tree = annotated.yolo_tree() | {f"labels/train/lost{number}.txt": b"0 .5 .5 .1 .1" for number in range(5)}
    page = html(user_client.get(inspected(tree, user, tmp_path).get_absolute_url()))
    group = page.split("report-group")[1]
    first, others = group.split("report-others")[:2]
    assert [number for number in range(5) if f"lost{number}.txt" in first] == [0, 1, 2]
    assert [number for number in range(5) if f"lost{number}.txt" in others] == [3, 4]
    assert "and 2 more" in others


def test_a_draft_of_the_options_is_valid_with_invalid_entries(user_client: Client, proposed: Dataset) -> None:
    entered = {"class-0-name": "", "class-0-keep": "on", "class-0-order": "x", "val_percent": "5000", "seed": "4"}
    user_client.post(address(proposed), entered | {"split": "stratified", "reading-format": "csv"})
    proposed.refresh_from_db()
    options = ImportOptions.model_validate(proposed.options)
    assert (options.classes, options.val_share, options.seed) == ([], 0.2, 4)
    assert options.reading == ReadingOptions(format="csv")
