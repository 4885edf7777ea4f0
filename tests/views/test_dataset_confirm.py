"""Confirming an import: what was found, the classes, the split, and the handling of errors."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tests.helpers.annotated_pages import make_proposed, proposal
from tests.helpers.jobs import working_on
from trainingapp.contract.messages.jobs_and_models import INSPECTING_ANNOTATIONS
from trainingapp.datasets.forms import MOST_EDITABLE_CLASSES, ConfirmForm
from trainingapp.datasets.options import ReadingOptions
from trainingapp.models import Dataset


@pytest.fixture
def proposed(user: User) -> Dataset:
    return make_proposed(user)


def html(response: Any) -> str:
    return str(response.content.decode())


def address(dataset: Dataset) -> str:
    return reverse("dataset_confirm", args=[dataset.pk])


def answer(**changes: str) -> dict[str, str]:
    """The form as the page sends it when nothing was changed; "" for a field takes it out."""
    names = ("cat", "kitten", "dog")
    fields = {f"class-{index}-name": name for index, name in enumerate(names)}
    fields |= {f"class-{index}-keep": "on" for index in range(3)}
    fields |= {f"class-{index}-order": str(index + 1) for index in range(3)}
    fields |= {"split": "given", "val_percent": "20", "seed": "0", "on_error": "stop"}
    fields |= {name.replace("_", "-") if name.startswith("class_") else name: text for name, text in changes.items()}
    return {name: text for name, text in fields.items() if text != "-"}


def test_the_page_shows_what_was_found(user_client: Client, proposed: Dataset) -> None:
    page = html(user_client.get(proposed.get_absolute_url()))
    found = ("COCO JSON", "Detection", "Segmentation", "instances_val.json", "kitten", "leaves the image", "× 2")
    for words in (*found, "Awaiting confirmation", "Discard"):
        assert words in page
    assert "hx-trigger" not in page.split('id="dataset"')[1].split(">")[0]


def test_the_page_polls_during_the_inspection(user_client: Client, proposed: Dataset) -> None:
    working_on(proposed, "inspecting", INSPECTING_ANNOTATIONS(), done=1, total=2)
    page = html(user_client.get(proposed.get_absolute_url()))
    assert "Reading the annotations" in page
    assert 'hx-trigger="every 700ms"' in page
    assert "hx-trigger" in html(user_client.get(reverse("dataset_list")))


def test_confirming_without_changes_starts_the_import(user_client: Client, proposed: Dataset) -> None:
    response = user_client.post(address(proposed), answer())
    assert response.headers["Location"] == proposed.get_absolute_url()
    proposed.refresh_from_db()
    assert proposed.status == "importing"
    assert (proposed.options["classes"], proposed.options["split"], proposed.options["on_error"]) == (
        [],
        "given",
        "stop",
    )


def test_classes_are_renamed_merged_left_out_and_reordered(user_client: Client, proposed: Dataset) -> None:
    fields = answer(class_0_name="  Cat ", class_1_name="Cat", class_2_order="0")
    user_client.post(address(proposed), fields)
    proposed.refresh_from_db()
    assert proposed.options["classes"] == [
        {"name": "dog", "sources": ["dog"]},
        {"name": "Cat", "sources": ["cat", "kitten"]},
    ]


def test_a_class_that_is_not_selected_is_excluded(user_client: Client, proposed: Dataset) -> None:
    user_client.post(address(proposed), answer(class_1_keep="-", class_1_name=""))
    proposed.refresh_from_db()
    assert [choice["name"] for choice in proposed.options["classes"]] == ["cat", "dog"]


def test_a_random_split_takes_a_share_and_a_seed(user_client: Client, proposed: Dataset) -> None:
    fields = answer(split="stratified", val_percent="25", seed="7", on_error="leave_out")
    user_client.post(address(proposed), fields)
    proposed.refresh_from_db()
    assert proposed.options | {"classes": []} == {
        "classes": [],
        "split": "stratified",
        "val_share": 0.25,
        "seed": 7,
        "on_error": "leave_out",
        "reading": ReadingOptions().model_dump(mode="json"),
    }


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"class_1_name": " "}, "class-1-note", "Enter a name"),
        ({"class_1_name": "x" * 121}, "class-1-note", "at most 120"),
        ({"class_2_order": "first"}, "class-2-order-error", "whole number"),
        ({"class_2_order": "1" * 5000}, "class-2-order-error", "whole number"),
        ({"split": "stratified", "val_percent": ""}, "id_val_percent_error", "required"),
        ({"split": "stratified", "val_percent": "0"}, "id_val_percent_error", "greater than or equal to 1"),
        ({"split": "stratified", "seed": "-1"}, "id_seed_error", "greater than or equal to 0"),
        ({"split": "sideways"}, "id_split_error", "sideways"),
        ({"on_error": ""}, "id_on_error_error", "required"),
    ],
)
def test_an_error_is_shown_beside_its_field(
    user_client: Client, proposed: Dataset, changes: dict[str, str], field: str, message: str
) -> None:
    response = user_client.post(address(proposed), answer(**changes))
    assert response.status_code == 422
    assert message in html(response).split(f'id="{field}">')[1].split("</div>")[0]
    proposed.refresh_from_db()
    assert proposed.status == "proposed"


def test_entered_values_are_kept_after_an_error(user_client: Client, proposed: Dataset) -> None:
    response = user_client.post(address(proposed), answer(class_0_name="", class_1_name="dog", class_2_order="1"))
    page = html(response)
    assert page.index('data-source="dog"') < page.index('data-source="kitten"')
    assert "Merged with: kitten" in page
    assert "Correct these classes: cat." in page


def test_at_least_one_class_is_required(user_client: Client, proposed: Dataset) -> None:
    none = {f"class_{index}_keep": "-" for index in range(3)}
    assert "Keep at least one class." in html(user_client.post(address(proposed), answer(**none)))


def test_unused_fields_are_not_validated(user_client: Client, proposed: Dataset) -> None:
    user_client.post(address(proposed), answer(val_percent="many", seed=""))
    proposed.refresh_from_db()
    assert proposed.status == "importing"


def test_without_validation_images_only_a_random_split_is_offered(user_client: Client, user: User) -> None:
    images = {"train": 0, "val": 0, "none": 75}
    dataset = make_proposed(user, has_splits=False, images=images)
    page = html(user_client.get(dataset.get_absolute_url()))
    assert 'type="radio" name="split"' not in page
    assert '<input type="hidden" name="split" value="stratified"' in page
    response = user_client.post(address(dataset), answer(split="given"))
    assert "The source has no validation images." in html(response)


def test_a_thousand_classes_can_be_submitted(user_client: Client, user: User) -> None:
    classes = [{"name": f"class {index}", "images": 3, "objects": 3} for index in range(1200)]
    dataset = make_proposed(user, classes=classes)
    fields = answer() | {f"class-{index}-name": f"class {index}" for index in range(1200)}
    fields |= {f"class-{index}-keep": "on" for index in range(1, 1200)}
    fields |= {f"class-{index}-order": str(index + 1) for index in range(1200)}
    del fields["class-0-keep"]
    assert user_client.post(address(dataset), fields).status_code == 302
    dataset.refresh_from_db()
    assert len(dataset.options["classes"]) == 1199


def test_too_many_classes_to_edit_are_imported_unchanged() -> None:
    classes = [{"name": str(index), "images": 1, "objects": 1} for index in range(MOST_EDITABLE_CLASSES + 1)]
    form = ConfirmForm({"split": "given", "on_error": "stop"}, proposal=proposal(classes=classes))
    assert form.is_valid(), form.errors
    assert form.options.classes == []
    assert form.kept == MOST_EDITABLE_CLASSES + 1


def test_confirming_twice_has_no_further_effect(user_client: Client, proposed: Dataset) -> None:
    user_client.post(address(proposed), answer())
    page = html(user_client.post(address(proposed), answer(on_error="leave_out"), follow=True))
    assert "is no longer waiting for confirmation" in page
    proposed.refresh_from_db()
    assert proposed.options["on_error"] == "stop"


def test_a_ready_dataset_never_changes(user_client: Client, dataset: Dataset) -> None:
    user_client.post(address(dataset), answer())
    dataset.refresh_from_db()
    assert (dataset.status, dataset.options) == ("ready", {})


def test_a_get_request_changes_nothing_and_redirects_to_the_dataset(user_client: Client, proposed: Dataset) -> None:
    assert user_client.get(address(proposed)).headers["Location"] == proposed.get_absolute_url()
    assert user_client.put(address(proposed)).status_code == 405
    proposed.refresh_from_db()
    assert proposed.status == "proposed"


def test_confirming_requires_a_login(client: Client, proposed: Dataset) -> None:
    assert client.post(address(proposed), answer()).headers["Location"].startswith("/login/")
    proposed.refresh_from_db()
    assert proposed.status == "proposed"


def test_other_users_can_see_but_not_confirm(proposed: Dataset, other_user: User) -> None:
    client = Client()
    client.force_login(other_user)
    page = html(client.get(proposed.get_absolute_url()))
    assert "kitten" not in page
    assert 'id="confirm"' not in page
    assert "The owner or an administrator" in page
    assert client.post(address(proposed), answer()).status_code == 403


def test_a_proposal_can_be_dismissed(user_client: Client, proposed: Dataset) -> None:
    delete = reverse("dataset_delete", args=[proposed.pk])
    assert "Nothing has been imported yet" in html(user_client.get(delete))
    user_client.post(delete)
    assert not Dataset.objects.exists()


def test_known_errors_require_a_choice_of_handling(user_client: Client, user: User) -> None:
    report = [{"level": "error", "code": "unknown_image", "file": "a.json", "message": "a.json line 1: no image 7."}]
    dataset = make_proposed(user, report=report)
    page = html(user_client.get(dataset.get_absolute_url()))
    assert "The report already lists errors" in page
    radios = page.split('aria-labelledby="error-title"')[1].split("</form>")[0]
    assert "checked" not in radios
    assert user_client.post(address(dataset), answer(on_error="-")).status_code == 422
    user_client.post(address(dataset), answer(on_error="leave_out"))
    dataset.refresh_from_db()
    assert dataset.status == "importing"
