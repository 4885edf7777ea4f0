"""manage.py series: the stored metrics of runs."""

from argparse import ArgumentParser

from trainingapp.management.base import StudioCommand
from trainingapp.management.progress import progress_bar
from trainingapp.runs.series_migration import conversion, convert_some


class Command(StudioCommand):
    help = "Maintain the stored metrics of runs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        actions.add_parser(
            "convert",
            help="Convert the metrics of runs of older versions now. A worker does so in the background, too; both may "
            "run at the same time, and either can be interrupted.",
        )

    def handle(self, *args: object, **options: object) -> None:
        before = conversion()
        done = 0
        with progress_bar("Converting metrics (events)") as show:

            def report(events: int) -> None:
                nonlocal done
                done += events
                show(done, max(done, before.events_left))

            convert_some(report=report)
        left = conversion().runs_left
        self.stdout.write(f"{before.runs_left - left} runs converted, {left} left.")
