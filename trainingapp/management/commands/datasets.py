"""manage.py datasets: list, show, store and delete datasets, and print their reports."""

import json
from argparse import ArgumentParser

import yaml
from django.core.management import CommandError
from django.template.defaultfilters import filesizeformat

from trainingapp.datasets import verbs as dataset_verbs
from trainingapp.management.base import Options, StudioCommand, table_lines
from trainingapp.management.finding import find_dataset
from trainingapp.management.foreground import print_report
from trainingapp.management.sharing import add_share, share_item
from trainingapp.models import Dataset
from trainingapp.models.verbs import VerbError

HEADING = ("ID", "NAME", "STATUS", "TASKS", "CLASSES", "TRAIN", "VAL", "SIZE", "OWNER")


class Command(StudioCommand):
    help = "List, show, store and delete datasets. `import_dataset` imports one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        listing = actions.add_parser("list", help="List datasets, newest first.")
        listing.add_argument("--status", choices=Dataset.Status.values)
        show = actions.add_parser("show", help="Show one dataset with its counts.")
        report = actions.add_parser("report", help="Print its validation report; exit code 1 when it was refused.")
        statistics = actions.add_parser("statistics", help="Print the statistics of its classes and splits.")
        add_share(actions, "NAME|ID")
        store = actions.add_parser("store", help="Request copies in the object store, or check those that are there.")
        store.add_argument("dataset", nargs="+", metavar="NAME|ID")
        delete = actions.add_parser("delete", help="Delete datasets with their files.")
        for action in (show, report, statistics):
            action.add_argument("dataset", metavar="NAME|ID")
        for action in (listing, show, report, statistics):
            action.add_argument("--json", action="store_true", help="Print JSON.")
        delete.add_argument("dataset", nargs="+", metavar="NAME|ID")
        delete.add_argument("--yes", action="store_true", help="Do not ask.")
        delete.add_argument("--dry-run", action="store_true", help="Only print what would be freed.")

    def handle(self, *args: object, **options: object) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except VerbError as error:
            raise CommandError(str(error)) from None

    def _list(self, options: Options) -> None:
        found = Dataset.objects.select_related("owner")
        found = found.filter(status=options["status"]) if options["status"] else found
        if options["json"]:
            self.stdout.write(json.dumps([_record(dataset) for dataset in found]))
            return
        self.stdout.write("\n".join(table_lines(HEADING, map(_summary, found))))

    def _show(self, options: Options) -> None:
        dataset = find_dataset(options["dataset"])
        shown = {**_record(dataset), "counts": dataset.counts, "folder": str(dataset.folder)}
        if options["json"]:
            self.stdout.write(json.dumps(shown))
        else:
            self.stdout.write(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True), ending="")

    def _report(self, options: Options) -> None:
        dataset = find_dataset(options["dataset"])
        if options["json"]:
            self.stdout.write(json.dumps(dataset.report))
        else:
            print_report(dataset.report)
        if dataset.status == Dataset.Status.REFUSED:
            raise CommandError(f"“{dataset.name}” was refused.")

    def _statistics(self, options: Options) -> None:
        dataset = find_dataset(options["dataset"])
        if options["json"]:
            self.stdout.write(json.dumps(dataset.statistics))
        else:
            self.stdout.write(yaml.safe_dump(dataset.statistics, sort_keys=False, allow_unicode=True), ending="")

    def _share(self, options: Options) -> None:
        self.stdout.write(share_item(find_dataset(options["item"]), options))

    def _store(self, options: Options) -> None:
        for wanted in options["dataset"]:
            dataset = dataset_verbs.store_dataset(find_dataset(wanted))
            self.stdout.write(f"A worker stores “{dataset.name}”.")

    def _delete(self, options: Options) -> None:
        for wanted in options["dataset"]:
            dataset = find_dataset(wanted)
            size = dataset_verbs.dataset_deletion_size(dataset)
            what, freed = f"“{dataset.name}”", f"{size.bytes:,} bytes in {size.files:,} files"
            if options["dry_run"]:
                self.stdout.write(f"{what} would be deleted: {freed}.")
            elif options["yes"] or input(f"Delete {what} with {freed}? [y/N] ").lower() == "y":
                dataset_verbs.delete_dataset(dataset)
                self.stdout.write(f"{what} was deleted: {freed}.")


def _record(dataset: Dataset) -> dict[str, object]:
    names = ("id", "name", "status", "format", "tasks", "label_mode", "classes", "images", "fingerprint", "size_bytes")
    values: dict[str, object] = {name: getattr(dataset, name) for name in names}
    return {**values, "owner": dataset.owner.get_username(), "created_at": dataset.created_at.isoformat()}


def _summary(dataset: Dataset) -> tuple[str, ...]:
    counts = (str(len(dataset.classes)), str(dataset.count("train")), str(dataset.count("val")))
    size = filesizeformat(dataset.size_bytes).replace("\xa0", " ")
    who = dataset.owner.get_username()
    return (str(dataset.pk), dataset.name, dataset.status, ", ".join(dataset.tasks), *counts, size, who)
