"""Waiting for runs on the terminal, with a bar for each."""

import time
from collections.abc import Sequence

from django.core.management import CommandError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from trainingapp.management.training.records import best_result
from trainingapp.models import TrainingRun
from trainingapp.models.run import Status

LOOK_S = 0.5
#: What a command that waited ends with, by how the run ended; the worst of several counts.
EXIT_CODES: dict[str, int] = {
    Status.COMPLETED: 0,
    Status.FAILED: 3,
    Status.STOPPED: 4,
    Status.PAUSED: 5,
}


def wait_for_runs(numbers: Sequence[int], *, show_bar: bool) -> int:
    """Wait until none of the runs is queued or running; returns the exit code. Ctrl-C leaves the runs as they are.

    Raises CommandError for a run that was deleted meanwhile.
    """
    console = Console(stderr=True)
    parts = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[about]}"))
    with Progress(*parts, console=console, disable=not (show_bar and console.is_terminal)) as progress:
        bars = {number: progress.add_task(f"run {number}", total=1.0, about="") for number in numbers}
        while True:
            runs = _read(numbers)
            for run in runs:
                _move(progress, bars[run.pk], run)
            if all(run.status in EXIT_CODES for run in runs):
                return max(EXIT_CODES[run.status] for run in runs)
            time.sleep(LOOK_S)


def _read(numbers: Sequence[int]) -> list[TrainingRun]:
    found = TrainingRun.objects.in_bulk(numbers)
    for number in numbers:
        if number not in found:
            raise CommandError(f"Run {number} was deleted.")
    pending = [run for run in found.values() if run.status == Status.PENDING]
    if pending:
        raise CommandError(f"Run {pending[0].pk} was never started: there is nothing to wait for.")
    return list(found.values())


def _move(progress: Progress, bar: TaskID, run: TrainingRun) -> None:
    best = f"best {best_result(run)}" if best_result(run) else ""
    left = "" if run.eta_s is None else f"{run.eta_s:.0f} s left"
    about = ", ".join(filter(None, [run.shown_status, f"epoch {run.epoch}/{run.total_epochs}", best, left]))
    progress.update(bar, completed=run.progress, about=about, description=f"{run.pk} {run.name}")
