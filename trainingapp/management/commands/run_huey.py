"""manage.py run_huey: a worker without the web server."""

import contextlib
import logging

from huey.contrib.djhuey.management.commands.run_huey import Command as HueyCommand


class Command(HueyCommand):
    help = "Run a worker: it trains queued runs and imports datasets. `manage.py studio` runs it with the web server."

    def handle(self, *args: object, **options: object) -> None:
        # Without a handler on its logger, Huey adds one, and each line is written twice.
        logging.getLogger("huey").addHandler(logging.NullHandler())
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C before Huey has installed its signal handlers
            super().handle(*args, **options)
