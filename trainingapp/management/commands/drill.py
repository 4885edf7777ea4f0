"""manage.py drill: kill a small studio again and again, and certify that nothing is lost on this machine."""

import json
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from trainingapp.management.base import Options, StudioCommand
from trainingapp.management.progress import progress_bar
from trainingapp.operations.drill import CONFIGS, Drill, DrillError, Installation, Report


class Command(StudioCommand):
    help = (
        "Start a small studio of its own, send SIGKILL to trainers, worker and web server at random moments, and "
        "compare every run with one that nobody disturbed: weights, metrics, evaluations and events must be equal. "
        "Your own runs and data are not touched. Exit code 1 when anything differs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--kills", type=int, default=20, help="Processes to kill (%(default)s).")
        parser.add_argument(
            "--task", "--recipe", action="append", choices=list(CONFIGS), help="Repeatable; by default all."
        )
        parser.add_argument("--seed", type=int, default=0, help="Fixes whom to kill when (%(default)s).")
        parser.add_argument("--keep", type=Path, metavar="FOLDER", help="Leave the studio there to be looked at.")
        parser.add_argument("--json", action="store_true", help="Print the report as a JSON object.")

    def handle(self, *args: object, **options: Any) -> None:
        if options["kills"] < 1:
            raise CommandError("--kills must be at least 1.")
        report = self._hold(options)
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json()))
        else:
            self._tell(report)
        if not report.is_certified:
            raise CommandError("This machine is not certified.")

    def _hold(self, options: Options) -> Report:
        tasks = list(dict.fromkeys(options["task"] or CONFIGS))
        with tempfile.TemporaryDirectory(prefix="cvstudio-drill-") as temporary:
            folder = options["keep"] or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            with progress_bar("Drill") as advance:
                drill = Drill(
                    Installation(folder.resolve()),
                    tasks,
                    options["kills"],
                    options["seed"],
                    lambda done, what: advance(done, options["kills"]),
                )
                try:
                    return drill.hold()
                except DrillError as error:
                    raise CommandError(str(error)) from None

    def _tell(self, report: Report) -> None:
        kills = ", ".join(f"{name} {count}" for name, count in sorted(report.kills.items()))
        runs = ", ".join(f"{name} {count}" for name, count in sorted(report.runs.items()))
        self.stdout.write(f"Killed {sum(report.kills.values())} processes ({kills}) in {report.seconds:.0f} s.")
        self.stdout.write(f"Compared {sum(report.runs.values())} runs ({runs}) with undisturbed ones.")
        for problem in report.problems:
            self.stdout.write(f"  {problem}")
        if report.is_certified:
            self.stdout.write("Certified: weights, metrics and evaluations are equal; no event is missing or doubled.")
