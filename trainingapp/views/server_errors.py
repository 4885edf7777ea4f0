"""The page for an exception."""

import sys

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views.decorators.csrf import requires_csrf_token

from trainingapp.operations.doctor import database_trouble


@requires_csrf_token
def server_error(request: HttpRequest) -> HttpResponse:
    """A database that does not answer, or takes nothing, is no mistake of the studio, and passes."""
    if isinstance(sys.exc_info()[1], OperationalError):
        page = render_to_string("503.html", {"problem": database_trouble()})
        return HttpResponse(page, status=503, headers={"Retry-After": "10"})
    return HttpResponse(render_to_string("500.html"), status=500)
