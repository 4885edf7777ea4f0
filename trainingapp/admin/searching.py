"""Search in the admin's long lists: what is found is looked up once, and the page then asks for it by number.

Django puts the condition of a search into each query of a page: the count, the rows, and one for each month above them.
"""

from functools import reduce
from operator import and_, or_

from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils.text import smart_split, unescape_string_literal

from trainingapp.admin.base import StudioAdmin
from trainingapp.admin.filters import BoundedPaginator
from trainingapp.models import Dataset, TrainingRun

#: Rows found up to which a page asks for them by number: SQLite limits the number of parameters of a query.
MOST_BY_NUMBER = 500


class FoundOnceAdmin(StudioAdmin):
    """A list with a search whose rows are found by one query, which is the count too."""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Model], search_term: str
    ) -> tuple[QuerySet[Model], bool]:
        """The same rows as Django's own. A row that appears between the two queries is found the next time."""
        words = words_of(search_term)
        if not words:
            return queryset, False
        found = queryset.filter(reduce(and_, map(self.word_condition, words))).order_by()
        numbers = list(found.values_list("pk", flat=True)[: BoundedPaginator.most + 1])
        if len(numbers) <= BoundedPaginator.most:
            request.found_rows = len(numbers)  # type: ignore[attr-defined]
            if len(numbers) <= MOST_BY_NUMBER:
                return queryset.filter(pk__in=numbers), False
        return queryset.filter(reduce(and_, map(self.plain_condition, words))), False

    def get_paginator(
        self,
        request: HttpRequest,
        queryset: QuerySet[Model],
        per_page: int,
        orphans: int = 0,
        allow_empty_first_page: bool = True,
    ) -> Paginator[Model]:
        paginator = super().get_paginator(request, queryset, per_page, orphans, allow_empty_first_page)
        found: int | None = getattr(request, "found_rows", None)
        if found is not None:
            paginator.count = found  # a cached property, which would be counted otherwise
        return paginator

    def word_condition(self, word: str) -> Q:
        """What is true for the rows with the word in one of the columns, in the form that finds all of them fastest."""
        return self.plain_condition(word)

    def plain_condition(self, word: str) -> Q:
        """The same in the form that is fastest for the first of many rows in the order of an index."""
        return reduce(or_, (contains(str(name), word) for name in self.search_fields))


def words_of(text: str) -> list[str]:
    """The words of a search, and quoted texts as one word each; as Django splits them."""
    words = list(smart_split(text))
    quoted = [word[0] in "\"'" and word[0] == word[-1] and len(word) > 1 for word in words]
    return [unescape_string_literal(word) if is_quoted else word for word, is_quoted in zip(words, quoted, strict=True)]


def contains(name: str, text: str) -> Q:
    """Rows with the text in this column. Names of runs have a query of their own: a join reads all runs as a whole."""
    if name == "run__name":
        return Q(run__in=TrainingRun.objects.filter(name__icontains=text).order_by().values("pk"))
    return Q(**{f"{name}__icontains": text})


def runs_with(text: str) -> Q:
    """Runs with the text in name, dataset, owner, error or host: each part is read from an index, not from the runs."""
    runs = TrainingRun.objects.order_by()
    of_dataset = Dataset.objects.filter(name__icontains=text).order_by().values("pk")
    of_owner = User.objects.filter(username__icontains=text).order_by().values("pk")
    parts = (
        runs.filter(Q(name__icontains=text) | Q(dataset__in=of_dataset) | Q(owner__in=of_owner)),
        runs.exclude(error_message="").filter(error_message__icontains=text),
        runs.filter(host__icontains=text),
    )
    return reduce(or_, (Q(pk__in=part.values("pk")) for part in parts))
