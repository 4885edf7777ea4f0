"""Request bodies that are a file: read in chunks, never as a whole."""

from django.utils.translation import gettext as _

from trainingapp.api.callers import ApiRequest
from trainingapp.api.problems import Problem

BINARY_TYPES = ("application/zip", "application/x-tar", "application/gzip", "application/octet-stream")
BINARY_BODY: dict[str, object] = {
    "requestBody": {
        "required": True,
        "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in BINARY_TYPES},
    }
}


def check_binary(request: ApiRequest) -> None:
    """Raises Problem for a body of another type, such as a form."""
    if request.content_type not in BINARY_TYPES:
        raise Problem(415, _("Send the file itself, as %(types)s.") % {"types": " or ".join(BINARY_TYPES)})
