"""The bell: tells web processes to look at a run again. It carries nothing, so nothing is lost with it."""

import logging

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

#: The group that hears of every run.
RUNS_GROUP = "runs"


def run_group(run_id: int) -> str:
    """The group that hears of one run."""
    return f"run.{run_id}"


def ring(run_id: int) -> None:
    """Say that the run has changed; call it after the commit. Without a channel layer there is nobody to tell.

    A bell that cannot be rung is no error: whoever listens also looks by itself from time to time.
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
