"""Importing within a command: progress and report on the terminal."""

from pathlib import Path

from django.contrib.auth.models import User
from django.core.management.base import CommandError
from rich.console import Console
from rich.markup import escape

from trainingapp.datasets import verbs as dataset_verbs
from trainingapp.datasets.options import ImportOptions
from trainingapp.datasets.report import ReportItem, item_text
from trainingapp.management.following import follow_job
from trainingapp.models import Dataset
from trainingapp.models.verbs import VerbError

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

    No worker takes the job while this process lives. Raises CommandError when the name or the source is refused, and
    when the import breaks; a dataset that is refused for its content is returned.
    """
    try:
        dataset = dataset_verbs.start_import(
            owner=owner,
            name=name,
            source=source,
            source_is_upload=False,
            options=options or ImportOptions(),
            from_shell=True,
            here=True,
        )
    except VerbError as error:
        raise CommandError(str(error)) from None
    assert dataset.job is not None
    try:
        follow_job(dataset.job, "Importing", is_held=True)
    except KeyboardInterrupt:
        dataset.delete()
        raise CommandError("Interrupted; nothing was kept.") from None
    dataset.refresh_from_db()
    return dataset


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
