"""manage.py run_huey: a worker alone."""

import contextlib
import logging

from huey.contrib.djhuey.management.commands.run_huey import Command as HueyCommand


class Command(HueyCommand):
    help = "Run a worker: it trains queued runs and imports datasets. `manage.py studio` runs it with the web server."

    def handle(self, *args: object, **options: object) -> None:
        # Huey would add a handler of its own to its logger, and each line would be written twice.
        logging.getLogger("huey").addHandler(logging.NullHandler())
        with contextlib.suppress(KeyboardInterrupt):  # stopped before it could catch signals itself
            super().handle(*args, **options)
