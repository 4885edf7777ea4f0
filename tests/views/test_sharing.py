"""Objects that are not shared with a user appear nowhere: in no list, form, prefilled value, count or stream."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, User
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from tests.helpers.studio import PATIENCE
from trainingapp.accounts import sharing as sharing_verbs
from trainingapp.datasets import verbs as dataset_verbs
from trainingapp.models import AuditEntry, Checkpoint, Dataset, Team, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs import stream_clients
from trainingapp.runs import verbs as run_verbs


@pytest.fixture
def other_client(other_user: User) -> Client:
    client = Client()
    client.force_login(other_user)
    return client


def html(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


@pytest.fixture
def secret(run: TrainingRun) -> TrainingRun:
    """A private run and its dataset."""
    run_verbs.update_run(run, name="hush")
    sharing_verbs.share(run, "private")
    sharing_verbs.share(run.dataset, "private")
    return run


def test_lists_omit_objects_that_are_not_shared(other_client: Client, user_client: Client, secret: TrainingRun) -> None:
    assert "hush" in html(user_client.get(reverse("run_list")))
    assert "pets" in html(user_client.get(reverse("dataset_list")))
    for query in ({}, {"q": "hush"}, {"status": "pending"}):
        assert f"/runs/{secret.pk}/" not in html(other_client.get(reverse("run_list"), query))
    assert "pets" not in html(other_client.get(reverse("dataset_list")))


def test_forms_offer_only_shared_objects(other_client: Client, user_client: Client, secret: TrainingRun) -> None:
    facts = {"attempt": 1, "epoch": 1, "step": 1, "reason": "epoch", "size_bytes": 1, "created_at": timezone.now()}
    Checkpoint.objects.create(run=secret, file="epoch_1.pt", is_best=True, **facts)
    page, own = (html(client.get(reverse("run_new"))) for client in (other_client, user_client))
    for word in ("pets", "hush"):
        assert word in own
        assert word not in page
    assert "pets" not in html(other_client.get(reverse("run_new"), {"dataset": secret.dataset_id}))
    assert other_client.get(reverse("run_new"), {"clone": secret.pk}).status_code == 404


def test_equal_content_of_a_private_dataset_is_not_revealed(
    other_user: User, other_client: Client, secret: TrainingRun
) -> None:
    report = [{"level": "warning", "code": "same_content", "file": "", "message": "here already"}]
    Dataset.objects.filter(pk=secret.dataset_id).update(fingerprint="f" * 64)
    mine = Dataset.objects.create(
        name="mine", owner=other_user, status="refused", fingerprint="f" * 64, report=report, source="/x"
    )
    assert "pets" not in html(other_client.get(mine.get_absolute_url()))
    assert "pets" not in html(other_client.get(reverse("dataset_delete", args=[mine.pk])))


def test_a_dataset_in_use_by_hidden_runs_is_kept(user: User, other_user: User, dataset: Dataset) -> None:
    from tests.helpers.tiny import make_run

    sharing_verbs.share(make_run(other_user, dataset, name="hush"), "private")
    with pytest.raises(VerbError) as refusal:
        dataset_verbs.delete_dataset(dataset)
    assert "hush" not in str(refusal.value)


def test_the_form_shares_with_a_team(user_client: Client, user: User, run: TrainingRun) -> None:
    team = Team.objects.create(name="birds")
    team.members.add(user)
    page = html(user_client.get(reverse("run_activity", args=[run.pk])))
    assert "The team birds" in page
    page = html(user_client.post(reverse("run_share", args=[run.pk]), {"who": str(team.pk)}, follow=True))
    assert "Saved. Shared with: The team birds" in page
    run.refresh_from_db()
    assert (run.visibility, run.team) == ("team", team)
    user_client.post(reverse("dataset_share", args=[run.dataset_id]), {"who": "private"})
    assert Dataset.objects.get().visibility == "private"


def test_teams_of_other_users_are_not_offered(user_client: Client, run: TrainingRun) -> None:
    team = Team.objects.create(name="strangers")
    page = user_client.post(reverse("run_share", args=[run.pk]), {"who": str(team.pk)}, follow=True)
    assert "Choose who sees this from the list." in html(page)
    run.refresh_from_db()
    assert run.visibility == "everybody"


def test_a_team_mate_has_all_buttons_except_delete(other_user: User, other_client: Client, run: Any) -> None:
    team = Team.objects.create(name="birds")
    team.members.add(run.owner, other_user)
    sharing_verbs.share(run, "team", team)
    page = html(other_client.get(run.get_absolute_url()))
    assert 'id="verb-start"' in page
    assert 'id="verb-delete"' not in page


def test_a_viewer_is_offered_no_buttons(
    other_user: User, other_client: Client, run: TrainingRun, tints: Dataset
) -> None:
    other_user.groups.add(Group.objects.get_or_create(name="viewer")[0])
    pages = [run.get_absolute_url(), tints.get_absolute_url(), reverse("run_list"), reverse("dataset_list")]
    for page in pages:
        text = html(other_client.get(page))
        for address in (reverse("run_new"), reverse("dataset_import"), "/delete/", "/share/", 'id="verb-start"'):
            assert address not in text, (page, address)


def test_the_page_of_an_object_shows_its_audit_trail(user_client: Client, other_client: Client, run: Any) -> None:
    user_client.post(reverse("run_control", args=[run.pk, "start"]), REMOTE_ADDR="192.0.2.9")
    page = html(other_client.get(reverse("run_activity", args=[run.pk])))
    assert "Audit trail" in page
    assert "started" in page
    assert "192.0.2.9" not in page  # where from is for administrators


@pytest.fixture
async def listening(
    run: TrainingRun, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The stream of a run, read by another user."""
    monkeypatch.setattr(stream_clients, "HEARTBEAT_S", 0.05)
    client = AsyncClient()
    await client.aforce_login(other_user)
    response = await client.get(reverse("event_stream") + f"?topics=run.{run.pk}")
    assert response.status_code == 200
    content: Any = response.streaming_content
    yield aiter(content)
    await content.aclose()


@pytest.mark.django_db(transaction=True)
async def test_an_open_stream_ends_with_the_permission_to_see(listening: Any, run: TrainingRun) -> None:
    import asyncio

    async with asyncio.timeout(PATIENCE * 30):
        while b"alive" not in await anext(listening):
            pass
        await sync_to_async(sharing_verbs.share)(run, "private")
        rest = b"".join([part async for part in listening])
    assert rest.splitlines()[-4:-2] == [f"topic: run.{run.pk}".encode(), b"event: gone"]


@pytest.mark.django_db
def test_reading_is_not_recorded(other_client: Client, run: TrainingRun) -> None:
    AuditEntry.objects.all().delete()
    for page in (reverse("run_list"), run.get_absolute_url(), reverse("run_new") + f"?clone={run.pk}"):
        other_client.get(page)
    assert not AuditEntry.objects.exists()
