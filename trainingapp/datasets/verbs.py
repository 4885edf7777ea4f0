"""The verbs of datasets: import, confirm, delete."""

import logging
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from trainingapp.accounts import audit
from trainingapp.accounts.permissions import Verb, can, refusal, visible_to
from trainingapp.datasets import imports, storing
from trainingapp.datasets.import_rights import may_import_from
from trainingapp.datasets.options import AUTO, ImportOptions, ReadingOptions
from trainingapp.jobs.lease import is_held
from trainingapp.jobs.verbs import cancel_job
from trainingapp.models import Dataset
from trainingapp.models.trash import moved, trash_name
from trainingapp.models.verbs import DeletionSize, VerbError, checked_name, folder_size, refresh_locked, remove_trash

logger = logging.getLogger(__name__)


def may_import_from_somewhere(user: Any) -> bool:
    """Whether there is any server folder that this user may read."""
    return bool(settings.IMPORT_DIRS) or bool(user.is_staff)


def start_import(
    *,
    owner: Any,
    name: str,
    source: Path,
    source_is_upload: bool,
    options: ImportOptions | None = None,
    reading: ReadingOptions = AUTO,
    from_shell: bool = False,
    here: bool = False,
) -> Dataset:
    """Store a dataset that a worker then reads from `source`, an uploaded archive or a server folder.

    With `options`, it is imported accordingly; without, a worker inspects it with the choices in `reading` and stores a
    proposal for `confirm_import`. `from_shell` is for users with shell access, who may read every folder anyway. With
    `here`, this process holds the job and has to execute it; no worker takes it.
    """
    if not can(owner, Verb.CREATE):
        raise VerbError(refusal(Verb.CREATE))
    if not source_is_upload and not from_shell and not may_import_from(owner, source):
        raise VerbError(_("Datasets cannot be imported from %(folder)s.") % {"folder": source})
    if not source.exists():
        raise VerbError(_("%(path)s does not exist.") % {"path": source})
    fields: dict[str, Any] = {"owner": owner, "source": str(source.resolve()), "source_is_upload": source_is_upload}
    if options is None:
        fields["status"] = Dataset.Status.INSPECTING
        if reading != AUTO:
            fields["options"] = ImportOptions(reading=reading).model_dump(mode="json")
    else:
        fields |= {"status": Dataset.Status.IMPORTING, "options": options.model_dump(mode="json")}
    try:
        with transaction.atomic():
            dataset = Dataset.objects.create(name=checked_name(name), **fields)
            audit.record("import", dataset, by=owner.get_username(), details={"upload": source_is_upload})
            imports.request_import(dataset, here=here)
    except IntegrityError:
        raise VerbError(_("A dataset named “%(name)s” already exists.") % {"name": name.strip()}) from None
    return dataset


def confirm_import(dataset: Dataset, options: ImportOptions, *, by: str = "") -> Dataset:
    """Request the import of a proposed dataset with `options`. Raises VerbError if it is not proposed.

    Without `reading` in the options, the source is read as in the inspection.
    """
    with transaction.atomic():
        refresh_locked(dataset)
        if dataset.status != Dataset.Status.PROPOSED:
            raise VerbError(_("“%(name)s” is not waiting for confirmation of its import.") % {"name": dataset.name})
        if "reading" not in options.model_fields_set:
            options = options.model_copy(update={"reading": ImportOptions.model_validate(dataset.options).reading})
        dataset.status = Dataset.Status.IMPORTING
        dataset.options = options.model_dump(mode="json")
        dataset.save(update_fields=["status", "options"])
        audit.record("confirm", dataset, by=by)
        imports.request_import(dataset)
    logger.info("The import of dataset %s was confirmed by %s.", dataset.pk, by or "somebody")
    return dataset


def read_again(dataset: Dataset, options: ImportOptions, *, by: str = "") -> Dataset:
    """Request another inspection of a dataset that is not imported, with the choices in `options.reading`.

    The other options are the initial values of the next review. Raises VerbError if there is no other choice or the
    source no longer exists.
    """
    with transaction.atomic():
        refresh_locked(dataset)
        if not dataset.can_be_read_again:
            raise VerbError(_("The source of “%(name)s” cannot be read again.") % {"name": dataset.name})
        dataset.status = Dataset.Status.INSPECTING
        dataset.options = options.model_dump(mode="json")
        dataset.report = []
        dataset.save(update_fields=["status", "options", "report"])
        chosen = options.reading.model_dump(mode="json", exclude_defaults=True)
        audit.record("read_again", dataset, by=by, details={"reading": chosen})
        imports.request_import(dataset)
    return dataset


def cancel_import(dataset: Dataset, *, by: str = "") -> Dataset:
    """Cancel the inspection or the import: the dataset is refused and its files are removed. The source is kept.

    Raises VerbError if the dataset is neither being inspected nor imported.
    """
    with transaction.atomic():
        refresh_locked(dataset)
        if dataset.status not in imports.IN_WORK:
            raise VerbError(_("“%(name)s” is not being imported.") % {"name": dataset.name})
        audit.record("cancel", dataset, by=by)
        cancel_job(dataset.job or imports.request_import(dataset))
    dataset.refresh_from_db()
    return dataset


def store_dataset(dataset: Dataset, *, by: str = "") -> Dataset:
    """Request that the dataset is copied into the object store, or compared with its copy there.

    Raises VerbError if there is no object store, the dataset is not ready, or it is being stored.
    """
    if not settings.OBJECT_STORE_URL:
        raise VerbError(_("There is no object store: set OBJECT_STORE_URL."))
    with transaction.atomic():
        refresh_locked(dataset)
        if not dataset.is_ready:
            raise VerbError(_("“%(name)s” is not imported.") % {"name": dataset.name})
        if storing.request_storing(dataset, compare=bool(dataset.store_key)) is None:
            raise VerbError(_("“%(name)s” is being stored already.") % {"name": dataset.name})
        audit.record("store", dataset, by=by)
    return dataset


def dataset_deletion_size(dataset: Dataset) -> DeletionSize:
    """The bytes that deleting the dataset would free: files shared with another dataset remain on the disk."""
    return folder_size(dataset.folder)


def delete_dataset(dataset: Dataset) -> DeletionSize:
    """Delete the dataset and its files. Raises VerbError while runs use it or a worker imports it."""
    size = dataset_deletion_size(dataset)
    trash = trash_name(dataset.folder)
    with transaction.atomic():
        refresh_locked(dataset)
        _check_unused(dataset)
        upload = Path(dataset.source) if dataset.source_is_upload else None
        with moved(dataset.folder, trash):
            audit.record("delete", dataset, details={"bytes": size.bytes})
            if dataset.job is not None and dataset.status in imports.IN_WORK:
                cancel_job(dataset.job)
            dataset.delete()
    remove_trash(trash)
    if upload is not None:
        upload.unlink(missing_ok=True)
    return size


def _check_unused(dataset: Dataset) -> None:
    if dataset.status in imports.IN_WORK and is_held(dataset.job):
        raise VerbError(_("“%(name)s” is being imported. Cancel the import first.") % {"name": dataset.name})
    runs = dataset.runs.order_by("pk")
    if not runs.exists():
        if dataset.sweeps.exists():
            raise VerbError(_("Sweeps use this dataset. Delete them first."))
        return
    names = list(visible_to(dataset.owner, runs).values_list("name", flat=True)[:6])
    if not names:
        raise VerbError(_("Runs that are not shared with you use this dataset. Their owners must delete them first."))
    listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    message = ngettext(
        "The run %(names)s uses this dataset. Delete it first.",
        "The runs %(names)s use this dataset. Delete them first.",
        len(names),
    )
    raise VerbError(message % {"names": listed})
