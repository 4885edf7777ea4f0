"""Garbage collection of long-lived processes: what they loaded at their start is not examined again."""

import pytest

from tests.helpers.studio import Studio
from trainingapp.operations.collector import THRESHOLDS

pytestmark = [pytest.mark.slow, pytest.mark.any_database]


def test_the_web_server_freezes_what_it_has_loaded(studio: Studio) -> None:
    frozen, thresholds, views = studio.python(
        """
        import asyncio, gc, sys, uvicorn
        from trainingapp.management.commands.web import StudioServer

        async def start():
            config = uvicorn.Config("cvstudio.asgi:application", port=0, lifespan="off")
            config.load()
            server = StudioServer(config)
            server.lifespan = config.lifespan_class(config)
            await server.startup()
            await server.shutdown()

        asyncio.run(start())
        result = [gc.get_freeze_count(), gc.get_threshold(), "trainingapp.views.runs" in sys.modules]
        """
    )
    assert frozen > 100_000
    assert tuple(thresholds) == THRESHOLDS
    assert views, "the views are loaded before, or the first request would add them"
