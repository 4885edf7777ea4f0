"""manage.py backup FILE: write the complete studio to one file, also while runs train."""

from argparse import ArgumentParser
from pathlib import Path

from django.core.management.base import CommandError
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from trainingapp.management.base import StudioCommand
from trainingapp.management.progress import bytes_bar
from trainingapp.operations.backup import BackupError, make_backup, measure


class Command(StudioCommand):
    help = (
        "Write database and files to one file, also while runs train. `manage.py restore` restores it. "
        "With PostgreSQL, pg_dump of the server's version or a newer one is required."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, nargs="?", help="Target file (cvstudio-DATE.tar.zst in this folder).")
        parser.add_argument(
            "--portable",
            action="store_true",
            help="Store the database row by row, for any kind of database: a backup of PostgreSQL can then be restored "
            "into SQLite, or into an older server. Takes many times longer. Backups of SQLite need it for neither.",
        )

    def handle(self, *, file: Path | None, portable: bool, **options: object) -> None:
        target = file or Path(f"cvstudio-{timezone.now():%Y-%m-%d-%H%M%S}.tar.zst")
        try:
            with bytes_bar("Backing up", measure().processed(portable=portable)) as advance:
                size = make_backup(target, lambda name, done: advance(done), portable=portable)
        except BackupError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{target}: {error.strerror}.") from None
        self.stdout.write(f"{target}: {filesizeformat(size)}")
