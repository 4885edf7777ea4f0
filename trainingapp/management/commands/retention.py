"""manage.py retention: what old metrics, logs and events take, and removing them."""

import json
from argparse import ArgumentParser
from dataclasses import asdict

from trainingapp.management.base import Options, StudioCommand, table_lines
from trainingapp.runs.history import Preview, previews, prune_some

HEADING = ("KIND", "KEPT", "RUNS", "COUNT", "BYTES")


class Command(StudioCommand):
    help = "Show which old metrics, logs and events of finished runs would be removed, and how much space they take."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--apply",
            action="store_true",
            help="Remove them now. A worker does so every hour, too; either can be interrupted.",
        )
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *args: object, **options: Options) -> None:
        found = previews()
        removed = prune_some(float("inf")) if options["apply"] else None
        if options["json"]:
            self.stdout.write(json.dumps({"due": [asdict(each) for each in found], "removed": removed}))
            return
        for line in table_lines(HEADING, map(_row, found)):
            self.stdout.write(line)
        if removed is not None:
            self.stdout.write(
                "Removed: " + ", ".join(f"{count} rows of {kind}" for kind, count in removed.items()) + "."
            )


def _row(found: Preview) -> tuple[str, ...]:
    kept = f"{found.days} days" if found.days else "forever"
    more = "+" if found.is_more else ""
    return (found.kind.value, kept, f"{found.runs:,}", f"{found.count:,}{more}", f"{found.bytes:,}{more}")
