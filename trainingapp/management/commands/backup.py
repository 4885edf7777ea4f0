"""manage.py backup FILE: write the complete studio to one file, also while runs train."""

from argparse import ArgumentParser
from pathlib import Path

from django.core.management.base import CommandError
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from trainingapp.management.base import StudioCommand
from trainingapp.management.progress import bytes_bar
from trainingapp.operations.backup import BackupError, make_backup, size_to_back_up


class Command(StudioCommand):
    help = "Write database and files to one file, also while runs train. `manage.py restore` restores it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, nargs="?", help="Target file (cvstudio-DATE.tar.zst in this folder).")

    def handle(self, *, file: Path | None, **options: object) -> None:
        target = file or Path(f"cvstudio-{timezone.now():%Y-%m-%d-%H%M%S}.tar.zst")
        try:
            with bytes_bar("Backing up", size_to_back_up()) as advance:
                size = make_backup(target, lambda name, done: advance(done))
        except BackupError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{target}: {error.strerror}.") from None
        self.stdout.write(f"{target}: {filesizeformat(size)}")
