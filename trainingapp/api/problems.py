"""Refusals of the API: problem details (RFC 9457), in this one shape whatever went wrong.

`type` is "urn:cvstudio:problem:" and a word that stays; `detail` is a sentence for people, in their language; `errors`
names each wrong field of the body by a JSON pointer, or the parameter.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import cast

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.utils.translation import gettext as _
from ninja import NinjaAPI, Schema
from ninja.errors import HttpError, ValidationError
from pydantic import ConfigDict, Field
from pydantic import ValidationError as ConfigError
from pydantic_core import ErrorDetails

from trainingapp.models.verbs import VerbError
from trainingapp.operations.doctor import database_trouble
from trainingapp.presentation.validation_errors import error_text

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:cvstudio:problem:"


class FieldProblem(Schema):
    """One error: its place and its message."""

    detail: str = Field(description="What is wrong, for people.")
    pointer: str | None = Field(default=None, description="JSON pointer to the field of the body.")
    parameter: str | None = Field(default=None, description="Name of the query, path or header parameter.")


class ProblemDetails(Schema):
    """Why a request was refused (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:cvstudio:problem:unprocessable-content",
                    "title": "Unprocessable Content",
                    "status": 422,
                    "detail": "epochs: Must be at least 1.",
                    "errors": [{"detail": "Must be at least 1.", "pointer": "#/config/epochs", "parameter": None}],
                }
            ]
        }
    )

    type: str = Field(description="What kind of refusal it is: urn:cvstudio:problem: and a word.")
    title: str = Field(description="The kind in words.")
    status: int = Field(description="The status code.")
    detail: str = Field(description="What went wrong this time, for people.")
    errors: list[FieldProblem] = Field(default=[], description="Each wrong field or parameter.")


class Problem(Exception):
    """Refuse the request. `kind` is the last word of the type; without it, it follows from the status."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str = "",
        errors: Iterable[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind or _title(status).lower().replace(" ", "-").replace("'", "")
        self.errors = list(errors)
        self.headers = dict(headers or {})

    def response(self) -> HttpResponse:
        body = ProblemDetails(
            type=TYPE_PREFIX + self.kind,
            title=_title(self.status),
            status=self.status,
            detail=self.detail,
            errors=self.errors,
        )
        return HttpResponse(
            json.dumps(body.model_dump()), status=self.status, content_type=CONTENT_TYPE, headers=self.headers
        )


def _title(status: int) -> str:
    return "Unprocessable Content" if status == 422 else HTTPStatus(status).phrase


def wrong_parameter(name: str, detail: str, status: int = 422) -> Problem:
    return Problem(status, f"{name}: {detail}", errors=[FieldProblem(detail=detail, parameter=name)])


def wrong_parameters(names: Iterable[str], detail: str) -> Problem:
    return _unprocessable(FieldProblem(detail=detail, parameter=name) for name in names)


def wrong_field(pointer: str, detail: str, status: int = 422) -> Problem:
    """`pointer` is that of the field, such as #/name."""
    return Problem(status, f"{_name(pointer)}: {detail}", errors=[FieldProblem(detail=detail, pointer=pointer)])


def wrong_config(error: ConfigError, root: str = "#/config") -> Problem:
    """What is wrong with a configuration, each field by its pointer."""
    return _unprocessable(
        FieldProblem(detail=error_text(item), pointer="/".join([root, *map(_escaped, item["loc"])]))
        for item in error.errors()
    )


def _unprocessable(errors: Iterable[FieldProblem]) -> Problem:
    errors = list(errors)
    first = errors[0]
    detail = f"{first.parameter or _name(first.pointer or '#')}: {first.detail}"
    if len(errors) > 1:
        detail = _("%(first)s (and %(count)d more)") % {"first": detail, "count": len(errors) - 1}
    return Problem(422, detail, errors=errors)


def _name(pointer: str) -> str:
    return pointer.removeprefix("#/").replace("/", ".") if pointer != "#" else _("body")


def _escaped(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _field_problem(item: ErrorDetails) -> FieldProblem:
    source, *place = item["loc"]
    detail = error_text(item)
    if source != "body":
        return FieldProblem(detail=detail, parameter=".".join(map(str, place)))
    return FieldProblem(detail=detail, pointer="/".join(["#", *map(_escaped, place[1:])]))  # after the argument's name


def problem_of(error: Exception) -> Problem | None:
    """The problem for an exception; None for an internal error."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ValidationError):
        return _unprocessable(map(_field_problem, cast("list[ErrorDetails]", error.errors)))
    if isinstance(error, VerbError):
        return Problem(409, str(error), kind="not-possible")
    if isinstance(error, Http404):
        return not_found()
    if isinstance(error, PermissionDenied):
        return Problem(403, str(error) or _("You do not have permission to do this."))
    if isinstance(error, RequestDataTooBig):
        return Problem(413, _("The body is too large."))
    if isinstance(error, HttpError):
        cause = error.__cause__  # django-ninja reports only that a body cannot be parsed; its parser knows why
        if isinstance(cause, Problem):
            return cause
        return Problem(error.status_code, f"{error}: {cause}" if cause else str(error))
    if isinstance(error, OperationalError):
        return Problem(503, database_trouble() + " " + _("Try again in a moment."), headers={"Retry-After": "10"})
    if isinstance(error, SuspiciousOperation | UnreadablePostError | MultiPartParserError):
        return Problem(400, _("The request cannot be read."))
    return None


def not_found(detail: str = "") -> Problem:
    return Problem(404, detail or _("There is nothing here, or nothing that you may see."))


def failure(error: Exception) -> HttpResponse:
    """The answer to an exception; a mistake of ours is logged and shown as one."""
    problem = problem_of(error)
    if isinstance(error, OperationalError):
        logger.warning("The database refused a request: %s", error)
    if problem is None:
        logger.error("The API failed.", exc_info=error)
        problem = Problem(500, _("This is an error in CV Studio; the server log has the details."))
    return problem.response()


def _handle(request: HttpRequest, error: Exception | type[Exception]) -> HttpResponse:
    assert isinstance(error, Exception)  # django-ninja's annotation allows a class; it never passes one
    return failure(error)


def handle_all(api: NinjaAPI) -> None:
    """Have every exception of an operation answered by a problem."""
    for kind in (Exception, Http404, HttpError, ValidationError):
        api.add_exception_handler(kind, _handle)
