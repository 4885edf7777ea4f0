"""manage.py web: the web server alone."""

import signal
from argparse import ArgumentParser
from typing import Any

import uvicorn
from django.core.management.base import BaseCommand

from cvstudio.settings import env
from trainingapp.consumer import end_with_parent

#: Open streams get this long to end when the server stops; their readers come back by themselves.
STREAMS_END_S = 3


class Command(BaseCommand):
    help = "Run the web server. `manage.py studio` runs it together with a worker."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=env.HOST, help="Address to listen on (HOST).")
        parser.add_argument("--port", type=int, default=env.PORT, help="Port to listen on (PORT).")

    def handle(self, *args: Any, **options: Any) -> None:
        end_with_parent(signal.SIGTERM)
        uvicorn.run(
            "cvstudio.asgi:application",
            host=options["host"],
            port=options["port"],
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="warning",
            timeout_graceful_shutdown=STREAMS_END_S,
        )
