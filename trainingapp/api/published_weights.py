"""The published weights in the cache of the studio: list, fetch, import, delete."""

from pathlib import Path
from typing import Literal

from django.utils.translation import gettext as _
from ninja import Query, Router, Schema, Status
from pydantic import ConfigDict, Field

from trainingapp.accounts.permissions import Verb
from trainingapp.api.access import require
from trainingapp.api.callers import ApiRequest
from trainingapp.api.model_schemas import JobResponse
from trainingapp.api.paging import Page, Paging, Text
from trainingapp.api.problems import not_found, wrong_field
from trainingapp.api.schemas import TAKEN, TrainingDeleteResponse
from trainingapp.contract.limits import NAME_LENGTH, PATH_LENGTH, SEARCH_LENGTH
from trainingapp.datasets import uploads
from trainingapp.models import Job
from trainingapp.models.verbs import VerbError
from trainingapp.weights import published
from trainingapp.weights.published import Entry

router = Router(tags=["weights"])


class PublishedFilters(Paging):
    state: Literal["cached", "missing"] | None = Field(None, description="Only those in the cache, or not in it.")
    network: Text | None = Field(None, max_length=SEARCH_LENGTH, description="Only those of this network.")


class PublishedItem(Schema):
    """Published weights that networks can start from."""

    name: str = Field(description="By which they are fetched and deleted.")
    url: str
    data: str = Field(description="What they were trained on.")
    licence: str = Field(description="Empty where it is not known.")
    used_by: dict[str, list[str]] = Field(description="Networks by task, of those that are listed.")
    is_cached: bool
    size_bytes: int = Field(description="Of the file in the cache, or about that of a download; 0: not known.")
    sha256: str = Field(description="Only its beginning, or nothing, where the file was not verified here.")

    @staticmethod
    def resolve_url(entry: Entry) -> str:
        return entry.published.url

    @staticmethod
    def resolve_data(entry: Entry) -> str:
        return entry.published.data

    @staticmethod
    def resolve_licence(entry: Entry) -> str:
        return entry.published.licence

    @staticmethod
    def resolve_size_bytes(entry: Entry) -> int:
        return entry.size_bytes or entry.expected_bytes


class PublishedList(Page):
    items: list[PublishedItem]


class PublishedFetch(Schema):
    """Which weights to download."""

    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"name": "resnet18-f37072fd.pth"}]})

    name: Text = Field(max_length=NAME_LENGTH)


class PublishedImport(Schema):
    """What to import: a complete upload, or a folder of the server."""

    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"folder": "/srv/weights"}]})

    upload: str | None = Field(None, min_length=32, max_length=32, description="Id of a complete upload.")
    file_name: Text = Field("weights.zip", max_length=NAME_LENGTH, description="The name of the uploaded file.")
    folder: Text | None = Field(None, max_length=PATH_LENGTH, description="A folder or a zip on the server.")


class PublishedName(Schema):
    name: Text = Field(max_length=NAME_LENGTH, description="Name of the weights.")


@router.get("/published", response=PublishedList, summary="List published weights")
def list_published(request: ApiRequest, filters: Query[PublishedFilters]) -> dict[str, object]:
    """The published weights that networks can start from, by name, and whether they are in the cache."""
    found = [
        one
        for one in published.entries()
        if (filters.state is None or one.is_cached == (filters.state == "cached"))
        and (filters.network is None or filters.network in one.networks)
    ]
    items = found[filters.skip : filters.skip + filters.limit]
    return {"items": items, "total": len(found), "skip": filters.skip, "limit": filters.limit}


@router.post("/published/fetch", response={202: JobResponse}, summary="Fetch published weights")
def fetch_published(request: ApiRequest, payload: PublishedFetch) -> Status[Job]:
    """Have a worker download weights into the cache, verified."""
    require(request, Verb.CREATE)
    _entry(payload.name)
    return Status(202, published.request_fetch(payload.name, by=request.caller.user))


@router.post("/published/import", response={202: JobResponse}, summary="Import published weights")
def import_published(request: ApiRequest, payload: PublishedImport) -> Status[Job]:
    """Have a worker import weights from an upload or a folder: for machines without network."""
    require(request, Verb.ADMINISTER)
    user = request.caller.user
    if payload.folder is not None and payload.upload is None:
        return Status(202, published.request_import(folder=Path(payload.folder), by=user))
    upload = uploads.find(user.pk, payload.upload or "")
    if payload.folder is not None or upload is None or not upload.is_complete:
        raise wrong_field("#/upload", _("There is no complete upload with this id."))
    path = uploads.used(upload)
    try:
        return Status(202, published.request_import([(payload.file_name, path)], by=user))
    finally:
        path.unlink(missing_ok=True)


@router.delete("/published", response=TrainingDeleteResponse, summary="Delete published weights")
def delete_published(request: ApiRequest, wanted: Query[PublishedName]) -> dict[str, int]:
    """Remove weights from the cache."""
    require(request, Verb.ADMINISTER)
    _entry(wanted.name)
    return {"bytes": published.delete_published(wanted.name, by=request.caller.user), "files": 1}


def _entry(name: str) -> Entry:
    try:
        return published.entry(name)
    except VerbError as error:
        raise not_found(str(error)) from None
