"""manage.py restore FILE: restore a backup into an empty installation."""

from argparse import ArgumentParser
from pathlib import Path

from django.core.management import call_command
from django.core.management.base import CommandError

from trainingapp.management.base import StudioCommand
from trainingapp.management.progress import bytes_bar
from trainingapp.operations.backup import BackupError, restore_backup


class Command(StudioCommand):
    help = (
        "Restore a backup into an empty installation: another DATA_DIR, another machine, another database. "
        "Nothing is changed before the complete file has been read and its hashes verified. A backup of an older "
        "version is migrated. With PostgreSQL, pg_restore of the server's version or a newer one is required."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="A file written by `manage.py backup`.")

    def handle(self, *, file: Path, **options: object) -> None:
        call_command("migrate", verbosity=0, interactive=False)
        try:
            with bytes_bar("Restoring", None) as advance:
                rows = restore_backup(file, lambda name, done: advance(done))
        except BackupError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{error.filename or file}: {error.strerror}.") from None
        counts = {name: rows.get(f"trainingapp.{name}", 0) for name in ("trainingrun", "dataset", "weights")}
        self.stdout.write("Restored {trainingrun} runs, {dataset} datasets, {weights} models.".format(**counts))
        self.stdout.write("Runs that were running resume when a worker starts.")
