"""An import within a command, with progress and report on the terminal."""

from pathlib import Path

from django.contrib.auth.models import User
from django.core.management.base import CommandError
from rich.console import Console
from rich.markup import escape

from trainingapp.datasets import verbs as dataset_verbs
from trainingapp.datasets.importing.reading_record import ReadingRecord
from trainingapp.datasets.options import ImportOptions
from trainingapp.datasets.report import ReportItem, item_text
from trainingapp.management.following import follow_job
from trainingapp.models import Dataset
from trainingapp.models.verbs import VerbError
from trainingapp.presentation.messages import rendered_data

ITEMS_PER_CODE_SHOWN = 3


def find_owner(username: str) -> User:
    """The user of this name, or the first administrator if it is empty. Raises CommandError if there is none."""
    if username:
        found = User.objects.filter(username=username).first()
        problem = f"There is no user {username}."
    else:
        found = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
        problem = "There is no administrator. Create one with manage.py createsuperuser."
    if found is None:
        raise CommandError(problem)
    return found


def import_now(owner: User, name: str, source: Path, options: ImportOptions | None = None) -> Dataset:
    """Create a dataset and import it in this process, with a progress bar. Ctrl-C deletes it.

    No worker claims the job while this process runs. Raises CommandError if the name or the source is refused, or the
    import fails; a dataset that is refused for its content is returned.
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
    """Print the report and what was imported. Raises CommandError unless the dataset is ready."""
    print_report(dataset.report)
    if dataset.status == Dataset.Status.REFUSED:
        raise CommandError(f"“{dataset.name}” was refused; nothing was kept.")
    if dataset.status != Dataset.Status.READY:
        raise CommandError(f"“{dataset.name}” is being imported by a worker.")
    print(  # noqa: T201
        f"{dataset.name}: {len(dataset.classes)} classes, {dataset.count('train'):,} images for training, "
        f"{dataset.count('val'):,} for validation (dataset {dataset.pk})."
    )


def print_reading(record: ReadingRecord) -> None:
    """Print where the splits come from, and each choice with the value in force and the other values."""
    if record["split_origin"]:
        print(rendered_data(record["split_origin"]))  # noqa: T201
    for offer in record["offers"]:
        others = ", ".join(choice for choice in offer["choices"] if choice != offer["used"])
        option = f"--{offer['field'].replace('_', '-')}"
        reason = f" {rendered_data(offer['reason'])}" if offer["reason"] and offer["field"] != "splits" else ""
        used = f"{offer['used']} was used; " if offer["used"] else ""
        print(f"{option}: {used}also possible: {others}.{reason}")  # noqa: T201


def print_report(items: list[ReportItem]) -> None:
    """Print errors and warnings, at most ITEMS_PER_CODE_SHOWN of each code."""
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
