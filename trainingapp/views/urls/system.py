"""Addresses of the search, the health checks, the disk, the audit trail and the downtime journal."""

from django.urls import URLPattern, path

from trainingapp.views import api_docs, audit_trail, disk, journal, search, system

urlpatterns: list[URLPattern] = [
    path("search/", search.search_page, name="search"),
    path("disk/", disk.disk, name="disk"),
    path("audit/", audit_trail.audit_page, name="audit"),
    path("audit.csv", audit_trail.audit_csv, name="audit_csv"),
    path("healthz", system.health, name="health"),
    path("journal/", journal.journal, name="journal"),
    path("journal/seen/", journal.journal_seen, name="journal_seen"),
    path("readyz", system.ready, name="ready"),
    path("api/v1/docs", api_docs.api_docs, name="api_docs"),
]
