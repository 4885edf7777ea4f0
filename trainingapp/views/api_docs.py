"""The page that describes the API and lets one try it, with the browser's own login."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe


@require_safe
def api_docs(request: HttpRequest) -> HttpResponse:
    """Swagger UI, which django-ninja brings along, over the OpenAPI document."""
    return render(request, "account/api_docs.html")
