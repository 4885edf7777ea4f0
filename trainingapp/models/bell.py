"""The bell: notifies web processes that a run has changed. It carries no data, so nothing is lost with it."""

import logging

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

#: The group that is notified of every run.
RUNS_GROUP = "runs"


def run_group(run_id: int) -> str:
    """The group that is notified of one run."""
    return f"run.{run_id}"


def ring(run_id: int) -> None:
    """Notify that the run has changed; call it after the commit. Without a channel layer it has no effect.

    A failed notification is no error: readers also poll.
    """
    if not settings.CHANNEL_LAYERS:
        return
    try:
        async_to_sync(_ring)(run_id)
    except (OSError, RedisError) as error:
        logger.warning("The bell could not be rung: %s", error)


async def _ring(run_id: int) -> None:
    layer = get_channel_layer()
    assert layer is not None
    for group in (run_group(run_id), RUNS_GROUP):
        await layer.group_send(group, {"type": "run.changed", "run": run_id})
