"""Wait for runs on the terminal, with a progress bar for each."""

import time
from collections.abc import Sequence

from django.core.management import CommandError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from trainingapp.management.training.records import best_result
from trainingapp.models import TrainingRun
from trainingapp.models.run import Status

POLL_S = 0.5
#: The exit code of a command that waited, by the status of the run; for several runs the highest counts.
EXIT_CODES: dict[str, int] = {
    Status.COMPLETED: 0,
    Status.FAILED: 3,
    Status.STOPPED: 4,
    Status.PAUSED: 5,
}


def wait_for_runs(numbers: Sequence[int], *, show_bar: bool) -> int:
    """Wait until no run is queued or running; returns the exit code. Ctrl-C does not change the runs.

    Raises CommandError for a run that is deleted meanwhile, or was never started.
    """
    console = Console(stderr=True)
    parts = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[about]}"))
    with Progress(*parts, console=console, disable=not (show_bar and console.is_terminal)) as progress:
        bars = {number: progress.add_task(f"run {number}", total=1.0, about="") for number in numbers}
        while True:
            runs = TrainingRun.objects.in_bulk(numbers)
            for number, bar in bars.items():
                run = runs.get(number)
                if run is None:
                    raise CommandError(f"Run {number} was deleted.")
                if run.status == Status.PENDING:
                    raise CommandError(f"Run {number} was never started: there is nothing to wait for.")
                best = f"best {best_result(run)}" if best_result(run) else ""
                left = "" if run.eta_s is None else f"{run.eta_s:.0f} s left"
                about = ", ".join(filter(None, [run.shown_status, f"epoch {run.epoch}/{run.total_epochs}", best, left]))
                progress.update(bar, completed=run.progress, about=about, description=f"{number} {run.name}")
            if all(run.status in EXIT_CODES for run in runs.values()):
                return max(EXIT_CODES[run.status] for run in runs.values())
            time.sleep(POLL_S)
