"""Import a dataset in the foreground."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from trainingapp.management.foreground import find_owner, import_now, show_outcome


class Command(BaseCommand):
    help = (
        "Import a zip or a folder of class folders (cat/, dog/ ...; with or without train/ and val/ above them). "
        "Shows the validation report; the exit code is 1 when the dataset is refused."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", type=Path, help="A zip file or a folder on this machine; it is left as it is.")
        parser.add_argument("--name", required=True, help="What the dataset is called in the studio.")
        parser.add_argument("--owner", default="", help="User who owns it (the first administrator).")

    def handle(self, *, source: Path, name: str, owner: str, **options: Any) -> None:
        if not source.exists():
            raise CommandError(f"{source} does not exist.")
        show_outcome(import_now(find_owner(owner), name, source))
