"""What a caller may see and do. All of the API asks here; the two functions in the middle are the one switch."""

from typing import Any, Literal, TypeVar

from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _

from trainingapp.api.callers import ApiRequest
from trainingapp.api.problems import Problem, not_found
from trainingapp.models import Dataset, Job, TrainingRun, Weights
from trainingapp.permissions import can_control

M = TypeVar("M", bound=Model)
Verb = Literal["see", "control", "delete"]


def visible(request: ApiRequest, rows: QuerySet[M]) -> QuerySet[M]:
    """Those of the rows that the caller may see."""
    user = request.caller.user
    return rows.filter(owner=user) if rows.model is Job and not user.is_staff else rows


def may(request: ApiRequest, verb: Verb, item: Any) -> bool:
    """Whether the caller may do this with a thing that they see."""
    return verb == "see" or can_control(request.caller.user, item)


def require(request: ApiRequest, verb: Verb, item: Any) -> None:
    """Raises Problem where the caller may not."""
    if not may(request, verb, item):
        raise Problem(403, _("Only its owner and administrators may do this."))


def found(request: ApiRequest, rows: QuerySet[M], verb: Verb = "see", **by: Any) -> M:
    """The one row that the caller sees and may do this with. Raises Problem."""
    item = visible(request, rows).filter(**by).first()
    if item is None:
        raise not_found()
    require(request, verb, item)
    return item


def run_for(request: ApiRequest, pk: int, verb: Verb = "see") -> TrainingRun:
    return found(request, TrainingRun.objects.select_related("dataset", "owner"), verb, pk=pk)


def dataset_for(request: ApiRequest, pk: int, verb: Verb = "see") -> Dataset:
    return found(request, Dataset.objects.select_related("owner"), verb, pk=pk)


def weights_for(request: ApiRequest, pk: int, verb: Verb = "see") -> Weights:
    return found(request, Weights.objects.select_related("owner"), verb, pk=pk)
