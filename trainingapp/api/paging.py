"""Paging of lists: skip and limit in the request, rows and their total in the response."""

from typing import Annotated, TypeVar

from django.db.models import Model, QuerySet
from ninja import Path, Schema
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

M = TypeVar("M", bound=Model)

MOST_ID = 2**63 - 1
MOST_SKIPPED = 1_000_000_000
MOST_ITEMS = 200


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("nul", "There is a NUL character in it")
    return text


#: Text in a query or a path. Databases take no NUL character.
Text = Annotated[str, AfterValidator(_without_nul)]
#: The number of an object, in the path.
Id = Annotated[int, Path(ge=1, le=MOST_ID, description="Its number.")]


class Paging(Schema):
    """Query parameters of every list."""

    skip: int = Field(0, ge=0, le=MOST_SKIPPED, description="Rows to skip.")
    limit: int = Field(50, ge=1, le=MOST_ITEMS, description="Maximum number of rows.")


class Page(Schema):
    """The frame of a list."""

    total: int = Field(description="Total number of rows, independent of skip and limit.")
    skip: int
    limit: int


def paged(rows: QuerySet[M], paging: Paging) -> dict[str, object]:
    """The requested rows with their total.

    The numbers of the rows are looked up first: skipped rows are then read from the index alone, without their columns.
    """
    numbers = list(rows.select_related(None).values_list("pk", flat=True)[paging.skip : paging.skip + paging.limit])
    found = {row.pk: row for row in rows.filter(pk__in=numbers).order_by()}
    items = [found[number] for number in numbers if number in found]
    return {"items": items, "total": rows.count(), "skip": paging.skip, "limit": paging.limit}
