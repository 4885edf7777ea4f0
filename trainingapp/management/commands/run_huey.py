"""manage.py run_huey: a worker without the web server."""

import contextlib
import logging
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable

from django.core.management import CommandError
from huey.contrib.djhuey import HUEY
from huey.contrib.djhuey.management.commands.run_huey import Command as HueyCommand

from trainingapp.worker.consumer import Stay

#: Seconds with nothing to do after which a worker with --once leaves: longer than the usual waits before a retry.
IDLE_S = 60.0
#: The longest time that an option may name.
YEAR_S = 366 * 24 * 3600.0


class Command(HueyCommand):
    help = "Run a worker: it trains queued runs and imports datasets. `manage.py studio` runs it with the web server."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        stay = parser.add_argument_group("for a while only, as on hosts that a cluster scheduler lends")
        stay.add_argument("--once", action="store_true", help="Leave when there is nothing (more) to do.")
        stay.add_argument(
            "--idle-seconds",
            type=_limited(YEAR_S),
            metavar="SECONDS",
            help=f"With --once: seconds with nothing to do after which the worker leaves (default: {IDLE_S:g}).",
        )
        stay.add_argument(
            "--leave-after",
            type=_limited(YEAR_S / 60),
            metavar="MINUTES",
            help="Leave so many minutes after the start. Runs are saved and continue on other workers. Allow for "
            "LEAVE_GRACE_S before the time limit of the scheduler.",
        )

    def handle(
        self, *args: object, once: bool, idle_seconds: float | None, leave_after: float | None, **options: object
    ) -> None:
        if idle_seconds is not None and not once:
            raise CommandError("--idle-seconds needs --once.")
        assert HUEY is not None
        HUEY.stay = Stay(
            idle_s=(IDLE_S if idle_seconds is None else idle_seconds) if once else None,
            leave_after_s=None if leave_after is None else leave_after * 60,
        )
        # Without a handler on its logger, Huey adds one, and each line is written twice.
        logging.getLogger("huey").addHandler(logging.NullHandler())
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C before Huey has installed its signal handlers
            super().handle(*args, **options)


def _limited(most: float) -> Callable[[str], float]:
    """A number from 0 to `most` as the type of an option."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ArgumentTypeError(f"{text} is not a number.") from None
        if not 0 <= value <= most:
            raise ArgumentTypeError(f"{text} does not lie between 0 and {most:g}.")
        return value

    return parse
