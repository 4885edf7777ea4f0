"""What commands are told by name or number."""

from django.core.management import CommandError

from trainingapp.models import Dataset


def find_dataset(wanted: str, option: str = "") -> Dataset:
    """By name, or by number where no name is like that. Raises CommandError, which begins with `option`."""
    found = Dataset.objects.filter(name=wanted).first()
    if found is None and wanted.isdecimal():
        found = Dataset.objects.filter(pk=int(wanted)).first()
    if found is None:
        raise CommandError(f"{option}there is no dataset {wanted}." if option else f"There is no dataset {wanted}.")
    return found
