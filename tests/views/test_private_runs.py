"""What other users learn of private runs: that one exists, but neither its name nor its owner.

Queue, devices, reasons, journal and the messages of verbs, as a page, in parts that are fetched or streamed, and by
the API.
"""

from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.api.conftest import api_of, problem
from tests.helpers.library import make_entry
from tests.helpers.machines import asking, hold, machine
from tests.helpers.saved import flip_a_bit
from tests.helpers.stored import stored
from tests.helpers.world import run_messages
from trainingapp.models import Device, JournalEntry, Team, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.stream_clients import Audience
from trainingapp.weights import verbs as weights_verbs

MAKE = Callable[..., TrainingRun]
HTMX = {"HX-Request": "true"}
#: Names of private runs: one that trains, one that waits ahead, one that has trained.
SECRETS = ("night-hush", "queue-hush", "past-hush")


def html(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode()).replace("\xa0", " ")


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def studio(make: MAKE, other_user: User, user: User) -> TrainingRun:
    """A host with one slot occupied by a private run, a waiting private run, and `waiting` of another user."""
    User.objects.filter(pk=user.pk).update(username="secretive")
    device = machine(slots=1).devices.get()
    now = timezone.now()
    hidden = {"visibility": "private"}
    hold(make("running", name=SECRETS[0], heartbeat_at=now + timedelta(hours=1), **hidden), device)
    past = make("completed", name=SECRETS[2], **hidden)
    hold(past, device, taken_at=now - timedelta(hours=2), released_at=now - timedelta(hours=1))
    make("queued", name=SECRETS[1], config=asking(), queue_rank=1.0, priority=7, queued_at=now, **hidden)
    return make("queued", name="waiting", config=asking(), queue_rank=2.0, queued_at=now, owner=other_user)


def assert_hidden(text: str) -> None:
    assert "private run" in text
    for word in (*SECRETS, "secretive"):
        assert word not in text


@pytest.mark.django_db
@pytest.mark.parametrize("headers", [{}, {**HTMX, "HX-Target": "queue"}], ids=["page", "part"])
def test_the_queue_names_no_private_run(
    studio: TrainingRun, other_user: User, user_client: Client, staff_client: Client, headers: dict[str, str]
) -> None:
    text = html(signed_in(other_user).get(reverse("queue"), headers=headers))
    assert_hidden(text)
    assert "the CPU of here is used by 1 private run" in text
    hidden = TrainingRun.objects.get(name=SECRETS[1])
    assert f"/runs/{hidden.pk}/" not in text
    for client in (user_client, staff_client):
        seen = html(client.get(reverse("queue"), headers=headers))
        assert all(name in seen for name in SECRETS[:2])
        assert "private run" not in seen


@pytest.mark.django_db
@pytest.mark.parametrize("headers", [{}, {**HTMX, "HX-Target": "devices"}], ids=["page", "part"])
def test_the_devices_name_no_private_run(
    studio: TrainingRun, other_user: User, user_client: Client, staff_client: Client, headers: dict[str, str]
) -> None:
    text = html(signed_in(other_user).get(reverse("device_list"), headers=headers))
    assert_hidden(text)
    for name in SECRETS:
        assert f"/runs/{TrainingRun.objects.get(name=name).pk}/" not in text
    for client in (user_client, staff_client):
        seen = html(client.get(reverse("device_list"), headers=headers))
        assert all(name in seen for name in SECRETS)
        assert "private run" not in seen


@pytest.mark.django_db
def test_a_team_mate_reads_the_names(studio: TrainingRun, other_user: User, user: User) -> None:
    team = Team.objects.create(name="team")
    team.members.add(user, other_user)
    TrainingRun.objects.filter(name__in=SECRETS).update(visibility="team", team=team)
    text = html(signed_in(other_user).get(reverse("queue")))
    assert SECRETS[0] in text
    assert "private run" not in text


@pytest.mark.django_db
def test_the_page_of_a_waiting_run_names_no_private_run(
    studio: TrainingRun, other_user: User, staff_client: Client
) -> None:
    client = signed_in(other_user)
    assert_hidden(html(client.get(studio.get_absolute_url())))
    part = html(client.post(reverse("run_control", args=[studio.pk, "start"]), headers=HTMX))
    assert_hidden(part)
    assert f"“{SECRETS[0]}”" in html(staff_client.get(studio.get_absolute_url()))


@pytest.mark.django_db(transaction=True)
async def test_the_stream_of_a_waiting_run_names_to_each_what_they_may_see(
    studio: TrainingRun, other_user: User, user: User
) -> None:
    readers = {reader: run_messages(studio.pk, Audience("en", reader=reader.pk), 0) for reader in (other_user, user)}
    told = {}
    for reader, messages in readers.items():
        async with aclosing(messages) as stream:
            told[reader] = next_header = await _header(stream)
            assert next_header
    assert_hidden(told[other_user])
    assert f"“{SECRETS[0]}”" in told[user]


async def _header(stream: Any) -> str:
    async for message in stream:
        if message is not None and message.event == "header":
            return str(message.data)
    raise AssertionError("the stream ended without a header")


@pytest.mark.django_db(transaction=True)
async def test_a_run_that_no_longer_waits_is_rendered_once_for_all_readers(studio: TrainingRun, user: User) -> None:
    """What differs by reader is the reason alone: all get the newest header when it starts, and when it waits again."""

    def becomes(status: str) -> None:
        TrainingRun.objects.get(pk=studio.pk).transition(status, attempt=1)

    async with aclosing(run_messages(studio.pk, Audience("en", reader=user.pk), 0)) as stream:
        assert 'data-status="queued"' in await _header(stream)
        await sync_to_async(becomes)("paused")
        assert 'data-status="paused"' in await _header(stream)
        await sync_to_async(becomes)("queued")
        assert f"“{SECRETS[0]}”" in await _header(stream)
        await sync_to_async(becomes)("paused")
        assert 'data-status="paused"' in await _header(stream)


@pytest.mark.django_db
def test_several_private_runs_are_counted(studio: TrainingRun, make: MAKE, other_user: User, user: User) -> None:
    Device.objects.get().host.__class__.objects.update(slots=2)
    hold(make("running", name="second-hush", visibility="private"), Device.objects.get())
    text = html(signed_in(other_user).get(reverse("queue")))
    assert "used by 2 private runs" in text
    assert "second-hush" not in text


@pytest.mark.django_db
def test_a_reservation_for_a_private_run_does_not_name_it(make: MAKE, other_user: User) -> None:
    device = machine(slots=2).devices.get()
    hold(make("running", name="open"), device)
    large = asking(device="cpu", device_count=2)
    make("queued", name="large-hush", config=large, queue_rank=1.0, visibility="private")
    make("queued", name="small", config=asking(device="cpu"), queue_rank=2.0)
    text = html(signed_in(other_user).get(reverse("queue")))
    assert "is reserved for 1 private run, which is ahead in the queue." in text
    assert "large-hush" not in text


@pytest.mark.django_db
def test_a_run_is_moved_past_a_private_one_and_no_refusal_names_it(studio: TrainingRun, other_user: User) -> None:
    client = signed_in(other_user)
    hidden, past = (TrainingRun.objects.get(name=name) for name in (SECRETS[1], SECRETS[2]))
    part = {**HTMX, "HX-Target": "queue"}
    address = reverse("queue_move", args=[studio.pk])
    refused = client.post(address, {"before": past.pk}, headers=part)
    assert SECRETS[2] not in refused.content.decode() + refused.headers["HX-Trigger"]
    moved = client.post(address, {"before": hidden.pk}, headers=part)
    assert "position 1 of 2" in moved.headers["HX-Trigger"]
    assert_hidden(html(moved))


@pytest.mark.django_db
def test_the_api_names_no_private_run(studio: TrainingRun, other_user: User, user: User, admin: User) -> None:
    other = api_of(other_user)
    for path in ("queue", "devices", "training/"):
        text = other.get(path).content.decode()
        assert not any(word in text for word in (*SECRETS, "secretive"))
    (device,) = other.get("devices").json()["items"][0]["devices"]
    assert (device["runs"], device["private_runs"]) == ([], 1)
    assert [(item["name"], item["place"]) for item in other.get("queue").json()["items"]] == [("waiting", 2)]
    hidden = TrainingRun.objects.get(name=SECRETS[1])
    assert "hush" not in str(problem(other.post("queue/move", {"run": studio.pk, "before": hidden.pk}), 404))
    held = TrainingRun.objects.get(name=SECRETS[0])
    for person in (user, admin):
        (device,) = api_of(person).get("devices").json()["items"][0]["devices"]
        assert (device["runs"], device["private_runs"]) == ([held.pk], 0)


@pytest.mark.django_db
def test_entries_of_deleted_runs_are_named_to_administrators_only(
    studio: TrainingRun, other_user: User, staff_client: Client
) -> None:
    """The owner and the visibility of a deleted run are no longer known."""
    past = TrainingRun.objects.get(name=SECRETS[2])
    JournalEntry.objects.create(run=past, run_name=past.name, found_by="w", found_at=timezone.now(), message="lost")
    run_verbs.delete_run(past)
    for route in ("journal", "device_list"):
        text = html(signed_in(other_user).get(reverse(route)))
        assert SECRETS[2] not in text
        assert "A deleted run" in text
        assert SECRETS[2] in html(staff_client.get(reverse(route)))


@pytest.mark.django_db
def test_a_model_in_use_by_a_private_run_is_kept_without_naming_the_run(
    make: MAKE, user: User, other_user: User
) -> None:
    weights = make_entry(user)
    config = asking(start_from=weights.start_name)
    make("queued", name="from-hush", config=config, visibility="private", owner=other_user)
    with pytest.raises(VerbError, match="not shared with you") as refused:
        weights_verbs.delete_weights(weights)
    assert "from-hush" not in str(refused.value)
    for route in ("weights_detail", "weights_delete"):
        assert "from-hush" not in html(signed_in(user).get(reverse(route, args=[weights.pk])))


@pytest.mark.django_db
def test_the_log_of_a_corrupted_checkpoint_names_no_private_run(make: MAKE) -> None:
    """Every user who sees the run reads its log, so only objects shared with every user are named there."""
    run = stored(make("completed"))
    flip_a_bit(run.folder / "checkpoints" / "epoch_1.pt", 200)
    start = asking(start_from=f"run/{run.pk}/epoch_1.pt")
    make(name="open", config=start)
    make(name="from-hush", config=start, visibility="private")
    assert run_verbs.verify_checkpoint(run.checkpoints.get(file="epoch_1.pt"))
    log = "".join(str(event.data) for event in run.events.all())
    assert "These runs start from it: “open”, 1 private run." in log
    assert "from-hush" not in log


@pytest.mark.django_db
def test_a_model_of_a_private_run_does_not_name_the_run(
    make: MAKE, user: User, other_user: User, user_client: Client
) -> None:
    run = make("completed", name="of-hush", visibility="private")
    weights = make_entry(user, run=run, run_name=run.name)
    told = api_of(other_user).get(f"weights/{weights.pk}").json()
    assert (told["run"], told["run_name"]) == (None, "")
    page = html(signed_in(other_user).get(weights.get_absolute_url()))
    assert "of-hush" not in page
    assert f"/runs/{run.pk}/" not in page
    told = api_of(user).get(f"weights/{weights.pk}").json()
    assert (told["run"], told["run_name"]) == (run.pk, "of-hush")
    assert "of-hush" in html(user_client.get(weights.get_absolute_url()))


@pytest.mark.django_db
def test_the_models_page_names_no_private_parent(make: MAKE, user: User, other_user: User, user_client: Client) -> None:
    parent = make_entry(user, name="parent-hush", visibility="private")
    child = make_entry(user, name="child", parent=parent)
    for address in (reverse("weights_list"), child.get_absolute_url()):
        assert "parent-hush" in html(user_client.get(address))
        assert "parent-hush" not in html(signed_in(other_user).get(address))
