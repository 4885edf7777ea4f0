"""Importing within a command: progress and report on the terminal."""

from pathlib import Path

from django.contrib.auth.models import User
from django.core.management.base import CommandError
from django.db import IntegrityError, transaction
from django.utils import timezone
from rich.console import Console
from rich.markup import escape

from trainingapp.accounts import audit
from trainingapp.contract.limits import NAME_LENGTH
from trainingapp.datasets.importing.importer import run_import
from trainingapp.datasets.options import ImportOptions
from trainingapp.datasets.report import ReportItem, item_text
from trainingapp.management.progress import progress_bar
from trainingapp.models import Dataset

ITEMS_PER_CODE_SHOWN = 10


def find_owner(username: str) -> User:
    """The user named, or the first administrator. Raises CommandError when there is none."""
    users = User.objects
    if username:
        found = users.filter(username=username).first()
    else:
        found = users.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if found is None:
        who = f"a user named {username}" if username else "an administrator; make one with manage.py createsuperuser"
        raise CommandError(f"There is not {who}.")
    return found


def import_now(owner: User, name: str, source: Path, options: ImportOptions | None = None) -> Dataset:
    """Make a dataset and import it in this process, with a progress bar. Ctrl-C keeps nothing of it.

    Raises CommandError when the name is taken.
    """
    dataset = _create(owner, name, source, options or ImportOptions())
    try:
        with progress_bar("Importing") as advance:
            run_import(dataset, on_progress=advance)
    except KeyboardInterrupt:
        dataset.delete()
        raise CommandError("Interrupted; nothing was kept.") from None
    return dataset


def _create(owner: User, name: str, source: Path, options: ImportOptions) -> Dataset:
    """The row, with a heartbeat from the start: no worker takes it up while this process lives."""
    if not name.strip() or len(name) > NAME_LENGTH:
        raise CommandError(f"A name has 1 to {NAME_LENGTH} characters.")
    try:
        with transaction.atomic():
            dataset = Dataset.objects.create(
                owner=owner,
                name=name.strip(),
                source=str(source.resolve()),
                options=options.model_dump(mode="json"),
                heartbeat_at=timezone.now(),
            )
            audit.record("import", dataset)
            return dataset
    except IntegrityError:
        raise CommandError(f"There already is a dataset named “{name.strip()}”.") from None


def show_outcome(dataset: Dataset) -> None:
    """Print what was found and what was imported. Raises CommandError when that is nothing."""
    print_report(dataset.report)
    if dataset.status == Dataset.Status.REFUSED:
        raise CommandError(f"“{dataset.name}” was refused; nothing was kept.")
    if dataset.status != Dataset.Status.READY:
        raise CommandError(f"“{dataset.name}” is being imported by a worker.")
    print(  # noqa: T201
        f"{dataset.name}: {len(dataset.classes)} classes, {dataset.count('train'):,} images to train on, "
        f"{dataset.count('val'):,} for validation (dataset {dataset.pk})."
    )


def print_report(items: list[ReportItem]) -> None:
    """Print errors and warnings, at most ten of a kind."""
    console = Console(highlight=False, soft_wrap=True)
    shown: dict[str, int] = {}
    for item in items:
        shown[item["code"]] = shown.get(item["code"], 0) + 1
        if shown[item["code"]] <= ITEMS_PER_CODE_SHOWN:
            style = "red" if item["level"] == "error" else "yellow"
            console.print(f"[{style}]{item['level']}[/] {escape(item_text(item))}")
    for code, count in shown.items():
        if count > ITEMS_PER_CODE_SHOWN:
            console.print(f"… {count - ITEMS_PER_CODE_SHOWN} more lines of {code}; the dataset's page has them.")
