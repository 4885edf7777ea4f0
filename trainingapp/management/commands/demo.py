"""Draw and import a dataset to try the studio with."""

import signal
import tempfile
from argparse import ArgumentParser
from pathlib import Path

from django.core.management.base import CommandError

from trainingapp.datasets import scenes
from trainingapp.datasets.demo import preparing
from trainingapp.management.base import StudioCommand
from trainingapp.management.foreground import find_owner, import_now, show_outcome
from trainingapp.management.progress import progress_bar
from trainingapp.models import Dataset
from trainingapp.worker.consumer import end_with_parent


class Command(StudioCommand):
    help = (
        "Draw scenes of eight kinds of object and import them as a dataset. The same seed draws the same scenes; a "
        "dataset of that name that is already there is left as it is."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", default="Demo scenes", help="Name of the dataset (%(default)s).")
        parser.add_argument("--images", type=int, default=2000, help="Images in all (%(default)s); a fifth is val.")
        parser.add_argument("--size", type=int, default=96, help="Width and height in pixels (%(default)s).")
        parser.add_argument("--seed", type=int, default=0, help="Fixes every random choice (%(default)s).")
        parser.add_argument("--owner", default="", help="User who owns it (the first administrator).")

    def handle(self, *, name: str, images: int, size: int, seed: int, owner: str, **options: object) -> None:
        if images < scenes.LEAST_IMAGES or not 32 <= size <= 1024 or seed < 0:
            raise CommandError(
                f"--images must be at least {scenes.LEAST_IMAGES}, --size 32 to 1024 and --seed not negative."
            )
        if found := Dataset.objects.filter(name=name).exclude(status=Dataset.Status.REFUSED).first():
            self.stdout.write(f"“{name}” is already there ({found.get_status_display()}).")
            return
        user = find_owner(owner)
        Dataset.objects.filter(name=name, runs=None).delete()  # one that was refused holds nothing but its report
        end_with_parent(signal.SIGINT)
        with preparing(), tempfile.TemporaryDirectory(prefix="cvstudio-demo-") as folder:
            with progress_bar("Drawing") as advance:
                scenes.draw_demo(Path(folder), images=images, seed=seed, size=size, on_progress=advance)
            dataset = import_now(user, name, Path(folder))
        show_outcome(dataset)
