"""Datasets: list, import, confirm, show, delete."""

from pathlib import Path
from typing import Annotated

from django.http import HttpResponse
from django.utils.translation import gettext as _
from ninja import Query, Router, Status

from trainingapp.accounts.permissions import Verb
from trainingapp.api.access import dataset_for, require, visible
from trainingapp.api.callers import ApiRequest
from trainingapp.api.model_schemas import DatasetCreate, DatasetFilters, DatasetList, DatasetResponse, DatasetStatistics
from trainingapp.api.paging import Id, Text, paged
from trainingapp.api.problems import FieldProblem, Problem, wrong_field
from trainingapp.api.raw_bodies import BINARY_BODY, check_binary
from trainingapp.api.schemas import TrainingDeleteResponse
from trainingapp.contract.limits import NAME_LENGTH
from trainingapp.datasets import uploads
from trainingapp.datasets import verbs as dataset_verbs
from trainingapp.datasets.importing.importer import check_upload
from trainingapp.datasets.options import AUTO, ImportOptions, ReadingOptions
from trainingapp.datasets.report import DatasetError, item_text
from trainingapp.models import Dataset
from trainingapp.models.verbs import DeletionSize, VerbError

router = Router(tags=["datasets"])

ORDERS = {"created": "created_at", "name": "name", "size": "size_bytes"}


@router.get("/", response=DatasetList, summary="List datasets")
def list_datasets(request: ApiRequest, filters: Query[DatasetFilters]) -> dict[str, object]:
    """The datasets that you may see."""
    rows = visible(request, Dataset.objects.select_related("owner"))
    if filters.status is not None:
        rows = rows.filter(status=filters.status)
    if filters.q:
        rows = rows.filter(name__icontains=filters.q)
    if filters.task is not None:  # SQLite has no lookup for the elements of a JSON list
        fit = [pk for pk, tasks in rows.values_list("pk", "tasks") if filters.task in tasks]
        rows = rows.filter(pk__in=fit)
    minus = "-" if filters.order.startswith("-") else ""
    return paged(rows.order_by(minus + ORDERS[filters.order.removeprefix("-")], f"{minus}pk"), filters)


@router.post("/", response={201: DatasetResponse}, summary="Import a dataset")
def create_dataset(request: ApiRequest, payload: DatasetCreate, response: HttpResponse) -> Status[Dataset]:
    """Import a complete upload or a folder of the server. A worker does the import; `status` shows its progress."""
    require(request, Verb.CREATE)
    if (payload.upload is None) == (payload.folder is None):
        raise wrong_field("#/upload", _("Provide either an upload or a folder."))
    if payload.folder is not None:
        source = Path(payload.folder)
        if not source.is_absolute():
            raise wrong_field("#/folder", _("Enter the full path, starting with /."))
        dataset = _imported(request, payload.name, source, options=payload.options, reading=payload.reading)
    else:
        upload = uploads.find(request.caller.user.pk, payload.upload or "")
        if upload is None or not upload.is_complete:
            raise wrong_field("#/upload", _("There is no complete upload with this id."))
        source = uploads.used(upload)
        dataset = _imported(
            request, payload.name, source, is_upload=True, options=payload.options, reading=payload.reading
        )
    response.headers["Location"] = f"/api/v1/datasets/{dataset.pk}"
    return Status(201, dataset)


@router.post("/upload", response={201: DatasetResponse}, summary="Upload a dataset", openapi_extra=BINARY_BODY)
def upload_dataset(
    request: ApiRequest,
    response: HttpResponse,
    name: Annotated[Text, Query(min_length=1, max_length=NAME_LENGTH, description="Name of the dataset.")],
) -> Status[Dataset]:
    """Send the zip or tar as the body. The dataset is inspected and then waits for confirmation of the import."""
    require(request, Verb.CREATE)
    check_binary(request)
    try:
        source = uploads.receive(request)
    except uploads.TooLargeError as error:
        raise Problem(413, str(error)) from None
    dataset = _imported(request, name, source, is_upload=True)
    response.headers["Location"] = f"/api/v1/datasets/{dataset.pk}"
    return Status(201, dataset)


@router.get("/{pk}", response=DatasetResponse, summary="Show a dataset")
def show_dataset(request: ApiRequest, pk: Id) -> Dataset:
    """A dataset with the progress and the report of its import, and with its proposal."""
    return dataset_for(request, pk)


@router.get("/{pk}/statistics", response=DatasetStatistics, summary="Statistics of a dataset")
def dataset_statistics(request: ApiRequest, pk: Id) -> Dataset:
    """Images, objects and pixels of each class and split, and the distribution of sizes."""
    return dataset_for(request, pk)


@router.post("/{pk}/confirm", response=DatasetResponse, summary="Confirm an import")
def confirm_dataset(request: ApiRequest, pk: Id, payload: ImportOptions) -> Dataset:
    """Import a dataset in the status `proposed` with these options."""
    dataset = dataset_for(request, pk, Verb.CHANGE)
    return dataset_verbs.confirm_import(dataset, payload, by=request.caller.user.get_username())


@router.post("/{pk}/read-again", response=DatasetResponse, summary="Read the source again")
def read_dataset_again(request: ApiRequest, pk: Id, payload: ReadingOptions) -> Dataset:
    """Inspect the source again with these reading options.

    The dataset must be `proposed`, or `refused` with `reading.offers`; it is then inspected and waits for confirmation.
    """
    dataset = dataset_for(request, pk, Verb.CHANGE)
    options = ImportOptions.model_validate(dataset.options).model_copy(update={"reading": payload})
    return dataset_verbs.read_again(dataset, options, by=request.caller.user.get_username())


@router.post("/{pk}/store", response=DatasetResponse, summary="Store a dataset")
def store_dataset(request: ApiRequest, pk: Id) -> Dataset:
    """Copy the dataset into the object store, or compare it with its copy there. `store_job` shows the progress."""
    dataset = dataset_for(request, pk, Verb.CHANGE)
    return dataset_verbs.store_dataset(dataset, by=request.caller.user.get_username())


@router.delete("/{pk}", response=TrainingDeleteResponse, summary="Delete a dataset")
def delete_dataset(request: ApiRequest, pk: Id) -> DeletionSize:
    """Delete a dataset and its files. Refused while runs use it or a worker imports it."""
    return dataset_verbs.delete_dataset(dataset_for(request, pk, Verb.DELETE))


def _imported(
    request: ApiRequest,
    name: str,
    source: Path,
    *,
    is_upload: bool = False,
    options: ImportOptions | None = None,
    reading: ReadingOptions | None = None,
) -> Dataset:
    """The new dataset. An upload that is refused is removed."""
    try:
        if is_upload:
            check_upload(source)
        return dataset_verbs.start_import(
            owner=request.caller.user,
            name=name,
            source=source,
            source_is_upload=is_upload,
            options=options,
            reading=reading or AUTO,
        )
    except (DatasetError, VerbError) as error:
        if is_upload:
            source.unlink(missing_ok=True)
        if isinstance(error, VerbError):
            raise
        errors = [FieldProblem(detail=item_text(item)) for item in error.items]
        raise Problem(
            422, "\n".join(problem.detail for problem in errors[:5]), kind="not-a-dataset", errors=errors
        ) from None
