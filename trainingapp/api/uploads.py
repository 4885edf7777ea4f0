"""Uploads in parts: start, add a part, show the progress, cancel."""

import re
from typing import Annotated

from django.utils.translation import gettext as _
from ninja import Header, Path, Router, Status

from trainingapp.accounts.permissions import Verb
from trainingapp.api.access import require
from trainingapp.api.callers import ApiRequest
from trainingapp.api.model_schemas import UploadCreate, UploadResponse
from trainingapp.api.paging import Text
from trainingapp.api.problems import Problem, not_found, wrong_parameter
from trainingapp.api.raw_bodies import BINARY_BODY, check_binary
from trainingapp.api.schemas import TrainingDeleteResponse
from trainingapp.datasets import uploads
from trainingapp.datasets.uploads import Upload

router = Router(tags=["datasets"])

ABOUT_RANGE = "bytes FIRST-LAST/SIZE, counted from 0; FIRST is `received`."
RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


@router.post("/", response={201: UploadResponse}, summary="Begin an upload")
def begin_upload(request: ApiRequest, payload: UploadCreate) -> Status[Upload]:
    """Start an upload in parts, for large files or unreliable connections. It is kept for a day after its last part."""
    require(request, Verb.CREATE)
    try:
        return Status(201, uploads.begin(request.caller.user.pk, payload.size))
    except uploads.TooLargeError as error:
        raise Problem(413, str(error)) from None


@router.get("/{upload_id}", response=UploadResponse, summary="Show an upload")
def show_upload(request: ApiRequest, upload_id: Path[Text]) -> Upload:
    """The progress of an upload. After a lost connection, continue from byte `received`."""
    return _upload(request, upload_id)


@router.put("/{upload_id}", response=UploadResponse, summary="Send a part", openapi_extra=BINARY_BODY)
def send_part(
    request: ApiRequest,
    upload_id: Path[Text],
    content_range: Annotated[str, Header(alias="Content-Range", description=ABOUT_RANGE)],
) -> Upload:
    """Send the next bytes. A part that does not start at byte `received` is refused with 409."""
    upload = _upload(request, upload_id)
    check_binary(request)
    match = RANGE.fullmatch(content_range)
    if match is None:
        raise wrong_parameter("Content-Range", _("Send it as: bytes FIRST-LAST/SIZE"))
    first, last, total = map(int, match.groups())
    if total != upload.size or last < first:
        message = _("The upload has a total size of %(size)d bytes.")
        raise wrong_parameter("Content-Range", message % {"size": upload.size})
    try:
        return uploads.append(upload, request, first, last - first + 1)
    except uploads.WrongPlaceError as error:
        raise Problem(409, str(error), kind="wrong-place") from None
    except uploads.UploadError as error:
        raise Problem(422, str(error)) from None


@router.delete("/{upload_id}", response=TrainingDeleteResponse, summary="Cancel an upload")
def delete_upload(request: ApiRequest, upload_id: Path[Text]) -> dict[str, int]:
    """Delete the bytes received."""
    upload = _upload(request, upload_id)
    freed = upload.received
    upload.path.unlink(missing_ok=True)
    return {"bytes": freed, "files": 1}


def _upload(request: ApiRequest, upload_id: str) -> Upload:
    upload = uploads.find(request.caller.user.pk, upload_id)
    if upload is None:
        raise not_found(_("You have no upload with this id."))
    return upload
