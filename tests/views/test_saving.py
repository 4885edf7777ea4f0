"""A checkpoint counts as saved when it is on the disk: until then the page shows that it is being saved."""

import asyncio
import re
from collections.abc import Callable
from contextlib import aclosing
from html import unescape
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.helpers.events import write
from tests.helpers.studio import PATIENCE
from tests.helpers.world import run_messages
from trainingapp.contract.events import EVENTS_FILE, EventLog
from trainingapp.models import TrainingRun
from trainingapp.runs.stream_clients import Audience
from trainingapp.supervision.event_store import EventStore
from trainingapp.supervision.outcome import RELEASED

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

PROGRESS = {"total_epochs": 3, "total_steps": 30, "elapsed_s": 2.5}
SAVED = {"reason": "epoch", "size_bytes": 3, "sha256": "0" * 64, "metrics": {}, "is_best": False, "removed": []}


@pytest.fixture
def running(make: Callable[..., TrainingRun]) -> TrainingRun:
    """A run that trains its second epoch while the checkpoint of the first is being written."""
    run = make("running", attempt=1, worker="here:1:2", heartbeat_at=timezone.now())
    run.folder.mkdir(parents=True)
    tell(run, "progress", epoch=2, step=11, phase="train", saving="epoch_1.pt", **PROGRESS)
    return run


def tell(run: TrainingRun, type_: str, **fields: Any) -> None:
    """Write an event as the trainer does, and store it as the supervisor does."""
    log = EventLog(run.folder / EVENTS_FILE, 1)
    write(log, type_, **fields)
    log.close()
    EventStore(TrainingRun.objects.get(pk=run.pk)).pull_all()


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def page_text(client: Client, run: TrainingRun) -> str:
    """The text of the page with the log, below the progress."""
    return text_of(client.get(reverse("run_log", args=[run.pk])).content.decode())


@pytest.mark.parametrize(
    ("language", "saving", "saved"),
    [
        ("en", "· training · saving epoch_1.pt", "Saved epoch_1.pt"),
        ("zh-hans", "正在保存 epoch_1.pt", "已保存 epoch_1.pt"),
    ],
)
def test_the_page_says_saved_only_when_it_is(
    user_client: Client, running: TrainingRun, language: str, saving: str, saved: str
) -> None:
    user_client.cookies["django_language"] = language
    before = page_text(user_client, running)
    assert saving in before
    assert saved not in before
    tell(running, "checkpoint", epoch=1, step=10, file="epoch_1.pt", **SAVED)
    after = page_text(user_client, running)
    assert saving not in after
    assert saved in after


def test_the_last_save_of_a_run_is_named_once(user_client: Client, running: TrainingRun) -> None:
    tell(running, "progress", epoch=3, step=30, phase="save", saving="epoch_3.pt", **PROGRESS)
    assert "· saving epoch_3.pt" in page_text(user_client, running)
    assert "· saving ·" not in page_text(user_client, running)


def test_the_api_names_the_checkpoint_that_is_being_saved(user_client: Client, running: TrainingRun) -> None:
    url = f"/api/v1/training/{running.pk}/status"
    assert user_client.get(url).json()["saving"] == "epoch_1.pt"
    tell(running, "checkpoint", epoch=1, step=10, file="epoch_1.pt", **SAVED)
    assert user_client.get(url).json()["saving"] == ""


def test_a_run_that_ends_is_not_saving(running: TrainingRun) -> None:
    running.transition(TrainingRun.Status.PAUSED, **RELEASED)
    assert TrainingRun.objects.get().saving == ""


async def test_open_pages_follow(running: TrainingRun) -> None:
    async with asyncio.timeout(PATIENCE * 20), aclosing(run_messages(running.pk, Audience("en"), 0)) as stream:
        await _until_part(stream, lambda html: "saving epoch_1.pt" in html)
        await sync_to_async(tell)(running, "checkpoint", epoch=1, step=10, file="epoch_1.pt", **SAVED)
        await _until_part(stream, lambda html: "saving" not in html)


async def _until_part(stream: Any, is_wanted: Callable[[str], bool]) -> None:
    async for message in stream:
        if message is not None and message.event == "progress" and is_wanted(message.data):
            return
