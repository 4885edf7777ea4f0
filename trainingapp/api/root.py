"""The API as a whole: its parts, and its addresses behind the gateway."""

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, path, re_path, resolve
from django.utils.translation import gettext as _
from ninja import NinjaAPI
from ninja.operation import Operation
from ninja.parser import Parser

from trainingapp.api import (
    comparisons,
    datasets,
    events,
    notifications,
    predictions,
    published_weights,
    records,
    sharing,
    sweeps,
    system,
    training,
    uploads,
    weights,
)
from trainingapp.api.callers import Session, Token
from trainingapp.api.gateway import guarded
from trainingapp.api.openapi import document, query_names
from trainingapp.api.problems import Problem, handle_all, not_found

ABOUT = """\
Everything that the pages of the studio do, for programs.

Send a personal token with each request, `Authorization: Bearer cvs_…`; create one on the page “API tokens”. Refusals
are problem details (RFC 9457).
"""


class StrictParser(Parser):
    """Accepts JSON only, without NaN and without text that a database cannot store."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        if request.content_type != "application/json":
            raise Problem(415, _("Send JSON, with Content-Type: application/json."))
        data: dict[str, Any] = json.loads(request.body, parse_constant=_refuse_constant)
        for text in _texts(data):
            if "\x00" in text:
                raise ValueError("a text holds a NUL character")
            text.encode()  # half of a surrogate pair raises ValueError
        return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _texts(value: object) -> Iterator[str]:
    """Every text in a value, without recursion: the sender decides how deep it is nested."""
    rest: list[object] = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            rest += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            rest += item


def unknown(request: HttpRequest) -> HttpResponse:
    """Any other address below /api/."""
    if resolve(request.path_info + "/").func is unknown:
        return not_found(_("This address does not exist.")).response()
    return not_found(
        _("This address does not exist. It ends in a slash: %(path)s/") % {"path": request.path}
    ).response()


unknown.login_required = False  # type: ignore[attr-defined]
unknown.csrf_exempt = True  # type: ignore[attr-defined]


class StudioAPI(NinjaAPI):
    def get_openapi_operation_id(self, operation: Operation) -> str:
        return operation.view_func.__name__


api = StudioAPI(
    title="CV Studio",
    version="1",
    description=ABOUT,
    openapi_url=None,
    docs_url=None,
    auth=[Token(), Session()],
    parser=StrictParser(),
    urls_namespace="api",
)
handle_all(api)
api.add_router("/training", comparisons.router)  # before {pk}, which would take its address
api.add_router("/training", training.router)
api.add_router("/training", records.router)
api.add_router("/training", events.router)
api.add_router("/datasets", datasets.router)
api.add_router("/uploads", uploads.router)
api.add_router("/weights", published_weights.router)  # before {pk}
api.add_router("/weights", weights.router)
api.add_router("/weights", predictions.router)
api.add_router("/sweeps", sweeps.router)
api.add_router("", sharing.router)
api.add_router("", system.router)
api.add_router("", notifications.router)


def _urls() -> list[URLPattern | URLResolver]:
    """The addresses below /api/, each behind the gateway."""
    operations, _app, _namespace = api.urls
    for pattern in operations:
        assert isinstance(pattern, URLPattern)
        address = "/api/v1/" + re.sub(r"<(\w+)>", r"{\1}", str(pattern.pattern))
        pattern.callback = guarded(pattern.callback, partial(query_names, api, address))
    return [
        path("v1/openapi.json", login_not_required(document(api)), name="openapi"),
        path("v1/", (operations, "ninja", "api")),
        re_path("", unknown, name="api_unknown"),
    ]


urlpatterns = _urls()
