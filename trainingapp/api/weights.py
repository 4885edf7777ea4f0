"""The library of weights: list, look, download, delete. Saving is done with the run."""

from typing import Any

from django.db.models import Q
from django.http import StreamingHttpResponse
from django.utils.translation import gettext as _
from ninja import Query, Router, Status

from trainingapp.api.access import visible, weights_for
from trainingapp.api.callers import ApiRequest
from trainingapp.api.library import delete_weights, export_weights
from trainingapp.api.paging import Id, paged
from trainingapp.api.problems import not_found
from trainingapp.api.schemas import TrainingDeleteResponse
from trainingapp.api.store_schemas import JobResponse, WeightsExport, WeightsFilters, WeightsList, WeightsResponse
from trainingapp.downloads import file_response, file_stem
from trainingapp.models import Job, Weights
from trainingapp.permissions import Verb

router = Router(tags=["weights"])

ORDERS = {"name": ("name", "version"), "created": ("created_at", "pk")}


@router.get("/", response=WeightsList, summary="List weights")
def list_weights(request: ApiRequest, filters: Query[WeightsFilters]) -> dict[str, Any]:
    """The weights that you may see; each version is a row."""
    rows = visible(request, Weights.objects.select_related("owner"))
    exact = {"recipe": filters.recipe, "name": filters.name}
    rows = rows.filter(**{name: value for name, value in exact.items() if value is not None})
    if filters.q:
        rows = rows.filter(Q(name__icontains=filters.q) | Q(note__icontains=filters.q))
    minus = "-" if filters.order.startswith("-") else ""
    return paged(rows.order_by(*(minus + field for field in ORDERS[filters.order.removeprefix("-")])), filters)


@router.get("/{pk}", response=WeightsResponse, summary="Show weights")
def show_weights(request: ApiRequest, pk: Id) -> Weights:
    """One version, with all that it takes to use it."""
    return weights_for(request, pk)


@router.get("/{pk}/download", response={200: None}, summary="Download weights")
def download_weights(request: ApiRequest, pk: Id) -> StreamingHttpResponse:
    """The file: safetensors."""
    weights = weights_for(request, pk, Verb.DOWNLOAD)
    if not weights.path.is_file():
        raise not_found(_("The file is gone."))
    name = f"{file_stem(weights.name, 'weights')}-v{weights.version}.safetensors"
    return file_response(weights.path, name, weights.sha256)


@router.post("/{pk}/export", response={202: JobResponse}, summary="Export weights")
def export(request: ApiRequest, pk: Id, payload: WeightsExport) -> Status[Job]:
    """Have a worker pack the weights into a zip. When the job is done, its file is export.zip."""
    weights = weights_for(request, pk, Verb.DOWNLOAD)
    return Status(202, export_weights(weights, payload.formats, request.caller.user))


@router.delete("/{pk}", response=TrainingDeleteResponse, summary="Delete weights")
def remove_weights(request: ApiRequest, pk: Id) -> dict[str, Any]:
    """Remove one version and its file."""
    return delete_weights(weights_for(request, pk, Verb.DELETE))
