"""The end of an inspection or an import: the new status of a dataset, and the notification of its owner with it."""

from collections.abc import Sequence

from django.db import transaction
from django.db.models import QuerySet

from trainingapp.accounts.notifications import outbox
from trainingapp.contract.messages import VERBATIM, from_data
from trainingapp.datasets.report import ReportItem
from trainingapp.models import Dataset
from trainingapp.models.text import storable

#: The finding of an import that was cancelled on request.
CANCELLED = "import_cancelled"


def decide(rows: QuerySet[Dataset], **values: object) -> bool:
    """Write `values` to the one row of `rows`, which expect a status, and announce its new status in one transaction.

    Returns False, and writes nothing, where the row is gone or has another status.
    """
    with transaction.atomic():
        dataset = rows.select_for_update().first()
        if dataset is None:
            return False
        stored = storable(values)
        Dataset.objects.filter(pk=dataset.pk).update(**stored)
        for name, value in stored.items():
            setattr(dataset, name, value)
        if dataset.status == Dataset.Status.PROPOSED:
            outbox.import_proposed(dataset)
        elif dataset.status == Dataset.Status.READY:
            outbox.import_ready(dataset, dataset.images)
        elif dataset.status == Dataset.Status.REFUSED:
            _announce_refusal(dataset)
    return True


def _announce_refusal(dataset: Dataset) -> None:
    """The first error is the reason; the page of the dataset lists all of them. Who cancels an import knows it."""
    errors: Sequence[ReportItem] = dataset.errors  # type: ignore[assignment]  # as the importer writes them
    if errors and errors[0]["code"] != CANCELLED:
        outbox.import_refused(dataset, from_data(errors[0].get("text")) or VERBATIM(text=errors[0]["message"]))
