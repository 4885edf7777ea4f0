"""manage.py drill: kill processes of a small studio while it trains, and certify that this machine loses nothing."""

import json
import tempfile
from argparse import ArgumentParser
from pathlib import Path

from django.core.management.base import CommandError

from trainingapp.management.base import StudioCommand
from trainingapp.management.progress import progress_bar
from trainingapp.operations.drill import CONFIGS, Drill, DrillError, Installation, Report


class Command(StudioCommand):
    help = (
        "Start a separate small studio, send SIGKILL to trainers, worker and web server at random moments and right "
        "after the end of an epoch, and compare every run with one that was not interrupted: weights, metrics, "
        "evaluations and events must be equal. Reports how many steps the kill of a trainer cost. "
        "Your own runs and data are not changed. Exit code 1 if anything differs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--kills", type=int, default=20, help="Processes to kill (%(default)s).")
        parser.add_argument(
            "--task", "--recipe", action="append", choices=list(CONFIGS), help="Repeatable; by default all."
        )
        parser.add_argument("--seed", type=int, default=0, help="Seed of processes and moments (%(default)s).")
        parser.add_argument("--keep", type=Path, metavar="FOLDER", help="Keep the studio in this folder.")
        parser.add_argument("--json", action="store_true", help="Print the report as a JSON object.")

    def handle(self, *, kills: int, task: list[str] | None, seed: int, keep: Path | None, **options: object) -> None:
        if kills < 1:
            raise CommandError("--kills must be at least 1.")
        tasks = list(dict.fromkeys(task or CONFIGS))
        with tempfile.TemporaryDirectory(prefix="cvstudio-drill-") as temporary, progress_bar("Drill") as advance:
            folder = keep or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            drill = Drill(Installation(folder.resolve()), tasks, kills, seed, lambda done, what: advance(done, kills))
            try:
                report = drill.hold()
            except DrillError as error:
                raise CommandError(str(error)) from None
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json()))
        else:
            self._print(report)
        if not report.is_certified:
            raise CommandError("This machine is not certified.")

    def _print(self, report: Report) -> None:
        kills = ", ".join(f"{name} {count}" for name, count in sorted(report.kills.items()))
        runs = ", ".join(f"{name} {count}" for name, count in sorted(report.runs.items()))
        self.stdout.write(f"Killed {sum(report.kills.values())} processes ({kills}) in {report.seconds:.0f} s.")
        self.stdout.write(f"Compared {sum(report.runs.values())} runs ({runs}) with uninterrupted ones.")
        lost, durable = report.lost_steps, report.durable_s
        if lost["worst"] is not None:
            self.stdout.write(
                f"A killed trainer lost {lost['worst']:g} steps at most, {lost['median']:g} in the median "
                f"(at most {lost['promised']:g} were promised)."
            )
        if durable:
            self.stdout.write(f"Checkpoints were on the disk within {max(durable):.1f} s.")
        for problem in report.problems:
            self.stdout.write(f"  {problem}")
        if report.is_certified:
            self.stdout.write("Certified: weights, metrics and evaluations are equal; no event is lost or duplicated.")
