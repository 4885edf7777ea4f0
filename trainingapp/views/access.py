"""Fetching the object of a view, with the permission that the view requires.

An object that the user may not see is not found; an action that they may not take is forbidden, with a message.
"""

from typing import TypeVar

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django.utils.http import url_has_allowed_host_and_scheme

from trainingapp.accounts.permissions import Object, Verb, can, refusal, visible_to
from trainingapp.accounts.users import AnyUser
from trainingapp.models import Checkpoint, Dataset, Sweep, TrainingRun, Weights
from trainingapp.models.verbs import task_problem

M = TypeVar("M", bound=Model)


def visible(request: HttpRequest, rows: QuerySet[M], **lookup: object) -> M:
    """The row of `rows` that the user may see. Raises Http404."""
    return get_object_or_404(visible_to(request.user, rows), **lookup)


def require(request: HttpRequest, verb: Verb, item: Object | None = None) -> None:
    """Raises PermissionDenied when the user may not do this (to `item`)."""
    if not can(request.user, verb, item):
        raise PermissionDenied(refusal(verb))


def visible_run(request: HttpRequest, pk: int) -> TrainingRun:
    """A run that the user may see. Raises Http404."""
    return visible(request, TrainingRun.objects.select_related("dataset", "owner"), pk=pk)


def controlled_run(request: HttpRequest, pk: int, verb: Verb = Verb.CONTROL) -> TrainingRun:
    """A run that the user may do this to. Raises Http404 or PermissionDenied."""
    run = visible_run(request, pk)
    require(request, verb, run)
    return run


def is_local(request: HttpRequest, address: str) -> bool:
    """Whether an address from a form or a query leads to a page of this studio."""
    return url_has_allowed_host_and_scheme(address, {request.get_host()}, require_https=request.is_secure())


def explain_missing_task(request: HttpRequest, task: str) -> bool:
    """Whether a task is not installed; the reason is then shown on the next page."""
    problem = task_problem(task)
    if problem:
        messages.error(request, problem)
    return bool(problem)


def visible_dataset(request: HttpRequest, pk: int, **lookup: object) -> Dataset:
    """A dataset that the user may see. Raises Http404."""
    return visible(request, Dataset.objects.select_related("owner", "job"), pk=pk, **lookup)


def controlled_dataset(request: HttpRequest, pk: int, verb: Verb = Verb.CONTROL) -> Dataset:
    """A dataset that the user may do this to. Raises Http404 or PermissionDenied."""
    dataset = visible_dataset(request, pk)
    require(request, verb, dataset)
    return dataset


def weights_seen_by(user: AnyUser) -> QuerySet[Weights]:
    """The models that the user may see."""
    return visible_to(user, Weights.objects.all())


def visible_weights(request: HttpRequest, pk: int, verb: Verb = Verb.SEE) -> Weights:
    """A model that the user may see (and so try and export). Raises Http404 or PermissionDenied."""
    rows = Weights.objects.select_related("owner", "run", "dataset", "parent", "job", "team")
    weights = visible(request, rows, pk=pk)
    require(request, verb, weights)
    return weights


def visible_sweep(request: HttpRequest, pk: int, verb: Verb = Verb.SEE) -> Sweep:
    """A sweep that the user may do this to. Raises Http404 or PermissionDenied."""
    sweep = visible(request, Sweep.objects.select_related("owner", "dataset", "team"), pk=pk)
    require(request, verb, sweep)
    return sweep


def visible_checkpoint(request: HttpRequest, pk: int, file: str) -> Checkpoint:
    """A checkpoint of a run that the user may look at. Raises Http404 or PermissionDenied."""
    checkpoint = visible(request, Checkpoint.objects.select_related("run"), run_id=pk, file=file)
    require(request, Verb.DOWNLOAD, checkpoint)
    return checkpoint
