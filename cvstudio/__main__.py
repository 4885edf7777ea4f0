"""The console command `cvstudio`, and `python -m cvstudio`: the same as `manage.py`, from an installed wheel too."""

import os
import sys

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> None:
    """Run the management command of the command line. Settings that cannot be used end it with a plain message."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cvstudio.settings")
    try:
        settings.INSTALLED_APPS  # noqa: B018  reads the environment
    except ImproperlyConfigured as error:
        sys.exit(f"{error}")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
