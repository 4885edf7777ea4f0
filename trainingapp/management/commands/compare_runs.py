"""manage.py compare_runs: the metrics and the differing settings of several runs."""

from argparse import ArgumentParser

from django.core.management import CommandError

from trainingapp.management.base import Options, StudioCommand
from trainingapp.management.progress import progress_bar
from trainingapp.models import TrainingRun
from trainingapp.runs.comparison import At, ComparisonError, compare, markdown
from trainingapp.runs.resampling import RESAMPLES
from trainingapp.runs.significance import markdown_of, significance


class Command(StudioCommand):
    help = "Print the metrics and the differing settings of several runs as Markdown."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("runs", type=int, nargs="+", metavar="RUN")
        parser.add_argument(
            "--base", type=int, metavar="RUN", help="Baseline of the differences; by default the first."
        )
        parser.add_argument(
            "--newest", action="store_true", help="Compare the newest validations instead of those of the best epochs."
        )
        parser.add_argument(
            "--intervals",
            action="store_true",
            help="Compute 95 %% intervals of the differences, however long it takes.",
        )

    def handle(self, **options: object) -> None:
        parsed: Options = options
        at: At = "newest" if parsed["newest"] else "best"
        try:
            comparison = compare(TrainingRun.objects.all(), parsed["runs"], base=parsed["base"], at=at)
        except ComparisonError as error:
            raise CommandError(str(error)) from None
        if comparison is None:
            raise CommandError("None of these runs exists.")
        self.stdout.write(markdown(comparison), ending="")
        if parsed["intervals"]:
            with progress_bar("Drawing validation images") as show:
                found = significance(comparison, lambda count: show(count, RESAMPLES))
            self.stdout.write("\n" + markdown_of(found), ending="")
