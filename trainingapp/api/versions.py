"""Optimistic locking with ETag and If-Match: a change names the version that it was read as."""

import re
from collections.abc import Callable
from typing import Annotated, TypeVar

from django.http import HttpResponse
from django.utils.translation import gettext as _
from ninja import Header

from trainingapp.api.problems import Problem, wrong_parameter
from trainingapp.models.verbs import VersionError

T = TypeVar("T")

IfMatch = Annotated[str | None, Header(alias="If-Match", description="The ETag that you read it with, or *.")]


def etag(tag: str) -> str:
    return f'"{tag}"'


def changed(
    item: T, response: HttpResponse, *, if_match: str | None, tag_of: Callable[[T], str], verb: Callable[..., T]
) -> T:
    """The object after `verb` has changed it; the response gets its new ETag.

    Raises Problem where If-Match is missing (428), or is not the present tag of the object (412).
    """
    try:
        verb(item, tag=_expected(if_match))
    except VersionError as error:
        raise Problem(412, str(error), headers={"ETag": etag(tag_of(item))}) from None
    response.headers["ETag"] = etag(tag_of(item))
    return item


def _expected(if_match: str | None) -> str | None:
    """The tag that the object must have; None for any."""
    if if_match is None:
        raise Problem(428, _("Send If-Match with the ETag that you read it with."))
    if if_match.strip() == "*":
        return None
    found = re.fullmatch(r'(?:W/)?"([^"]+)"', if_match.strip())
    if found is None:
        raise wrong_parameter("If-Match", _("This is not an ETag: an ETag is enclosed in quotation marks."), 412)
    return found[1]
