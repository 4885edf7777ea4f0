"""An alias stands for one version of a model, moves at once, and only for users who may change both versions."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tests.helpers.library import make_entry
from trainingapp.models import AuditEntry, Weights, WeightsAlias
from trainingapp.models.verbs import VerbError
from trainingapp.weights import verbs as weights_verbs
from trainingapp.weights.aliases import AliasRefusedError, by_alias, checked_alias, remove_alias, set_alias

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _folder(tmp_path: Any, settings: Any) -> None:
    settings.WEIGHTS_DIR = tmp_path


def html(response: Any) -> str:
    return " ".join(response.content.decode().split())


def holder(name: str = "tints", alias: str = "production") -> Weights | None:
    return by_alias(Weights.objects.all(), name, alias)


def test_an_alias_moves_from_one_version_to_another(user: User) -> None:
    first, second = make_entry(user), make_entry(user)
    set_alias(first, " Production ", by=user)
    set_alias(second, "production", by=user)
    assert holder() == second
    assert list(WeightsAlias.objects.values_list("name", "alias")) == [("tints", "production")]
    entries = AuditEntry.objects.filter(verb="alias").order_by("pk").values_list("object_id", "details")
    expected = [(first, {"alias": "production"}), (second, {"alias": "production", "from": "v1"})]
    assert list(entries) == [(str(row.pk), details) for row, details in expected]


def test_setting_it_again_changes_and_records_nothing(user: User) -> None:
    weights = make_entry(user)
    set_alias(set_alias(weights, "production", by=user), "production", by=user)
    assert AuditEntry.objects.filter(verb="alias").count() == 1


def test_models_of_other_names_have_aliases_of_their_own(user: User) -> None:
    ours, others = make_entry(user), make_entry(user, name="shades")
    set_alias(ours, "production", by=user)
    set_alias(others, "production", by=user)
    assert (holder(), holder("shades")) == (ours, others)


@pytest.mark.parametrize("text", ["", "v2", "12", "-x", "a b", "生产", "x" * 41, "a/b", "a@b"])
def test_what_is_no_alias_is_refused(text: str) -> None:
    with pytest.raises(VerbError):
        checked_alias(text)


def test_it_is_not_taken_from_a_version_of_somebody_else(user: User, other_user: User) -> None:
    theirs = set_alias(make_entry(other_user), "production", by=other_user)
    with pytest.raises(AliasRefusedError):
        set_alias(make_entry(user), "production", by=user)
    assert holder() == theirs


def test_a_version_without_a_file_gets_none(user: User) -> None:
    weights = make_entry(user)
    Weights.objects.update(state="pending")
    with pytest.raises(VerbError):
        set_alias(weights, "production", by=user)


def test_removed_and_deleted_versions_leave_none(user: User) -> None:
    first, second = make_entry(user), make_entry(user)
    set_alias(first, "candidate", by=user)
    remove_alias(first, "Candidate")
    with pytest.raises(VerbError):
        remove_alias(first, "candidate")
    set_alias(second, "production", by=user)
    weights_verbs.delete_weights(second)
    assert not WeightsAlias.objects.exists()
    assert AuditEntry.objects.get(verb="delete").details["aliases"] == ["production"]


def test_a_renamed_version_takes_its_aliases_along(user: User) -> None:
    weights = set_alias(make_entry(user), "production", by=user)
    weights_verbs.update_weights(weights, name="shades")
    assert (holder(), holder("shades")) == (None, weights)


def test_it_is_not_renamed_to_a_name_that_has_its_alias(user: User) -> None:
    weights = set_alias(make_entry(user), "production", by=user)
    set_alias(make_entry(user, name="shades"), "production", by=user)
    with pytest.raises(VerbError):
        weights_verbs.update_weights(weights, name="shades")
    assert holder() == weights


def test_pages_show_set_and_filter_by_it(user: User, user_client: Client) -> None:
    first, second = make_entry(user, metrics={"top1": 0.25}), make_entry(user, metrics={"top1": 0.75})
    address = reverse("weights_alias", args=[second.pk])
    page = html(user_client.post(address, {"alias": "production"}, follow=True))
    assert "“tints v2” now has the alias “production”." in page
    versions = page.partition('id="versions"')[2]
    assert "25.0 %" in versions
    assert "75.0 %" in versions
    listed = html(user_client.get(reverse("weights_list"), {"alias": "production"}))
    assert f'id="weights-{second.pk}"' in listed
    assert f'id="weights-{first.pk}"' not in listed
    page = html(user_client.post(address, {"remove": "production"}, follow=True))
    assert "no longer has the alias" in page
    assert holder() is None


def test_a_page_refuses_what_is_no_alias(user: User, user_client: Client) -> None:
    weights = make_entry(user)
    page = html(user_client.post(reverse("weights_alias", args=[weights.pk]), {"alias": "v2"}, follow=True))
    assert "is not a version number" in page
    assert not WeightsAlias.objects.exists()
