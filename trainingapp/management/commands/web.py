"""manage.py web: the web server without a worker."""

import contextlib
import signal
import socket
import sys
from argparse import ArgumentParser
from types import FrameType

import uvicorn
from django.core.management.base import BaseCommand
from django.urls import get_resolver

from cvstudio.event_streams import STREAMS, raise_descriptor_limit
from cvstudio.settings import env
from trainingapp.operations.collector import settle
from trainingapp.runs.stream_clients import end_streams
from trainingapp.worker.consumer import end_with_parent

#: Seconds for requests in progress to end when the server stops.
ANSWERS_END_S = 3
#: Seconds after which a thread that renders lets the event loop send. Python's 0.005 are too long for many streams.
SWITCH_S = 0.001


class StudioServer(uvicorn.Server):
    """Closes the open streams when it receives a signal to stop; browsers reconnect automatically."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        _ = get_resolver().url_patterns  # imports the views, which the first request would do otherwise
        settle()
        await super().startup(sockets=sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        end_streams()
        STREAMS.drop_waiting()


class Command(BaseCommand):
    help = "Run the web server. `manage.py studio` runs it together with a worker."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=env.HOST, help="Address to listen on (HOST).")
        parser.add_argument("--port", type=int, default=env.PORT, help="Port to listen on (PORT).")

    def handle(self, *, host: str, port: int, **options: object) -> None:
        end_with_parent(signal.SIGTERM)
        raise_descriptor_limit()
        sys.setswitchinterval(SWITCH_S)
        config = uvicorn.Config(
            "cvstudio.asgi:application",
            host=host,
            port=port,
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="warning",
            timeout_graceful_shutdown=ANSWERS_END_S,
            proxy_headers=False,  # the audit trail and the lockout read the header themselves, by TRUSTED_PROXIES
        )
        with contextlib.suppress(KeyboardInterrupt):  # the server has ended by then
            StudioServer(config).run()
