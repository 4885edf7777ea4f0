"""What every command of the studio is made from."""

import getpass
from typing import Any

from django.core.management.base import BaseCommand

from trainingapp.accounts import audit


class StudioCommand(BaseCommand):
    """A command whose deeds the audit trail knows by the user of the shell."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        with audit.acting(door=audit.Door.COMMAND, username=_shell_user()):
            return super().execute(*args, **options)


def _shell_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return ""
