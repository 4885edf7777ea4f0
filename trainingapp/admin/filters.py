"""Filters of the admin's lists that read no row to know what can be chosen."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Page, Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from trainingapp.models.text import stored_number
from trainingapp.presentation.text import Text

if TYPE_CHECKING:
    Rows: TypeAlias = QuerySet[Model]
    AnyAdmin: TypeAlias = admin.ModelAdmin[Model]
else:
    Rows = QuerySet
    AnyAdmin = admin.ModelAdmin


def known_values(column: str, label: Text, values: Iterable[str]) -> type[admin.SimpleListFilter]:
    """A filter of a column by the values that it is known to hold; Django's own looks for them in all rows.

    `values` are read at each request: a registry may gain some.
    """

    class KnownValuesFilter(admin.SimpleListFilter):
        title = label
        parameter_name = column

        def lookups(self, request: HttpRequest, model_admin: AnyAdmin) -> Sequence[tuple[str, str]]:
            return [(value, value) for value in values]

        def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
            value = self.value()
            return queryset.filter(**{column: value}) if value else queryset

    return KnownValuesFilter


class BoundedPaginator(Paginator[Any]):
    """Counts so many rows at most: to count millions takes seconds. Pages beyond are reached by filters.

    Of the rows before a page only the numbers are read, which an index has, not the columns and what they refer to.
    """

    most = 50_000

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        return rows.order_by()[: self.most].count() if isinstance(rows, QuerySet) else len(rows)

    def page(self, number: int | str) -> Page[Any]:
        page = super().page(number)
        rows = self.object_list
        if page.has_previous() and isinstance(rows, QuerySet):
            keys = rows.values_list("pk", flat=True)[page.start_index() - 1 : page.end_index()]
            page.object_list = rows.filter(pk__in=list(keys))
        return page


class RunFilter(admin.SimpleListFilter):
    """A filter by the number of a run, which is typed: a list of all runs has thousands of entries."""

    title = _("run")
    label = _("Number of the run")
    parameter_name = "run__id__exact"
    template = "admin/run_filter.html"

    def lookups(self, request: HttpRequest, model_admin: AnyAdmin) -> Sequence[tuple[str, str]]:
        return []

    def has_output(self) -> bool:
        return True

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        value = self.value()
        if not value:
            return queryset
        number = stored_number(value)
        return queryset.none() if number is None else queryset.filter(run_id=number)

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, object]]:  # type: ignore[override]  # its template is another
        """One entry: the present number, the parameters that stay, and the address without a run."""
        kept = {name: value for name, value in changelist.params.items() if name not in (self.parameter_name, "p")}
        yield {
            "value": self.value() or "",
            "name": self.parameter_name,
            "label": self.label,
            "kept": kept.items(),
            "without": changelist.get_query_string(remove=[self.parameter_name]),
        }


class BeforeFilter(RunFilter):
    """In the list of one run, the rows below a number that is typed: the pages before the newest ones."""

    title = _("number")
    label = _("Below this number")
    parameter_name = "before"

    def __init__(self, request: HttpRequest, params: dict[str, str], model: type[Model], model_admin: AnyAdmin) -> None:
        super().__init__(request, params, model, model_admin)
        self._has_run = bool(request.GET.get(RunFilter.parameter_name))

    def has_output(self) -> bool:
        return self._has_run

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        number = stored_number(self.value() or "")
        return queryset if number is None else queryset.filter(seq__lt=number)
