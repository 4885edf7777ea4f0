"""With Redis, the bell wakes the streams, and polling is a fallback."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import channel_layers

from tests.helpers.studio import PATIENCE
from tests.helpers.world import line, numbered, run_messages, store_events, until
from trainingapp.models import TrainingRun
from trainingapp.models.bell import ring
from trainingapp.runs import stream_readers
from trainingapp.runs.stream_clients import Audience
from trainingapp.runs.stream_readers import Reader

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.redis]
LAYER = "channels_redis.pubsub.RedisPubSubChannelLayer"


@pytest.fixture
def bell(redis_url: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": LAYER, "CONFIG": {"hosts": [redis_url]}}}
    channel_layers.backends.clear()
    monkeypatch.setattr(stream_readers, "POLL_WITH_BELL_S", 3600)


async def test_a_ring_triggers_the_reader(bell: None, run: TrainingRun) -> None:
    async with aclosing(run_messages(run.pk, Audience("en"), 0)) as stream:
        await anext(stream)
        await sync_to_async(store_events)(run, line("news"))
        news = asyncio.ensure_future(numbered(stream, 1))
        async with asyncio.timeout(PATIENCE * 10):
            while not news.done():  # the reader may still be on its way to the bell
                await sync_to_async(ring, thread_sensitive=False)(run.pk)
                await asyncio.sleep(0.05)
        assert [message.id for message in await news] == [1]
    await until(lambda: not Reader.readers)


async def test_with_a_broken_bell_polling_continues(
    settings: Any, run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": LAYER, "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]}}}
    channel_layers.backends.clear()
    monkeypatch.setattr(stream_readers, "POLL_WITH_BELL_S", 1)
    async with aclosing(run_messages(run.pk, Audience("en"), 0)) as stream:
        await anext(stream)
        await sync_to_async(store_events)(run, line("news"))
        assert [message.id for message in await numbered(stream, 1)] == [1]
