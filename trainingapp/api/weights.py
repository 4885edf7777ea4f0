"""The library of weights: list, upload, look, change, download, export, delete. Saving is done with the run."""

from functools import partial
from pathlib import Path

from django.db.models import Q
from django.http import HttpResponse, StreamingHttpResponse
from django.utils.translation import gettext as _
from ninja import Query, Router, Status

from trainingapp.accounts.permissions import Verb
from trainingapp.api.access import aliased, require, visible, weights_for
from trainingapp.api.callers import ApiRequest
from trainingapp.api.model_schemas import (
    AliasName,
    AliasQuery,
    JobResponse,
    WeightsCreate,
    WeightsExport,
    WeightsFilters,
    WeightsList,
    WeightsResponse,
    WeightsUpdate,
    WeightsUpload,
)
from trainingapp.api.paging import Id, paged
from trainingapp.api.problems import Problem, not_found, wrong_field, wrong_parameter
from trainingapp.api.raw_bodies import BINARY_BODY, check_binary
from trainingapp.api.schemas import TrainingDeleteResponse
from trainingapp.api.versions import IfMatch, changed, etag
from trainingapp.contract.export_options import ExportOptions
from trainingapp.datasets import uploads
from trainingapp.models import Job, Weights
from trainingapp.models.verbs import DeletionSize, FieldError, VerbError
from trainingapp.runs.downloads import file_response, file_stem
from trainingapp.weights import verbs as weights_verbs
from trainingapp.weights.aliases import AliasRefusedError, remove_alias, set_alias
from trainingapp.weights.forms import is_known

router = Router(tags=["weights"])

ORDERS = {"name": ("name", "version"), "created": ("created_at", "pk")}


@router.get("/", response=WeightsList, summary="List weights")
def list_weights(request: ApiRequest, filters: Query[WeightsFilters]) -> dict[str, object]:
    """The weights that you may see; each version is a row."""
    rows = visible(request, Weights.objects.select_related("owner").prefetch_related("aliases"))
    exact = {"task": filters.task, "name": filters.name}
    rows = rows.filter(**{name: value for name, value in exact.items() if value is not None})
    if filters.alias:
        rows = rows.filter(aliases__alias=filters.alias.lower())
    if filters.q:
        rows = rows.filter(Q(name__icontains=filters.q) | Q(note__icontains=filters.q))
    minus = "-" if filters.order.startswith("-") else ""
    return paged(rows.order_by(*(minus + field for field in ORDERS[filters.order.removeprefix("-")])), filters)


@router.post("/", response={201: WeightsResponse}, summary="Add uploaded weights")
def create_weights(request: ApiRequest, payload: WeightsCreate, response: HttpResponse) -> Status[Weights]:
    """Take a complete upload into the library. A worker finds out how much of it fits the network; see `state`."""
    require(request, Verb.CREATE)
    _check_architecture(payload, "#/architecture")
    upload = uploads.find(request.caller.user.pk, payload.upload)
    if upload is None or not upload.is_complete:
        raise wrong_field("#/upload", _("There is no complete upload with this id."))
    return _taken_in(request, response, uploads.used(upload), payload)


@router.post("/upload", response={201: WeightsResponse}, summary="Upload weights", openapi_extra=BINARY_BODY)
def upload_weights(request: ApiRequest, response: HttpResponse, about: Query[WeightsUpload]) -> Status[Weights]:
    """The body is the file: safetensors, or pt of torch.save. See `state` of the response."""
    require(request, Verb.CREATE)
    check_binary(request)
    _check_architecture(about)
    try:
        path = uploads.receive(request)
    except uploads.TooLargeError as error:
        raise Problem(413, str(error)) from None
    return _taken_in(request, response, path, about)


@router.get("/resolve", response=WeightsResponse, summary="Find weights by alias")
def resolve_weights(request: ApiRequest, wanted: Query[AliasQuery], response: HttpResponse) -> Weights:
    """The version of a model that an alias stands for now."""
    weights = aliased(request, wanted)
    response.headers["ETag"] = etag(weights_verbs.weights_tag(weights))
    return weights


@router.get("/resolve/download", response={200: None}, summary="Download weights by alias")
def download_resolved_weights(request: ApiRequest, wanted: Query[AliasQuery]) -> StreamingHttpResponse:
    """The file (safetensors) of the version that an alias stands for now."""
    return _file(aliased(request, wanted, Verb.DOWNLOAD))


@router.put("/{pk}/aliases/{alias}", response=WeightsResponse, summary="Set an alias of weights")
def set_weights_alias(request: ApiRequest, pk: Id, alias: AliasName) -> Weights:
    """Have an alias stand for this version. Another version of the model loses it at the same moment."""
    weights = weights_for(request, pk, Verb.CHANGE)
    try:
        return set_alias(weights, alias, by=request.caller.user)
    except AliasRefusedError as error:
        raise Problem(403, str(error)) from None
    except FieldError as error:
        raise wrong_parameter("alias", str(error)) from None


@router.delete("/{pk}/aliases/{alias}", response=WeightsResponse, summary="Remove an alias of weights")
def remove_weights_alias(request: ApiRequest, pk: Id, alias: AliasName) -> Weights:
    """Take an alias from this version. No version has it then."""
    weights = weights_for(request, pk, Verb.CHANGE)
    if not weights.aliases.filter(alias=alias.strip().lower()).exists():
        raise not_found()
    return remove_alias(weights, alias)


@router.get("/{pk}", response=WeightsResponse, summary="Show weights")
def show_weights(request: ApiRequest, pk: Id, response: HttpResponse) -> Weights:
    """One version, with all that it takes to use it. The ETag is what a change has to be sent with."""
    weights = weights_for(request, pk)
    response.headers["ETag"] = etag(weights_verbs.weights_tag(weights))
    return weights


@router.put("/{pk}", response=WeightsResponse, summary="Change weights")
def change_weights(
    request: ApiRequest,
    pk: Id,
    payload: WeightsUpdate,
    response: HttpResponse,
    if_match: IfMatch = None,
) -> Weights:
    """Change name, note or licence. Refused if another user has changed them since you read them."""
    weights = weights_for(request, pk, Verb.CHANGE)
    verb = partial(weights_verbs.update_weights, **payload.model_dump())
    return changed(weights, response, if_match=if_match, tag_of=weights_verbs.weights_tag, verb=verb)


@router.get("/{pk}/download", response={200: None}, summary="Download weights")
def download_weights(request: ApiRequest, pk: Id) -> StreamingHttpResponse:
    """The file: safetensors."""
    return _file(weights_for(request, pk, Verb.DOWNLOAD))


def _file(weights: Weights) -> StreamingHttpResponse:
    if not weights.path.is_file():
        raise not_found(_("The file no longer exists."))
    name = f"{file_stem(weights.name, 'weights')}-v{weights.version}.safetensors"
    return file_response(weights.path, name, weights.sha256)


@router.post("/{pk}/export", response={202: JobResponse}, summary="Export weights")
def export(request: ApiRequest, pk: Id, payload: WeightsExport) -> Status[Job]:
    """Have a worker pack the weights into a zip. When the job is done, its file is export.zip."""
    weights = weights_for(request, pk, Verb.DOWNLOAD, also=Verb.CREATE)
    options = ExportOptions(**payload.model_dump(exclude={"formats"}))
    by = request.caller.user
    return Status(202, weights_verbs.export_weights(weights, formats=payload.formats, options=options, by=by))


@router.delete("/{pk}", response=TrainingDeleteResponse, summary="Delete weights")
def remove_weights(request: ApiRequest, pk: Id) -> DeletionSize:
    """Remove one version and its file. Not while a run has yet to start from it."""
    return weights_verbs.delete_weights(weights_for(request, pk, Verb.DELETE))


def _check_architecture(about: WeightsUpload | WeightsCreate, pointer: str = "") -> None:
    if not is_known(about.task, about.architecture):
        detail = _("Unknown architecture for this task.")
        raise wrong_field(pointer, detail) if pointer else wrong_parameter("architecture", detail)


def _taken_in(
    request: ApiRequest, response: HttpResponse, path: Path, about: WeightsUpload | WeightsCreate
) -> Status[Weights]:
    """The new entry. A file that is refused is removed."""
    fields = about.model_dump(exclude={"format", "upload"})
    try:
        weights = weights_verbs.upload_weights(
            owner=request.caller.user, path=path, file_name=f"weights.{about.format}", **fields
        )
    except VerbError as error:
        raise Problem(422, str(error), kind="not-weights") from None
    finally:
        path.unlink(missing_ok=True)
    response.headers["Location"] = f"/api/v1/weights/{weights.pk}"
    return Status(201, weights)
