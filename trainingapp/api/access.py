"""Fetches the object of an operation and checks the permission that it requires. Every operation uses it."""

from typing import TypeVar

from django.db.models import QuerySet

from trainingapp.accounts.permissions import Object, Verb, can, refusal, visible_to
from trainingapp.api.callers import ApiRequest
from trainingapp.api.model_schemas import AliasQuery
from trainingapp.api.problems import Problem, not_found
from trainingapp.models import Dataset, TrainingRun, Weights
from trainingapp.weights.aliases import by_alias

M = TypeVar("M", bound=Object)


def visible(request: ApiRequest, rows: QuerySet[M]) -> QuerySet[M]:
    """The rows that the caller may see."""
    return visible_to(request.caller.user, rows)


def require(request: ApiRequest, verb: Verb, item: Object | None = None) -> None:
    """Raises Problem where the caller may not do this (to `item`, which they see)."""
    if not can(request.caller.user, verb, item):
        raise Problem(403, refusal(verb))


def found(request: ApiRequest, rows: QuerySet[M], verb: Verb = Verb.SEE, *, pk: object) -> M:
    """The row that the caller sees and may do this to. Raises Problem: 404 if hidden, 403 if forbidden."""
    item = visible(request, rows).filter(pk=pk).first()
    if item is None:
        raise not_found()
    require(request, verb, item)
    return item


def run_for(request: ApiRequest, pk: int, verb: Verb = Verb.SEE) -> TrainingRun:
    return found(request, TrainingRun.objects.select_related("dataset", "owner", "team"), verb, pk=pk)


def dataset_for(request: ApiRequest, pk: int, verb: Verb = Verb.SEE) -> Dataset:
    return found(request, Dataset.objects.select_related("owner", "team"), verb, pk=pk)


def weights_for(request: ApiRequest, pk: int, verb: Verb = Verb.SEE, *, also: Verb | None = None) -> Weights:
    """`also` is a verb without an object, such as CREATE for an operation that starts a job."""
    weights = found(request, Weights.objects.select_related("owner", "team"), verb, pk=pk)
    if also is not None:
        require(request, also)
    return weights


def aliased(request: ApiRequest, wanted: AliasQuery, verb: Verb = Verb.SEE, *, also: Verb | None = None) -> Weights:
    """The version of a model that an alias stands for. Raises Problem: 404 where there is none that the caller sees."""
    rows = visible(request, Weights.objects.select_related("owner", "team"))
    weights = by_alias(rows, wanted.name, wanted.alias)
    if weights is None:
        raise not_found()
    require(request, verb, weights)
    if also is not None:
        require(request, also)
    return weights
