"""The audit trail as a page and as a CSV file: filters, pages, escaped formulas."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from trainingapp.models import AuditEntry

pytestmark = pytest.mark.database

PAGE = "/audit/"


@pytest.fixture(autouse=True)
def entries(admin: User, staff_client: Client) -> None:
    AuditEntry.objects.all().delete()
    old = timezone.now() - timedelta(days=40)
    rows: list[dict[str, Any]] = [
        {"username": "ada", "verb": "start", "kind": "run", "object_id": "7", "object_name": "birds", "source": "page"},
        {
            "username": "grace",
            "verb": "delete",
            "kind": "run",
            "object_id": "8",
            "object_name": "cats",
            "source": "api",
        },
        {
            "username": "ada",
            "verb": "import",
            "kind": "dataset",
            "object_id": "7",
            "object_name": "=1+1",
            "source": "page",
        },
        {"username": "ada", "verb": "sign_in", "source": "page", "time": old, "address": "2001:db8::1"},
    ]
    AuditEntry.objects.bulk_create(AuditEntry(**row) for row in rows)


@pytest.mark.parametrize(
    ("query", "verbs"),
    [
        ({}, {"start", "delete", "import", "sign_in"}),
        ({"user": "AD"}, {"start", "import", "sign_in"}),
        ({"verb": "delete"}, {"delete"}),
        ({"source": "api"}, {"delete"}),
        ({"thing": "bird"}, {"start"}),
        ({"thing": "run 7"}, {"start"}),
        ({"thing": "dataset 7"}, {"import"}),
        ({"since": (timezone.now() - timedelta(days=2)).date().isoformat()}, {"start", "delete", "import"}),
        ({"until": (timezone.now() - timedelta(days=2)).date().isoformat()}, {"sign_in"}),
        ({"user": "ada", "source": "page", "verb": "start"}, {"start"}),
        ({"user": "nobody"}, set()),
    ],
)
def test_filters(staff_client: Client, query: dict[str, str], verbs: set[str]) -> None:
    response = staff_client.get(PAGE, query)
    assert response.status_code == 200
    assert {entry.verb for entry in response.context["page"]} == verbs
    table = list(csv.DictReader(io.StringIO(staff_client.get("/audit.csv", query).content.decode())))
    assert {row["verb"] for row in table} == verbs


@pytest.mark.parametrize("query", [{"verb": "explode"}, {"source": "window"}, {"since": "yesterday"}])
def test_an_invalid_filter_is_reported(staff_client: Client, query: dict[str, str]) -> None:
    response = staff_client.get(PAGE, query)
    assert response.status_code == 422
    assert "invalid-feedback" in response.content.decode()
    assert not list(response.context["page"])


def test_entries_are_paginated(staff_client: Client) -> None:
    AuditEntry.objects.bulk_create(AuditEntry(verb="start", username="ada", source="page") for _number in range(150))
    first = staff_client.get(PAGE, {"user": "ada"})
    assert len(first.context["page"]) == 100
    assert "page=2" in first.content.decode()
    assert "user=ada" in first.content.decode()
    assert len(staff_client.get(PAGE, {"user": "ada", "page": "2"}).context["page"]) == 53


def test_the_csv_file_contains_no_formula(staff_client: Client) -> None:
    text = staff_client.get("/audit.csv", {"verb": "import"}).content.decode()
    assert ",'=1+1," in text


def test_an_entry_links_to_its_object(staff_client: Client) -> None:
    assert f'href="{reverse("run_detail", args=[7])}"' in staff_client.get(PAGE).content.decode()


def test_an_empty_trail_explains_itself(staff_client: Client) -> None:
    AuditEntry.objects.all().delete()
    assert "No entries" in staff_client.get(PAGE).content.decode()


def test_details_are_shown_with_labels(staff_client: Client) -> None:
    AuditEntry.objects.create(verb="import", source="page", details={"upload": True, "scopes": ["read", "delete"]})
    AuditEntry.objects.create(verb="delete", source="page", details={"bytes": 3 * 1024**2})
    html = " ".join(staff_client.get(PAGE).content.decode().split())
    assert "scopes: read, delete, uploaded: yes" in html
    assert "freed: 3.0 MB" in html
