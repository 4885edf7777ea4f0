"""manage.py tensorboard: the charts of runs in TensorBoard."""

import importlib.util
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.utils.text import slugify

from trainingapp.contract.run_directory import TENSORBOARD_DIR
from trainingapp.models import TrainingRun


class Command(BaseCommand):
    help = "Show the charts of runs in TensorBoard, live while they train. Ctrl-C ends it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("runs", nargs="*", type=int, metavar="RUN", help="Numbers of runs; by default all.")
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on.")
        parser.add_argument("--port", type=int, default=6006, help="Port to listen on.")

    def handle(self, *, runs: list[int], host: str, port: int, **options: object) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise CommandError("The package tensorboard is not installed: pip install tensorboard.")
        chosen = runs_with_files(runs)
        with tempfile.TemporaryDirectory(prefix="cvstudio-tensorboard-") as folder:
            link_runs(chosen, Path(folder))
            self.stdout.write(f"{len(chosen)} runs at http://{host}:{port}/, Ctrl-C ends it.")
            self.stdout.flush()
            _serve(Path(folder), host, port)


def runs_with_files(numbers: Iterable[int]) -> list[TrainingRun]:
    """Those of the runs, or of all if `numbers` is empty, that have files. Raises CommandError if there is none."""
    found = TrainingRun.objects.order_by("pk")
    if wanted := set(numbers):
        found = found.filter(pk__in=wanted)
        if missing := wanted - set(found.values_list("pk", flat=True)):
            raise CommandError(f"There is no run {', '.join(map(str, sorted(missing)))}.")
    runs = [run for run in found if (run.folder / TENSORBOARD_DIR).is_dir()]
    if not runs:
        raise CommandError("None of the runs has files for TensorBoard yet.")
    return runs


def link_runs(runs: Iterable[TrainingRun], folder: Path) -> None:
    """Link the files of each run under its number and name, which TensorBoard shows."""
    for run in runs:
        (folder / f"{run.pk}-{slugify(run.name) or 'run'}").symlink_to((run.folder / TENSORBOARD_DIR).resolve())


def _serve(folder: Path, host: str, port: int) -> None:
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", host, "--port", str(port)]
    process = subprocess.Popen(command)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        code = 0
    finally:
        process.terminate()
        process.wait()
    if code:
        raise CommandError(f"TensorBoard ended with exit status {code}.")
