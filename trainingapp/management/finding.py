"""Objects that the user of a command names."""

from django.core.management import CommandError

from trainingapp.models import Dataset


def find_dataset(wanted: str, option: str = "") -> Dataset:
    """Find a dataset by name, or by number if none has that name. The message of CommandError starts with `option`."""
    found = Dataset.objects.filter(name=wanted).first()
    if found is None and wanted.isdecimal():
        found = Dataset.objects.filter(pk=int(wanted)).first()
    if found is None:
        raise CommandError(f"{option}there is no dataset {wanted}." if option else f"There is no dataset {wanted}.")
    return found
