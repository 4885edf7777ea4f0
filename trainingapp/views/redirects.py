"""Redirects that htmx follows too."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django_htmx.http import HttpResponseClientRedirect


def leave_for(request: HttpRequest, page: str) -> HttpResponse:
    """Open another page. After an ordinary redirect htmx would put it into the element that it replaces."""
    return HttpResponseClientRedirect(page) if getattr(request, "htmx", None) else redirect(page)
